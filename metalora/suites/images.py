"""Reading images: files of any size, mode and format → one uint8 tensor.

What cannot be read is named and counted, never fatal and never silent.
"""

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metalora.suites.archives import FORMATS, File, list_images
from metalora.suites.decoding import AS_DECLARED, Decoding
from metalora.suites.pixels import (
    Deep,
    common_range,
    fit,
    is_dicom,
    is_tiff,
    orientation,
    read_deep,
    read_dicom,
    read_tiff,
    to_bytes,
)
from metalora.util.errors import InputError
from metalora.util.quiet import ignore_warnings

MAX_PIXELS = 120_000_000
LARGE = 16_000_000  # pixels from which images are decoded one at a time, so that memory is bounded
READ_AHEAD = 64  # files that are in memory at once, waiting to be decoded
BYTES_AHEAD = 512 * 2**20  # of these together, from which on no more are read

Progress = Callable[[int, int | None], None]  # images read so far, and the total if known
_one_large = threading.Lock()


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Decoded images.

    Attributes:
        images: uint8 (N, 3, size, size).
        names: N paths in the source.
        skipped: (name, reason) of what could not be read.
        notes: Sentences on what was not read.
        decoding: How deep images became eight bits; new images have to be read alike.
    """

    images: Tensor
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    decoding: Decoding = AS_DECLARED

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: Sequence[int]) -> "ImageSet":
        """Return the images of some rows, which may repeat."""
        names = tuple(self.names[row] for row in rows)
        return replace(self, images=self.images[torch.tensor(rows, dtype=torch.int64)], names=names)


def decode(file: Path | IO[bytes], size: int, name: str = "The image", decoding: Decoding | None = None) -> Tensor:
    """Decode one image as uint8 RGB of shape (3, size, size): the centre square, resized.

    Rotated as its EXIF says, transparency laid on white, the first frame of an animation. Images of more than eight
    bits are scaled, see `Decoding`; without a range by their own values.

    Args:
        file: A file, or its path.
        size: Side of the result, in pixels.
        name: What the message calls it.
        decoding: How deep images and those of many channels are read.

    Raises:
        InputError: It is no image, or one of over 120 megapixels.
    """
    decoding = decoding or AS_DECLARED
    image = _decode(file, size, name, decoding)
    return to_bytes(image, decoding.value_range) if isinstance(image, Deep) else image


def _decode(file: Path | IO[bytes], size: int, name: str, decoding: Decoding) -> Tensor | Deep:
    try:
        if is_dicom(file):
            return read_dicom(file, size)
        with Image.open(file, formats=FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                pixels = f"{MAX_PIXELS // 10**6} megapixels ({opened.width}×{opened.height})"
                raise InputError(f"{name} has over {pixels}: make it smaller.")
            opened.draft(None, (4 * size, 4 * size))  # a large JPEG need not be decoded in full
            with _one_large if opened.width * opened.height > LARGE else contextlib.nullcontext():
                deep = read_deep(file, opened, size, decoding.bands)
                if deep is not None:
                    return deep
                image = fit(_to_rgb(opened), size, orientation(opened))
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} has over {MAX_PIXELS // 10**6} megapixels: make it smaller.") from error
    except Exception as error:  # Pillow's plugins raise whatever they like on broken files
        if isinstance(error, Image.UnidentifiedImageError) and is_tiff(file):  # of many channels, or deep ones
            return read_tiff(file, size, decoding.bands)
        raise InputError(
            f"{name} is broken or of an unknown format ({type(error).__name__}): save it again as PNG or JPEG."
        ) from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def read_images(
    source: Path,
    size: int,
    keep: Callable[[str], bool] = lambda name: True,
    progress: Progress | None = None,
    *,
    decoding: Decoding | None = None,
    encoding: str | None = None,
) -> ImageSet:
    """Decode every image of `source` whose name passes `keep`, in the order of their names.

    Args:
        source: a folder or an archive (tar, zip).
        size: side of the decoded squares, in pixels.
        keep: which names.
        progress: called after each image.
        decoding: see `decode_files`.
        encoding: of the names in a zip archive, see `zip_name`.

    Raises:
        InputError: the source is missing or damaged, or there is no image in it.
    """
    listing = list_images(source, keep, encoding)
    decoded = decode_files(listing.entries, size, listing.total, progress, decoding)
    decoded = replace(decoded, skipped=decoded.skipped + tuple(listing.skipped), notes=listing.notes)
    if not len(decoded):
        raise InputError(" ".join([f"{source} holds no image that can be used: {why_none(decoded)}", *listing.notes]))
    return decoded


def why_none(decoded: ImageSet) -> str:
    """Say why no image could be decoded: the most frequent reason, and one image that it is true of."""
    if not decoded.skipped:
        return "check the path."
    (reason, count), *_ = Counter(reason for _, reason in decoded.skipped).most_common(1)
    name = next(name for name, other in decoded.skipped if other == reason)
    others = f" (as {count - 1:,} more)" if count > 1 else ""
    return f"{name}{others}: {reason}"


def decode_files(
    entries: Iterable[tuple[str, File]],
    size: int,
    total: int | None = None,
    progress: Progress | None = None,
    decoding: Decoding | None = None,
) -> ImageSet:
    """Decode named files, in the order of their names; those that cannot be read are in `skipped`.

    Args:
        entries: Names and files.
        size: Side of the decoded squares, in pixels.
        total: Number of entries, where it is known.
        progress: Called after each image.
        decoding: How deep images are read; without a range they share the one of all together.
    """
    settings = decoding or AS_DECLARED

    def attempt(entry: tuple[str, File]) -> tuple[str, Tensor | Deep | str]:
        name, file = entry
        try:
            return name, str(file) if isinstance(file, InputError) else _decode(file, size, "The image", settings)
        except InputError as error:
            return name, str(error)

    results = []
    with ignore_warnings(), ThreadPoolExecutor() as pool:  # Pillow's remarks on odd metadata
        for result in _map_ahead(pool, attempt, entries):
            results.append(result)
            if progress is not None:
                progress(len(results), total)
    results.sort(key=lambda result: result[0])
    bad = tuple((name, reason) for name, reason in results if isinstance(reason, str))
    good = [(name, image) for name, image in results if not isinstance(image, str)]
    undeclared = [image for _, image in good if isinstance(image, Deep) and image.declared is None]
    if undeclared and settings.value_range is None:
        settings = replace(settings, value_range=common_range(undeclared))
    squares = [to_bytes(image, settings.value_range) if isinstance(image, Deep) else image for _, image in good]
    images = torch.stack(squares) if squares else torch.empty(0, 3, size, size, dtype=torch.uint8)
    return ImageSet(images, tuple(name for name, _ in good), bad, decoding=settings)


def _map_ahead(pool: ThreadPoolExecutor, function: Callable, items: Iterable[tuple[str, File]]) -> Iterator:
    # Executor.map would read every file of an archive into memory before the first is decoded.
    waiting: deque[tuple[Future, int]] = deque()
    for item in items:
        waiting.append((pool.submit(function, item), _size(item)))
        while len(waiting) >= READ_AHEAD or (waiting and sum(size for _, size in waiting) > BYTES_AHEAD):
            yield waiting.popleft()[0].result()
    while waiting:
        yield waiting.popleft()[0].result()


def _size(entry: tuple[str, File]) -> int:
    """Return the bytes in memory of a file that waits."""
    return entry[1].getbuffer().nbytes if isinstance(entry[1], BytesIO) else 0
