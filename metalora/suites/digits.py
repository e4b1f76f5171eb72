"""The 1,797 handwritten digits of scikit-learn (8×8 grey), enlarged: in rotation, inversion and ink, or turned."""

import torch
from torch.nn.functional import interpolate

from metalora.suites.config import SuiteConfig
from metalora.suites.images import ImageSet, Progress
from metalora.suites.splits import SHARES, divide, transformed_suite
from metalora.suites.suite import Suite
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


def digits(config: SuiteConfig, seed: int, progress: Progress | None = None) -> Suite:
    """Build a suite of digits, which reads no file. White on black, 16 pixels unless another size is given."""
    try:
        from sklearn.datasets import load_digits  # slow to import, and needed here only
    except ModuleNotFoundError as error:
        raise InputError("The digits come with scikit-learn: pip install 'metalora[lab]'.") from error

    data = load_digits()
    size = config.pixels
    grey = torch.from_numpy(data.images).float()[:, None] / 16
    grey = interpolate(grey, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
    images = (255 * grey).round().to(torch.uint8).repeat(1, 3, 1, 1)
    decoded = ImageSet(images, tuple(f"digits/{number:04d}" for number in range(len(images))))
    labels = torch.from_numpy(data.target).long()
    parts = divide(labels, SHARES, seeded_generator(seed))
    assert config.tasks is not None
    return transformed_suite(decoded, labels, tuple(map(str, data.target_names)), parts, config.tasks, config, seed)
