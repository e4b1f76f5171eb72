"""Reading pictures: files of any size, mode and format that Pillow reads → one uint8 tensor.

A source is a folder or an archive (tar, zip) of class folders. What cannot be read is named and
counted, never fatal and never silent.
"""

import io
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from metalora.errors import InputError

MAX_PIXELS = 16_000_000
SUFFIXES = set(Image.registered_extensions())


@dataclass(frozen=True)
class ImageSet:
    """Decoded pictures. images: uint8 of shape (N, 3, size, size); names: N paths in the source."""

    images: Tensor
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason) of what could not be read

    def __len__(self) -> int:
        return len(self.names)


def decode(file: io.BytesIO | Path, size: int) -> Tensor:
    """One picture as uint8 RGB of shape (3, size, size): the centre square, resized.

    Rotated as its EXIF says, transparency laid on white, the first frame of an animation.

    Raises:
        InputError: it is no picture, or one of over 16 megapixels.
    """
    try:
        with warnings.catch_warnings(), Image.open(file) as picture:
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(f"has {picture.width}×{picture.height} pixels, over 16 megapixels: make it smaller")
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith(("I", "F")):  # 16 and 32 bit: stretch to the full range
                values = np.asarray(picture, dtype=np.float64)
                span = max(np.ptp(values), 1e-12)
                picture = Image.fromarray(np.uint8(255 * (values - values.min()) / span))
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except InputError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        raise InputError(f"is not a picture that can be read ({type(error).__name__})") from error
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def list_pictures(source: Path) -> Iterator[tuple[str, Callable[[], io.BytesIO | Path]]]:
    """Name (relative, with forward slashes) and opener of every picture file in a folder or archive.

    Raises:
        InputError: the source is missing or is neither a folder nor an archive.
    """
    source = Path(source)
    if source.is_dir():
        for path in source.rglob("*"):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path.relative_to(source).as_posix(), lambda path=path: path
    elif source.is_file() and tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile() and PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                    content = archive.extractfile(member).read()
                    yield str(PurePosixPath(member.name)), lambda content=content: io.BytesIO(content)
    elif source.is_file() and zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).suffix.lower() in SUFFIXES:
                    content = archive.read(name)
                    yield name, lambda content=content: io.BytesIO(content)
    elif source.exists():
        raise InputError(f"{source} is neither a folder nor a tar or zip archive of pictures.")
    else:
        raise InputError(f"There is no folder or archive {source}: check the path.")


def read_pictures(source: Path, size: int, keep: Callable[[str], bool] = lambda name: True) -> ImageSet:
    """Decode every picture of `source` whose name passes `keep`, in the order of their names.

    Args:
        size: side of the decoded squares, in pixels.

    Raises:
        InputError: there is no picture.
    """

    def attempt(entry: tuple[str, Callable]) -> tuple[str, Tensor | str]:
        name, opener = entry
        try:
            return name, decode(opener(), size)
        except InputError as error:
            return name, str(error)

    with ThreadPoolExecutor() as pool:
        entries = (entry for entry in list_pictures(source) if keep(entry[0]))
        results = sorted(pool.map(attempt, entries), key=lambda result: result[0])
    good = [(name, image) for name, image in results if isinstance(image, Tensor)]
    bad = tuple((name, reason) for name, reason in results if isinstance(reason, str))
    if not good:
        raise InputError(f"{source} holds no picture that can be read ({len(bad)} unreadable).")
    return ImageSet(torch.stack([image for _, image in good]), tuple(name for name, _ in good), bad)
