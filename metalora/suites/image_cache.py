"""Decoded images in one file per source and size, so that a large archive is decoded once.

The file lies in the folder that METALORA_CACHE names ("~/.cache/metalora" where it does not; "" keeps nothing). It is
read by memory mapping: processes that work on the same images share them.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL

from metalora.suites.archives import list_images
from metalora.suites.images import ImageSet, Progress, read_images
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors

CACHE = "METALORA_CACHE"
DEFAULT = "~/.cache/metalora"
WORTH = 3.0  # seconds of decoding from which a file is worth keeping
LARGEST = 16 * 2**30  # bytes of all files together; those used least recently go first
VERSION = 1  # to be raised when `decode` gives other pixels


def decoded_images(
    source: Path, size: int, keep: Callable[[str], bool] | None = None, progress: Progress | None = None
) -> ImageSet:
    """As `read_images`, from a file of images decoded before where there is one and the source is unchanged.

    Args:
        keep: which names; its repr tells it from others.

    Raises:
        InputError: see `read_images`.
    """
    folder = os.environ.get(CACHE, DEFAULT)
    wanted = keep or _all
    if not folder:
        return read_images(source, size, wanted, progress)
    file = Path(folder).expanduser() / f"pictures-{_fingerprint(source, size, keep)}.safetensors"
    if (found := _read(file)) is not None:
        return found
    started = time.monotonic()
    found = read_images(source, size, wanted, progress)
    if time.monotonic() - started > WORTH:
        _write(file, found)
    return found


def _all(name: str) -> bool:
    return True


def _fingerprint(source: Path, size: int, keep: Callable[[str], bool] | None) -> str:
    """Tells the state of a source: of a folder every file's name, time and size, of an archive its own."""
    source = Path(source)
    files: list[Any] = [file for _, file in list_images(source, keep or _all)[1]] if source.is_dir() else [source]
    stats = [(str(file.absolute()), *_stamp(file)) for file in files if file.exists()]
    state = [VERSION, PIL.__version__, size, repr(keep), stats]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:24]


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _read(file: Path) -> ImageSet | None:
    if not file.exists():
        return None
    try:
        tensors, header = read_tensors(file)
        file.touch()
    except (InputError, OSError):  # torn, or taken away meanwhile: it is made again
        return None
    return ImageSet(tensors["images"], tuple(header["names"]), tuple(map(tuple, header["skipped"])))


def _write(file: Path, decoded: ImageSet) -> None:
    header = {"names": decoded.names, "skipped": decoded.skipped}
    try:
        write_tensors(file, {"images": decoded.images}, header)
        _make_room(file)
    except (InputError, OSError) as error:
        warnings.warn(f"The decoded images are not kept for the next time: {error}", stacklevel=3)


def _make_room(newest: Path) -> None:
    others = sorted(newest.parent.glob("pictures-*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in others:
        total += file.stat().st_size
        if total > LARGEST and file != newest:
            file.unlink(missing_ok=True)  # another process may have been faster
