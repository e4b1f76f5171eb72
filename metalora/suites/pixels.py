"""Values of images of any depth and number of channels, on the way to eight bits of red, green and blue.

Eight-bit images keep their values. Deeper ones are scaled by the largest value that the file declares, otherwise all
images of one source alike, from the lowest to the highest of their values but for a thousandth on either side.
"""

import io
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from metalora.suites.decoding import check_size
from metalora.util.errors import InputError

TAILS = 0.1, 99.9  # percentiles between which values are stretched
CONTAINER = {"u": {8: 255.0, 16: 65535.0, 32: 4294967295.0}, "i": {16: 32767.0, 32: 65535.0}}
NODATA, LARGEST_SAMPLE, BITS, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES = 42113, 281, 258, 262, 277, 338  # tags of TIFF files
ORIENTATION = 0x0112  # tag of EXIF


@dataclass(frozen=True, eq=False)
class Deep:
    """Values of an image that is deeper than eight bits.

    Attributes:
        values: float32 (3, size, size).
        declared: The largest value, where the file says it.
        container: The largest value that its numbers could have, for images of one value.
    """

    values: Tensor
    declared: float | None
    container: float


def to_bytes(image: Deep, value_range: tuple[float, float] | None) -> Tensor:
    """Return uint8 (3, size, size), black and white at the ends of the range, or of what the file declares."""
    low, high = (0.0, image.declared) if image.declared is not None else value_range or common_range([image])
    if high <= low:
        low, high = 0.0, image.container
    return (255 * (image.values - low) / (high - low)).round().clamp(0, 255).byte()


def common_range(images: Sequence[Deep]) -> tuple[float, float]:
    """Return the lowest and highest value of images that declare no largest value, without the tails."""
    values = np.concatenate([image.values.numpy().ravel() for image in images if image.declared is None])
    low, high = np.percentile(values, TAILS)
    return float(low), float(high)


def read_deep(file: Path | IO[bytes], opened: Image.Image, size: int, bands: tuple[int, ...]) -> Deep | None:
    """Return the values of an open image; None where eight bits of RGB hold them.

    Raises:
        InputError: It has other numbers of channels than 1, 3 or 4, and `bands` are not given or not there, or a
            package is missing.
    """
    if opened.format == "TIFF":
        tags: Mapping[int, Any] = opened.tag_v2  # type: ignore[attr-defined]
        samples, is_grey = _all(tags.get(SAMPLES, 1))[0], tags.get(PHOTOMETRIC) in (0, 1)
        if bands or samples > 4 or (samples > 2 and is_grey) or (samples > 1 and max(_all(tags.get(BITS, 8))) > 8):
            return read_tiff(file, size, bands)
        if opened.mode.startswith(("I", "F")):
            check_size(opened.width * opened.height, max(_all(tags.get(BITS, 8))))
            return _deep(np.asarray(opened), size, orientation(opened), _tiff_maximum(tags), _nodata(tags))
        return None
    if opened.format == "PNG" and opened.mode not in ("1", "P"):
        bits, significant = _png_bits(file)
        if bits == 16:
            check_size(opened.width * opened.height * len(opened.getbands()), bits)
            values, declared = _read_png(file, opened, significant)
            return _deep(values, size, orientation(opened), declared)
    if opened.mode.startswith(("I", "F")):
        check_size(opened.width * opened.height, 32)
        declared = 65535.0 if opened.format == "PPM" else None  # Pillow scales by what the file says
        return _deep(np.asarray(opened), size, orientation(opened), declared)
    return None


def orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF says, 1 to 8; 1 where the EXIF is malformed."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow's parser raises whatever it meets
        return 1
    return value if value in range(1, 9) else 1


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def fit(image: Image.Image, size: int, turned: int) -> Image.Image:
    """Turn an image as its EXIF says, and resize its centre square."""
    image = image.transpose(TURNS[turned]) if turned in TURNS else image
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def _deep(
    values: np.ndarray,
    size: int,
    turned: int = 1,
    declared: float | None = None,
    nodata: float | None = None,
) -> Deep:
    """Resize values (H, W) or (H, W, 1 or 3); those that are missing get the lowest of the others."""
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    valid = _valid(values, nodata)
    if not valid.any():
        raise InputError("It has no valid values: leave it out.")
    if not valid.all():
        values = np.where(valid, values, values[valid].min())
    channels = np.atleast_3d(values)
    planes = [
        np.asarray(fit(Image.fromarray(np.ascontiguousarray(channels[..., c], dtype=np.float32)), size, turned))
        for c in range(channels.shape[-1])
    ]
    container = CONTAINER.get(kind, {}).get(bits, max(1.0, float(values.max())))
    return Deep(torch.from_numpy(np.stack(planes)).expand(3, -1, -1).contiguous(), declared, container)


def _valid(values: np.ndarray, nodata: float | None) -> np.ndarray:
    """Return which values are not missing: not the declared one, finite, and no lone extreme such as -9999."""
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    if nodata is not None:
        valid &= ~np.isclose(values, nodata) if values.dtype.kind == "f" else values != nodata
    if values.dtype.kind not in "fi" or not valid.any():
        return valid
    for extreme in (np.min, np.max):
        kept = values if valid.all() else values[valid]
        value = float(extreme(kept))
        if 0 <= value < 1e6:
            continue
        others = kept[kept != value].astype(np.float64)
        # A marker is far from all measured values, which differ among themselves.
        if len(others) and others.max() > others.min():
            gap = np.abs(others - value).min()
            if gap > others.max() - others.min():
                valid &= values != values.dtype.type(value)
    return valid


def _png_bits(file: Path | IO[bytes]) -> tuple[int, int | None]:
    """Return the bits of a PNG's samples, and how many of them are significant where it says so."""
    head = _bytes(file, 4096)
    place, significant = 8, None
    while place + 8 <= len(head):
        length, kind = struct.unpack(">I4s", head[place : place + 8])
        if kind == b"sBIT":
            significant = max(head[place + 8 : place + 8 + length], default=None)
        if kind in (b"IDAT", b"PLTE"):
            break
        place += length + 12
    return head[24], significant


def _read_png(file: Path | IO[bytes], opened: Image.Image, significant: int | None) -> tuple[np.ndarray, float | None]:
    """Return the values of a PNG of 16 bits, transparency laid on white, and the largest value that it declares."""
    if opened.mode == "I;16":
        values = np.asarray(opened)
    elif "LA" in str(opened.tile):  # type: ignore[attr-defined]
        raise InputError("It is a PNG of 16-bit grey with transparency: save it without the transparency.")
    else:
        values = 256 * np.asarray(opened).astype(np.uint16) + _low_bytes(file)
    if values.ndim == 3 and values.shape[-1] == 4:
        alpha, values = values[..., -1:], values[..., :-1]
        if (alpha < 65535).any():
            share, white = alpha / np.float32(65535), np.float32(values.max())
            values = np.rint(white + (values - white) * share).astype(np.uint16)
    declared = None
    if significant is not None:  # the samples are scaled to 16 bits, or are left as they were measured
        declared = float(2**significant - 1) if values.max() < 2**significant else 65535.0
    return values, declared


def _low_bytes(file: Path | IO[bytes]) -> np.ndarray:
    """Return the lower bytes of a PNG of 16-bit colours, of which Pillow keeps the higher ones."""
    with Image.open(io.BytesIO(_bytes(file)), formats=("PNG",)) as again:
        (tile,) = again.tile
        # Read as if the lower byte came second, the lower one is kept.
        again.tile = [tile._replace(args=str(tile.args).replace("16B", "16L"))]
        return np.asarray(again)


