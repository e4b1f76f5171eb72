"""Labelled images that lie as SPLIT/CLASS/NAME, such as train/cat/0001.jpg and test/cat/0001.jpg."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metalora.suites.image_cache import decoded_images
from metalora.suites.images import ImageSet, Progress
from metalora.util.errors import InputError

HELD_OUT_PER_CLASS = 500  # the last of every class, by name: validation everywhere in this project


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """Labelled images of one split or several. Names are SPLIT/CLASS/NAME, in order."""

    images: ImageSet
    labels: Tensor  # int64 (N,)
    classes: tuple[str, ...]

    def split(self, split: str) -> Tensor:
        """Return indices of the images of one split, int64 (n,)."""
        inside = [name.startswith(f"{split}/") for name in self.images.names]
        return torch.tensor(inside).nonzero().flatten()


@dataclass(frozen=True)
class _Inside:
    """Whether a name lies as SPLIT/CLASS/NAME in one of these splits."""

    splits: tuple[str, ...]

    def __call__(self, name: str) -> bool:
        return self.unwrap(name) is not None

    def unwrap(self, name: str) -> str | None:
        """Return the name from the split on; None where it does not lie so."""
        parts = name.split("/")
        start = next((i for i in (0, 1) if parts[i : i + 1] and parts[i] in self.splits), len(parts))
        return "/".join(parts[start:]) if len(parts) >= start + 3 else None


def read_splits(source: Path, splits: tuple[str, ...], size: int, progress: Progress | None = None) -> ClassFolders:
    """Return the images SPLIT/CLASS/NAME of a folder or archive, where one more folder may lie around the splits.

    Raises:
        InputError: a split is missing, or has fewer than two classes.
    """
    inside = _Inside(splits)
    images = decoded_images(source, size, inside, progress)
    images = replace(images, names=tuple(inside.unwrap(name) or name for name in images.names))
    folders = [name.split("/")[1] for name in images.names]
    classes = tuple(sorted(set(folders)))
    number = {name: label for label, name in enumerate(classes)}
    found = ClassFolders(images, torch.tensor([number[name] for name in folders]), classes)
    for split in splits:
        if len(found.labels[found.split(split)].unique()) < 2:
            raise InputError(f"{source} has images of fewer than two classes under {split}/: add some.")
    return found


def read_split(source: Path, split: str, size: int) -> ClassFolders:
    """`read_splits` for one split."""
    return read_splits(source, (split,), size)


def held_out(labels: Tensor, per_class: int = HELD_OUT_PER_CLASS) -> Tensor:
    """Mask of the last `per_class` images of every class, which serve as validation. Shape (N,), bool."""
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        mask[(labels == label).nonzero().flatten()[-per_class:]] = True
    return mask
