"""Where image files lie: a folder, a tar archive (plain or compressed) or a zip archive.

Archives are read without unpacking: a member's name is a label, never a path that is opened. A member that is
no harmless file (a link, a name that leaves the archive, a lock, a giant) is named with its reason. What strangers send
is held to `Limits` by `check_archive` before anything in it is read.
"""

import hashlib
import io
import json
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from metalora.util.errors import InputError

# Pillow opens more (PostScript runs a program, HDF5 and PDF hold no image that it can decode): these only.
_WANTED = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF")
_SUFFIXES = Image.registered_extensions()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
SUFFIXES = frozenset(suffix for suffix, name in _SUFFIXES.items() if name in FORMATS)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")

MAX_MEMBER = 256 * 2**20  # bytes of an image in any archive: 16 megapixels of 16-bit RGBA take half
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a bound on memory
LINK = "It is a link: put the image itself there."
OUTSIDE = "Its name leads out of the archive: pack it again from inside its folder."
LOCKED = "It is locked with a password: pack it again without one."
METHOD = "It is packed by an unusual method: pack it again as an ordinary zip."
DAMAGED = "It is damaged: pack it again."
GIANT = f"It is larger than {MAX_MEMBER // 2**20} MB: make it smaller."

File = Path | io.BytesIO | InputError  # an error: what is wrong with the member
Entries = tuple[int | None, Iterator[tuple[str, File]]]


@dataclass(frozen=True)
class Limits:
    """What a zip archive from strangers may hold."""

    entries: int = 20_000  # files and folders of any kind
    member: int = 32 * 2**20  # bytes of one image, unpacked
    total: int = 2**30  # bytes of all images, unpacked
    ratio: int = 100  # unpacked to packed, where it unpacks to over RATIO_FROM


RATIO_FROM = 10 * 2**20  # bytes: small plain bitmaps shrink a lot and harm nobody


def check_archive(source: Path, limits: Limits | None = None) -> list[str]:
    """Refuse a zip archive that is not fit to be read, from its directory alone; the names of its images.

    The sizes that it declares bound what is read later: a member never gives more, whatever it holds.

    Raises:
        InputError: it is no zip archive, is locked, holds no image, or goes beyond `limits`.
    """
    limits = limits or Limits()
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(
            "This is not a whole zip archive: pack the folder of images as zip and send it again."
        ) from error
    if len(entries) > limits.entries:
        raise InputError(f"The archive has {len(entries):,} entries: send {limits.entries:,} at most.")
    images = [info for info in entries if not info.is_dir() and _is_image(_zip_name(info))]
    if not images:
        inner = next((info.filename for info in entries if info.filename.lower().endswith(ARCHIVES)), None)
        advice = f"unpack {inner} and pack its folders" if inner else "pack class folders of PNG or JPEG files"
        raise InputError(f"The archive holds no images: {advice}.")
    if any(info.flag_bits & 1 for info in images):
        raise InputError("The archive is locked with a password: pack it again without one.")
    largest = max(images, key=lambda info: info.file_size)
    if largest.file_size > limits.member:
        raise InputError(
            f"{largest.filename} has {_megabytes(largest.file_size)}: {_megabytes(limits.member)} is the most."
        )
    total = sum(info.file_size for info in images)
    if total > limits.total:
        raise InputError(f"The images have {_megabytes(total)} unpacked: send {_megabytes(limits.total)} at most.")
    if total > max(RATIO_FROM, limits.ratio * Path(source).stat().st_size):
        raise InputError(f"The archive unpacks to over {limits.ratio} times its size: pack PNG or JPEG files.")
    return [_zip_name(info) for info in images]


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def _is_image(name: str) -> bool:
    """Whether a name is an image's by its suffix, and not hidden; ".." hides nothing."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def _leads_out(name: str) -> bool:
    return ".." in PurePosixPath(name).parts or re.match("/|[A-Za-z]:/", name) is not None


def _zip_name(info: zipfile.ZipInfo) -> str:
    return info.filename.replace("\\", "/")  # some programs of Windows pack so


def list_images(source: Path, keep: Callable[[str], bool] = lambda name: True) -> Entries:
    """Every image file of a folder or archive whose name passes `keep`, known by its suffix.

    Hidden files (a part of the name starts with a dot, or with __MACOSX) do not count.

    Returns:
        How many there are (None: not known before the end, in a tar archive), and an iterator over
        (name relative to the source with forward slashes, file), reading one file at a time. In place of
        a file that is not to be read stands an InputError that says why.

    Raises:
        InputError: the source is missing or is neither a folder nor an archive; from the iterator,
            an archive is damaged.
    """
    source = Path(source)

    def wanted(name: str) -> bool:
        return _is_image(name) and keep(name)

    if source.is_dir():
        return _in_folder(source, wanted)
    if source.is_file() and zipfile.is_zipfile(source):
        return _in_zip(source, wanted)
    if source.is_file() and tarfile.is_tarfile(source):
        return None, _in_tar(source, wanted)
    if source.exists():
        raise InputError(f"{source} is neither a folder nor a tar or zip archive of images: choose one of these.")
    raise InputError(f"There is no folder or archive {source}: check the path.")


def images_state(source: Path) -> str:
    """Short text that tells a folder's images, by their names and sizes, or an archive, by its size, from others.

    Raises:
        InputError: the source is missing or is neither a folder nor an archive.
    """
    source = Path(source).expanduser()
    entries: Any = list_images(source)[1]  # paths, of a folder
    sizes = [(name, file.stat().st_size) for name, file in entries] if source.is_dir() else source.stat().st_size
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:24]


def _in_folder(source: Path, wanted: Callable[[str], bool]) -> Entries:
    files = (path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    names = sorted(filter(wanted, files))
    return len(names), ((name, source / name) for name in names)


def _in_zip(source: Path, wanted: Callable[[str], bool]) -> Entries:
    with zipfile.ZipFile(source) as archive:
        members = {str(PurePosixPath(_zip_name(info))): info for info in archive.infolist() if not info.is_dir()}
    names = sorted(filter(wanted, members))

    def entries() -> Iterator[tuple[str, File]]:
        with zipfile.ZipFile(source) as archive:
            for name in names:
                yield name, _zip_member(archive, members[name])

    return len(names), entries()


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> File:
    wrong = {
        OUTSIDE: _leads_out(_zip_name(info)),
        LINK: stat.S_ISLNK(info.external_attr >> 16),
        LOCKED: bool(info.flag_bits & 1),
        METHOD: info.compress_type not in METHODS,
        GIANT: info.file_size > MAX_MEMBER,
    }
    reason = next((reason for reason, found in wrong.items() if found), None)
    if reason:
        return InputError(reason)
    try:
        with archive.open(info) as member:
            # read() alone inflates the whole member, whatever size it declares; with a number it stops there.
            return io.BytesIO(member.read(info.file_size + 1))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError):
        return InputError(DAMAGED)


def _in_tar(source: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, File]]:
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))
                if not member.isdir() and wanted(name):
                    yield name, _tar_member(archive, member)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"The archive {source} is damaged ({error}): get it again.") from error


def _tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> File:
    if _leads_out(member.name):
        return InputError(OUTSIDE)
    if not member.isfile():
        return InputError(LINK)
    if member.size > MAX_MEMBER:
        return InputError(GIANT)
    file = archive.extractfile(member)
    assert file is not None, "the member is a file"
    return io.BytesIO(file.read())
