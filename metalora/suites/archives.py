"""Where image files lie: a folder, a tar archive (plain or compressed) or a zip archive.

Archives are read without unpacking: a member's name is a label, never a path that is opened. A member that is
no harmless file (a link, a name that leaves the archive, a lock, a giant) is named with its reason. What strangers send
is held to `Limits` by `check_archive` before anything in it is read.
"""

import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from PIL import Image

from metalora.suites.names import is_system, readable, zip_name
from metalora.util.errors import InputError

# Formats that Pillow reads with a package of their own: its module, what registers it, and its name on PyPI.
_PLUGINS = (("pillow_heif", "register_heif_opener", "pillow-heif"), ("pillow_jxl", None, "pillow-jxl-plugin"))
for _module, _function, _ in _PLUGINS:
    if find_spec(_module) is not None:
        _plugin = import_module(_module)
        if _function is not None:
            getattr(_plugin, _function)()

# Pillow opens more (PostScript runs a program, HDF5 and PDF hold no image that it can decode): these only.
_WANTED = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF", "HEIF", "JXL")
_EXTENSIONS = Image.registered_extensions()  # loads all plugins
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
DICOM = (".dcm", ".dicom")
SUFFIXES = frozenset(suffix for suffix, name in _EXTENSIONS.items() if name in FORMATS) | {".mpo"}
if find_spec("pydicom") is not None:
    SUFFIXES = SUFFIXES.union(DICOM)
HELP = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "pip install pillow-heif"),
    ".jxl": "pip install pillow-jxl-plugin",
    **dict.fromkeys(DICOM, "pip install pydicom"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"), "export them as JPEG"),
}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z", ".rar")

MAX_MEMBER = 256 * 2**20  # bytes of an image in any archive: 16 megapixels of 16-bit RGBA take half
MAX_NAMED = 5  # folders of a note
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a bound on memory
LINK = "It is a link: put the image itself there."
OUTSIDE = "Its name leads out of the archive: pack it again from inside its folder."
LOCKED = "It is locked with a password: pack it again without one."
METHOD = "It is packed by an unusual method: pack it again as an ordinary zip."
DAMAGED = "It is damaged: pack it again."
BROKEN_LINK = "It is a link to nothing: put the image itself there."
GIANT = f"It is larger than {MAX_MEMBER // 2**20} MB: make it smaller."

File = Path | io.BytesIO | InputError  # an error: what is wrong with the member


