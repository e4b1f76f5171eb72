"""Images that are given directly: a tensor, images of Pillow, or files."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from metalora.models.adapted_model import AdaptedModel
from metalora.suites.archives import SUFFIXES
from metalora.suites.images import decode, read_images
from metalora.util.errors import InputError


@dataclass(frozen=True, eq=False)
class GivenImages:
    """N images of one task, with what embedding asks of `Examples`.

    Attributes:
        pixels: (N, …), as the model takes them.
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> "GivenImages":
        """Return the chosen rows."""
        return GivenImages(self.pixels[rows])

    @property
    def tasks(self) -> Tensor:
        """Zeros, (N)."""
        return torch.zeros(len(self), dtype=torch.int64)

    def images(self) -> Tensor:
        """Return the images."""
        return self.pixels

    def chunks(self, size: int) -> Iterator["GivenImages"]:
        """Return the rows in order, `size` at a time."""
        return (GivenImages(part) for part in self.pixels.split(size))


def given_images(model: AdaptedModel, images: Any) -> GivenImages:
    """Take images in one of the forms that `embed` lists.

    Files and images of Pillow become squares of the size that the backbone takes.

    Raises:
        InputError: there are none, they are in another form, or one cannot be read.
    """
    if isinstance(images, Tensor):
        return GivenImages(_checked(model, images))
    if isinstance(images, str | Path | Image.Image):
        images = [images]
    if not isinstance(images, Sequence) or not images:
        raise InputError(f"Images to embed are {_kind(images)}: give a tensor, or a list of Pillow images or paths.")
    size = model.backbone.image_size
    if size is None:
        raise InputError("The backbone is a module, whose image size is not known: give a tensor of what it takes.")
    return GivenImages(torch.cat([_squares(image, size) for image in images]).float() / 255)


def _squares(image: Any, size: int) -> Tensor:
    """Read an image, a file, or all of a folder or archive: uint8 (n, 3, size, size)."""
    if isinstance(image, Image.Image):
        file = io.BytesIO()
        image.save(file, "TIFF")  # which keeps every mode, so that all are read in one way
        file.seek(0)
        return decode(file, size)[None]
    if not isinstance(image, str | Path):
        raise InputError(f"An image to embed is {_kind(image)}: give a Pillow image or a path, or one tensor of all.")
    path = Path(image).expanduser()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return decode(path, size, str(path))[None]
    found = read_images(path, size)
    if found.skipped:
        name, reason = found.skipped[0]
        raise InputError(f"{path} has an image that cannot be used, {name} ({reason}): repair it, or leave it out.")
    return found.images


def _checked(model: AdaptedModel, images: Tensor) -> Tensor:
    if model.backbone.name is None:
        return images
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        return images  # which the backbone refuses
    low, high = (float(v) for v in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not (low >= -0.01 and high <= 1.01):  # a resize may go a little beyond
        raise InputError(f"Images to embed have values from {low:.3g} to {high:.3g}: scale them to [0, 1].")
    return images


def _kind(value: Any) -> str:
    return "empty" if isinstance(value, Sequence) and not value else f"of type {type(value).__name__}"
