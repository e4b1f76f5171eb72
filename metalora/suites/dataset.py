"""Any dataset of images and labels, such as torchvision's, as a suite."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize, to_dtype

from metalora.suites.config import SuiteConfig
from metalora.suites.folder_layout import Layout
from metalora.suites.images import ImageSet
from metalora.suites.labelled import labelled_suite
from metalora.suites.suite import Suite
from metalora.util.errors import InputError


def suite_from_dataset(
    dataset: Any,
    *,
    tasks: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    config: SuiteConfig | None = None,
    seed: int = 0,
) -> Suite:
    """Build a suite of a map-style dataset whose items are (image, label) or (image, task, label).

    For example `suite_from_dataset(torchvision.datasets.SVHN("data"))`, or `tasks=` with a name per item.

    Args:
        dataset: Has a length and items; images are PIL images or tensors (C, H, W), uint8 or floats in [0, 1].
        tasks: Task of each item, where the items do not say it; None: one task, shown through ten transforms.
        classes: Names of integer labels.
        groups: Name of each item's group, which stays in one split.
        config: Settings of the suite; images have 32 pixels unless it says another size.
        seed: Decides the splits.

    Raises:
        InputError: Items are of another form, lists differ in length, or see `labelled_suite`.
    """
    config = config or SuiteConfig("dataset")
    for name, values in (("tasks", tasks), ("groups", groups)):
        if values is not None and len(values) != len(dataset):
            raise InputError(f"There are {len(values)} {name} for {len(dataset)} items: give one for each.")
    items = [_item(dataset[i], i) for i in range(len(dataset))]
    if not items:
        raise InputError("The dataset is empty: give one with items.")
    images = torch.stack([_to_square(image, config.pixels, i) for i, (image, _, _) in enumerate(items)])
    names = tuple(f"{i:06d}" for i in range(len(items)))
    task_of = tuple(map(str, tasks)) if tasks is not None else tuple(task for _, task, _ in items)
    labels = tuple(str(label) if classes is None else classes[label] for _, _, label in items)
    layout = Layout(ImageSet(images, names), task_of, labels, None if groups is None else tuple(map(str, groups)))
    return labelled_suite(layout, config, seed)


def _item(item: Any, index: int) -> tuple[Any, str, Any]:
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        raise InputError(f"Item {index} of the dataset is no (image, label) or (image, task, label): change it.")
    image, *task, label = item
    return image, str(task[0]) if task else "", label.item() if isinstance(label, Tensor) else label


def _to_square(image: Any, size: int, index: int) -> Tensor:
    """Return uint8 RGB of shape (3, size, size): the centre square, resized."""
    if isinstance(image, Image.Image):
        image = pil_to_tensor(image.convert("RGB"))
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise InputError(f"Item {index} of the dataset has no image of 1 or 3 channels: give PIL images or tensors.")
    image = to_dtype(image, torch.uint8, scale=True).expand(3, -1, -1)
    return resize(center_crop(image, [min(image.shape[1:])] * 2), [size, size])