@dataclass
class Listing:
    """The image files of a source, and what else lies there.

    Attributes:
        entries: (name relative to the source with forward slashes, file), one at a time. In place of a file that is
            not to be read stands an InputError that says why.
        total: How many entries there are; None: not known before the end, in a tar archive.
        unread: Numbers of files that are no images, by suffix; of a tar archive, known at the end.
        skipped: (name, reason) of folders and links that cannot be opened.
    """

    entries: Iterator[tuple[str, File]] = field(default_factory=lambda: iter(()))
    total: int | None = None
    unread: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    _folders: dict[str, bool] = field(default_factory=dict)  # whether there is an image in it or below

    def count(self, name: str, *, is_folder: bool = False) -> bool:
        """Take note of a file or folder; return whether it is an image file by its suffix."""
        if is_system(name):
            return False
        path = PurePosixPath(name)
        is_image = not is_folder and path.suffix.lower() in SUFFIXES
        for folder in map(str, (path, *path.parents) if is_folder else path.parents):
            self._folders[folder] = self._folders.get(folder, False) or is_image
        if not is_image and not is_folder:
            self.unread[path.suffix.lower()] += 1
        return is_image

    @property
    def empty(self) -> list[str]:
        """Folders without an image, sorted; those in them are not named besides."""
        has_image = self._folders
        parents = {folder: str(PurePosixPath(folder).parent) for folder in has_image}
        return sorted(name for name, image in has_image.items() if not image and has_image.get(parents[name], True))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is not read."""
        other, notes = [], []
        for suffix, count in sorted(self.unread.items()):
            if suffix in HELP:
                notes.append(f"{_files(count, suffix)} not read: {HELP[suffix]}.")
            else:
                other.append(f"{count:,} {suffix or 'without a suffix'}")
        if other:
            notes.append(f"Files that are no images are not read: {', '.join(other)}.")
        if self.empty and self.empty != ["."]:
            named = ", ".join(self.empty[:MAX_NAMED])
            more = f" and {len(self.empty) - MAX_NAMED:,} more" if len(self.empty) > MAX_NAMED else ""
            notes.append(f"Folders without an image: {named}{more}.")
        return tuple(notes)


def _files(count: int, suffix: str) -> str:
    return f"{count:,} {suffix} files are" if count > 1 else f"1 {suffix} file is"


@dataclass(frozen=True)
class Limits:
    """What a zip archive from strangers may hold."""

    entries: int = 20_000  # files and folders of any kind
    member: int = 32 * 2**20  # bytes of one image, unpacked
    total: int = 2**30  # bytes of all images, unpacked
    ratio: int = 100  # unpacked to packed, where it unpacks to over RATIO_FROM


RATIO_FROM = 10 * 2**20  # bytes: small plain bitmaps shrink a lot and do no harm


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
    listing = Listing()
    images = [info for info in entries if listing.count(zip_name(info), is_folder=info.is_dir())]
    if not images:
        inner = next((info.filename for info in entries if info.filename.lower().endswith(ARCHIVES)), None)
        advice = f"unpack {inner} and pack its folders" if inner else "pack class folders of PNG or JPEG files"
        raise InputError(" ".join([f"The archive holds no images: {advice}.", *listing.notes]))
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
    return [zip_name(info) for info in images]


def check_members(source: Path) -> None:
    """Refuse a zip archive with an image that cannot be read as it is declared, after reading every one.

    Args:
        source: what `check_archive` let pass, which bounds the time.

    Raises:
        InputError: an image leads out of the archive, is a link, is packed by an unusual method, or has another size
            or content than the archive's directory says.
    """
    with zipfile.ZipFile(source) as archive:
        listing = Listing()
        for info in archive.infolist():
            name = zip_name(info)
            if listing.count(name, is_folder=info.is_dir()):
                member = _zip_member(archive, info)
                if isinstance(member, InputError):
                    raise InputError(f"{name} cannot be used. {member}")


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def _leads_out(name: str) -> bool:
    return ".." in PurePosixPath(name).parts or re.match("/|[A-Za-z]:/", name) is not None


def list_images(source: Path, keep: Callable[[str], bool] = lambda name: True, encoding: str | None = None) -> Listing:
    """List every image file of a folder or archive whose name passes `keep`, known by its suffix, by name.

    Links are followed. Hidden files and those of systems (see `is_system`) do not count.

    Args:
        source: A folder, or a tar or zip archive.
        keep: Which names.
        encoding: Of the names in a zip archive, see `zip_name`.

    Raises:
        InputError: The source is missing or is neither a folder nor an archive; from the iterator, an archive is
            damaged.
    """
    source = Path(source)
    if source.is_dir():
        return _in_folder(source, keep)
    if source.is_file() and zipfile.is_zipfile(source):
        return _in_zip(source, keep, encoding)
    if source.is_file() and tarfile.is_tarfile(source):
        listing = Listing()
        listing.entries = _in_tar(source, keep, listing)
        return listing
    if source.exists():
        raise InputError(f"{source} is neither a folder nor a tar or zip archive of images: choose one of these.")
    raise InputError(f"There is no folder or archive {source}: check the path.")


def _in_folder(source: Path, keep: Callable[[str], bool]) -> Listing:
    listing = Listing()
    files: list[tuple[str, File]] = []

    def visit(folder: Path, name: str, above: frozenset[tuple[int, int]]) -> None:
        try:
            state = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            listing.skipped.append((name, f"The folder cannot be opened ({error.strerror}): check its permissions."))
            return
        place = (state.st_dev, state.st_ino)
        if place in above:  # a link to a folder that it lies in
            return
        for entry in entries:
            below, path = f"{name}/{readable(entry.name)}".lstrip("/"), Path(entry.path)
            if entry.is_symlink() and not path.exists():
                listing.skipped.append((below, BROKEN_LINK))
                continue
            is_folder = entry.is_dir()
            if is_folder and not is_system(below):
                listing.count(below, is_folder=True)
                visit(path, below, above | {place})
            elif not is_folder and listing.count(below) and keep(below):
                files.append((below, path))

    visit(source, "", frozenset())
    files.sort(key=lambda pair: pair[0])
    listing.entries, listing.total = iter(files), len(files)
    return listing


def _in_zip(source: Path, keep: Callable[[str], bool], encoding: str | None) -> Listing:
    listing, members = Listing(), {}
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            name = zip_name(info, encoding)
            if listing.count(name, is_folder=info.is_dir()) and keep(name):
                members[info.filename] = (str(PurePosixPath(name)), info)
    chosen = sorted(members.values(), key=lambda pair: pair[0])

    def entries() -> Iterator[tuple[str, File]]:
        with zipfile.ZipFile(source) as archive:
            for name, info in chosen:
                yield name, _zip_member(archive, info)

    listing.entries, listing.total = entries(), len(chosen)
    return listing


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> File:
    wrong = {
        OUTSIDE: _leads_out(zip_name(info)),
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
            content = member.read(info.file_size + 1)
            return io.BytesIO(content) if len(content) == info.file_size else InputError(DAMAGED)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError):
        return InputError(DAMAGED)


def _in_tar(source: Path, keep: Callable[[str], bool], listing: Listing) -> Iterator[tuple[str, File]]:
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = readable(str(PurePosixPath(member.name)))
                if listing.count(name, is_folder=member.isdir()) and keep(name):
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