def read_tiff(file: Path | IO[bytes], size: int, bands: tuple[int, ...]) -> Deep:
    """Return the values of a TIFF of any number of channels, or of the chosen ones.

    Raises:
        InputError: tifffile is missing, or the file has other channels.
    """
    if find_spec("tifffile") is None:
        raise InputError("It is a TIFF with deep or many channels: pip install tifffile.")
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(_bytes(file))) as tiff:
            page = tiff.pages[0]
            check_size(page.size, 8 * page.dtype.itemsize)  # type: ignore[union-attr]
            values, axes, tags = page.asarray(), page.axes, {tag.code: tag.value for tag in page.tags}  # type: ignore[union-attr]
    except InputError:
        raise
    except Exception as error:  # of the many decoders behind it
        raise InputError(f"It is a TIFF that cannot be read ({error}): save it again as PNG.") from error
    if axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    count = values.shape[-1] if values.ndim == 3 else 1
    values = values.reshape(*values.shape[:2], count)
    if bands:
        if max(bands) > count:
            raise InputError(f"It has {count} channels, bands asks for number {max(bands)}: name others.")
        values = values[..., [band - 1 for band in bands]]
    elif count == 4 and EXTRA_SAMPLES in tags:  # an alpha channel
        values = values[..., :3]
    elif count not in (1, 3):
        raise InputError(f"It has {count} channels: name three of them with bands, such as 4, 3 and 2.")
    turned = tags.get(274, 1)
    return _deep(values, size, turned if turned in TURNS else 1, _tiff_maximum(tags), _nodata(tags))


def _tiff_maximum(tags: Mapping[int, Any]) -> float | None:
    """Return the largest value that a TIFF declares: its own word, or fewer bits than a whole number of bytes."""
    declared = tags.get(LARGEST_SAMPLE)
    if declared is not None:
        return float(max(_all(declared)))
    bits = max(_all(tags.get(BITS, 8)))
    return float(2**bits - 1) if bits % 8 or bits == 8 else None


def _nodata(tags: Mapping[int, Any]) -> float | None:
    found = re.match(r"\s*(-?[\d.]+(?:e[-+]?\d+)?)", str(tags.get(NODATA, "")), re.IGNORECASE)
    return float(found[1]) if found else None


def _all(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list | np.ndarray) else (value,)


def read_dicom(file: Path | IO[bytes], size: int) -> Deep:
    """Return the values of a DICOM file's first frame, through its own window where it has one.

    Raises:
        InputError: It holds no image that pydicom can decode.
    """
    if find_spec("pydicom") is None:
        raise InputError("It is a DICOM file: pip install pydicom.")
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

    try:
        data = pydicom.dcmread(io.BytesIO(_bytes(file)))
        check_size(int(data.Rows) * int(data.Columns) * int(data.SamplesPerPixel), int(data.BitsAllocated))
        values = pixel_array(data, index=0)
        if int(data.get("SamplesPerPixel", 1)) == 1:
            values = apply_modality_lut(values, data)
            if "WindowCenter" in data or "VOILUTSequence" in data:
                values = apply_voi_lut(values, data)
        if data.get("PhotometricInterpretation") == "MONOCHROME1":  # its lowest value is white
            values = values.max() - values
    except InputError:
        raise
    except Exception as error:  # of the many decoders behind it
        raise InputError(f"It is a DICOM file that cannot be read ({error}): save it as PNG.") from error
    return _deep(np.asarray(values), size)


def is_dicom(file: Path | IO[bytes]) -> bool:
    """Whether a file says that it is DICOM."""
    return _bytes(file, 132)[128:] == b"DICM"


def is_tiff(file: Path | IO[bytes]) -> bool:
    """Whether a file says that it is a TIFF."""
    return _bytes(file, 4)[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _bytes(file: Path | IO[bytes], count: int = -1) -> bytes:
    """Return the first bytes of a file, and leave it where it stands."""
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return stream.read(count)
    place = file.tell()
    file.seek(0)
    data = file.read(count)
    file.seek(place)
    return data
