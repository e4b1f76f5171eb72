"""CIFAR-10 (Krizhevsky 2009) under transforms, compositions of three factors, corruptions, or other label rules.

Read from class folders (train/CLASS/NAME, test/CLASS/NAME; a folder or an archive) or from the
files of torchvision.
"""

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10
from torchvision.transforms.v2.functional import resize

from metalora.suites.class_folders import HELD_OUT_PER_CLASS, ClassFolders, held_out, read_splits
from metalora.suites.config import SuiteConfig
from metalora.suites.images import ImageSet, Progress
from metalora.suites.splits import ranks, transformed_suite
from metalora.suites.suite import Suite
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

GALLERY_PER_CLASS = 500
BATCHES = CIFAR10.base_folder  # the folder that torchvision unpacks
INSIDE = ("cifar10", "cifar10.tar.xz", "cifar10.tar.gz", "cifar10.tar", "cifar10.zip")
ORDER_NOTE = (
    "Read from the files of torchvision: validation is the last 500 training images of each class in their order, "
    "which the bundled backbones may have seen if they were trained on files in another order."
)


def cifar10(config: SuiteConfig, seed: int, progress: Progress | None = None) -> Suite:
    """Build a suite of CIFAR-10, of 32 pixels unless another size is given.

    Validation is the last 500 training images of each class, whatever the seed, as in pretraining;
    the gallery 500 more per class, drawn with the seed; queries are test images.

    Raises:
        InputError: the data is not there, or has too few images.
    """
    size = config.pixels
    source = find_cifar10(config.source)
    if source is None and not config.download:
        raise InputError(
            f"There is no CIFAR-10 in {config.source}: put cifar10.zip or cifar10.tar.xz with train/CLASS and "
            "test/CLASS there, or add --download (download=True)."
        )
    if source is None or source.name == BATCHES:
        found = _from_torchvision(source.parent if source else config.source, size, config.download)
        notes: tuple[str, ...] = (ORDER_NOTE,)
    else:
        found, notes = read_splits(source, ("train", "test"), size, progress), ()
    parts = _parts(found, config, seed)
    assert config.tasks is not None
    return transformed_suite(found.images, found.labels, found.classes, parts, config.tasks, config, seed, notes)


def find_cifar10(data: Path) -> Path | None:
    """Return where CIFAR-10 is in a folder, or the folder itself if it has train/; None: nowhere."""
    if data.is_file() or data.name == BATCHES or (data / "train").is_dir():
        return data if data.exists() else None
    places = [data / name for name in (BATCHES, *INSIDE)]
    wrapped = [data] if any(data.glob("*/train")) else []
    return next((place for place in [*places, *wrapped] if place.exists()), None)


def _from_torchvision(root: Path, size: int, download: bool) -> ClassFolders:
    images, names, labels = [], [], []
    for split in ("train", "test"):
        try:
            data = CIFAR10(root, train=split == "train", download=download)
        except (RuntimeError, OSError) as error:
            raise InputError(f"CIFAR-10 cannot be loaded from {root} ({error}): get it again.") from error
        images.append(torch.from_numpy(data.data).permute(0, 3, 1, 2))
        labels += data.targets
        names += [f"{split}/{data.classes[label]}/{number:05d}" for number, label in enumerate(data.targets)]
    pixels = torch.cat(images).contiguous()
    if size != pixels.shape[-1]:
        pixels = torch.cat([resize(chunk, [size, size]) for chunk in pixels.split(1000)])
    return ClassFolders(ImageSet(pixels, tuple(names)), torch.tensor(labels), tuple(data.classes))


def _parts(found: ClassFolders, config: SuiteConfig, seed: int) -> tuple[torch.Tensor, ...]:
    train, query = found.split("train"), found.split("test")
    labels = found.labels[train]
    fewest = int(labels.bincount(minlength=len(found.classes)).min())
    if fewest <= HELD_OUT_PER_CLASS + GALLERY_PER_CLASS:
        raise InputError(
            f"{config.source} has a class of {fewest} training images only: "
            f"over {HELD_OUT_PER_CLASS + GALLERY_PER_CLASS} in every class are needed."
        )
    held = held_out(labels, HELD_OUT_PER_CLASS)
    validation, rest = train[held], train[~held]
    in_gallery = ranks(found.labels[rest], seeded_generator(seed)) < GALLERY_PER_CLASS
    return rest[~in_gallery], validation, rest[in_gallery], query
