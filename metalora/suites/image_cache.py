"""Decoded images in one file per source and size, so that a large archive is decoded once.

The file lies in the folder that METALORA_CACHE names ("~/.cache/metalora" where it does not; "" keeps nothing, nor does
a process without a home folder). It is read by memory mapping: processes that work on the same images share them.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL

from metalora.suites.archives import list_images
from metalora.suites.decoding import AS_DECLARED, Decoding
from metalora.suites.images import ImageSet, Progress, read_images
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors
from metalora.util.paths import expand

CACHE = "METALORA_CACHE"
DEFAULT = "~/.cache/metalora"
WORTH = 3.0  # seconds of decoding from which a file is worth keeping
LARGEST = 16 * 2**30  # bytes of all files together; those used least recently go first
VERSION = 2  # to be raised when `decode` gives other pixels


def decoded_images(
    source: Path,
    size: int,
    keep: Callable[[str], bool] | None = None,
    progress: Progress | None = None,
    *,
    decoding: Decoding = AS_DECLARED,
    encoding: str | None = None,
) -> ImageSet:
    """As `read_images`, from a file of images decoded before where there is one and the source is unchanged.

    Args:
        source: see `read_images`.
        size: see `read_images`.
        keep: which names; its repr tells it from others.
        progress: see `read_images`.
        decoding: see `read_images`.
        encoding: see `read_images`.

    Raises:
        InputError: see `read_images`.
    """
    folder, wanted = _folder(), keep or _all

    def read() -> ImageSet:
        return read_images(source, size, wanted, progress, decoding=decoding, encoding=encoding)

    if folder is None:
        return read()
    state = [size, repr(keep), repr(decoding), encoding]
    file = folder / f"pictures-{_fingerprint(source, wanted, state)}.safetensors"
    if (found := _read(file)) is not None:
        return found
    started = time.monotonic()
    found = read()
    if time.monotonic() - started > WORTH:
        _write(file, found)
    return found


def _folder() -> Path | None:
    """Return where files are kept; None: nowhere."""
    named = os.environ.get(CACHE)
    if named is not None:
        return expand(named) if named else None
    try:
        return expand(DEFAULT)
    except InputError:  # there is no home folder
        return None


def _all(name: str) -> bool:
    return True


def _fingerprint(source: Path, keep: Callable[[str], bool], state: list[Any]) -> str:
    """Tells the state of a source: of a folder every file's name, time and size, of an archive its own."""
    stats: list[Any] = [str(Path(source).absolute())]
    if Path(source).is_dir():
        listing = list_images(source, keep)
        files = [(name, file) for name, file in listing.entries if isinstance(file, Path)]
        stats += [listing.notes, [(name, *_stamp(file)) for name, file in files]]
    elif Path(source).exists():
        stats += _stamp(Path(source))
    return hashlib.sha256(json.dumps([VERSION, PIL.__version__, state, stats]).encode()).hexdigest()[:24]


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
    skipped, decoding = tuple(map(tuple, header["skipped"])), Decoding(**header["decoding"])
    return ImageSet(tensors["images"], tuple(header["names"]), skipped, tuple(header["notes"]), decoding)


def _write(file: Path, decoded: ImageSet) -> None:
    words = {"names": decoded.names, "skipped": decoded.skipped, "notes": decoded.notes}
    header = words | {"decoding": asdict(decoded.decoding)}
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
