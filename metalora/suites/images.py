"""Reading images: files of any size, mode and format → one uint8 tensor.

What cannot be read is named and counted, never fatal and never silent.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from metalora.suites.archives import FORMATS, File, list_images
from metalora.util.errors import InputError

MAX_PIXELS = 16_000_000
READ_AHEAD = 64  # files that are in memory at once, waiting to be decoded

Progress = Callable[[int, int | None], None]  # images read so far, and in all where that is known


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded images. images: uint8 of shape (N, 3, size, size); names: N paths in the source."""

    images: Tensor
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (name, reason) of what could not be read

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: Sequence[int]) -> "ImageSet":
        """Return the images of some rows, which may repeat."""
        names = tuple(self.names[row] for row in rows)
        return replace(self, images=self.images[torch.tensor(rows)], names=names)


def decode(file: Path | IO[bytes], size: int, name: str = "The image") -> Tensor:
    """One image as uint8 RGB of shape (3, size, size): the centre square, resized.

    Rotated as its EXIF says, transparency laid on white, the first frame of an animation; 16-bit grey
    keeps its range, 32-bit values are stretched from their smallest to their largest.

    Args:
        name: what the message calls it.

    Raises:
        InputError: it is no image, or one of over 16 megapixels.
    """
    giant = f"{name} has over {MAX_PIXELS // 10**6} megapixels"
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(f"{giant} ({opened.width}×{opened.height}): make it smaller.")
            opened.draft(None, (4 * size, 4 * size))  # a large JPEG need not be decoded in full
            image = _to_rgb(ImageOps.exif_transpose(opened))
            image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{giant}: make it smaller.") from error
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        raise InputError(
            f"{name} is broken or of an unknown format ({type(error).__name__}): save it again as PNG or JPEG."
        ) from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bit(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = values.min(), values.max()
    if image.mode.startswith("I") and low >= 0 and high <= 65535:  # Pillow gives 16-bit PGM as "I"
        low, high = 0, 65535
    return Image.fromarray(np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8))


def read_images(
    source: Path, size: int, keep: Callable[[str], bool] = lambda name: True, progress: Progress | None = None
) -> ImageSet:
    """Decode every image of `source` whose name passes `keep`, in the order of their names.

    Args:
        source: a folder or an archive (tar, zip).
        size: side of the decoded squares, in pixels.
        progress: called after each image.

    Raises:
        InputError: the source is missing or damaged, or there is no image in it.
    """
    total, entries = list_images(source, keep)
    decoded = decode_files(entries, size, total, progress)
    if not len(decoded):
        unreadable = f" ({len(decoded.skipped)} unreadable)" if decoded.skipped else ""
        raise InputError(f"{source} holds no image that can be used{unreadable}: check the path.")
    return decoded


def decode_files(
    entries: Iterable[tuple[str, File]], size: int, total: int | None = None, progress: Progress | None = None
) -> ImageSet:
    """Decode named files, in the order of their names; those that cannot be read are in `skipped`.

    Args:
        entries: Names and files.
        size: Side of the decoded squares, in pixels.
        total: Number of entries, where it is known.
        progress: Called after each image.
    """

    def attempt(entry: tuple[str, File]) -> tuple[str, Tensor | str]:
        name, file = entry
        try:
            return name, str(file) if isinstance(file, InputError) else decode(file, size)
        except InputError as error:
            return name, str(error)

    results = []
    # Filters of warnings belong to the process, not to a thread: set here, never inside the pool.
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
        for result in _map_ahead(pool, attempt, entries):
            results.append(result)
            if progress is not None:
                progress(len(results), total)
    results.sort(key=lambda result: result[0])
    good = [(name, image) for name, image in results if isinstance(image, Tensor)]
    bad = tuple((name, reason) for name, reason in results if isinstance(reason, str))
    images = torch.stack([image for _, image in good]) if good else torch.empty(0, 3, size, size, dtype=torch.uint8)
    return ImageSet(images, tuple(name for name, _ in good), bad)


def _map_ahead(pool: ThreadPoolExecutor, function: Callable, items: Iterable) -> Iterator:
    # Executor.map would read every file of an archive into memory before the first is decoded.
    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= READ_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
