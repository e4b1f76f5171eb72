"""Where image files lie: a folder, a tar archive (plain or compressed) or a zip archive.

Archives are read without unpacking: a member's name is a label, never a path that is opened. A member that is
no harmless file (a link, a name that leaves the archive, a lock, a giant) is named with its reason. What strangers send
is checked besides by archive_limits.py, before anything in it is read.
"""

import io
import logging
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

from metalora.suites.names import MAX_DEPTH, is_system, is_too_long, readable, zip_name
from metalora.util.errors import InputError

for _name in ("PIL", "tifffile", "pydicom"):  # their remarks on broken files are not for stderr
    logging.getLogger(_name).addHandler(logging.NullHandler())

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
MAX_SHOWN = 60  # letters of a name that is too long
MAX_HEADER = 2**20  # bytes of what a tar archive says of one member
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a bound on memory
LINK = "It is a link: put the image itself there."
OUTSIDE = "Its name leads out of the archive: pack it again from inside its folder."
LONG = f"Its name is too long, or lies in over {MAX_DEPTH} folders: pack it again with fewer."
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
        if is_too_long(name):  # an entry with a reason, or nothing: its folders would take more than the archive
            return not is_folder and name.lower().endswith(tuple(SUFFIXES))
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
    if source.is_file() and _is_tar(source):
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
    try:
        with zipfile.ZipFile(source) as archive:
            infos = archive.infolist()
    # zipfile raises NotImplementedError for versions of the format that it does not read.
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError, OSError) as error:
        raise InputError(f"The archive {source} is damaged ({error}): get it again.") from error
    for info in infos:
        name = zip_name(info, encoding)
        if listing.count(name, is_folder=info.is_dir()) and keep(name):
            members[info.filename] = (_shown(name), info)
    chosen = sorted(members.values(), key=lambda pair: pair[0])

    def entries() -> Iterator[tuple[str, File]]:
        with zipfile.ZipFile(source) as archive:
            for name, info in chosen:
                yield name, zip_member(archive, info)

    listing.entries, listing.total = entries(), len(chosen)
    return listing


def _shown(name: str) -> str:
    """Return a name for a list: tidied, and what is too long to be used, cut."""
    return f"{name[:MAX_SHOWN]}…" if is_too_long(name) else str(PurePosixPath(name))


def zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> File:
    """Return the content of a member; an error where it is no harmless file, or not what the archive says."""
    wrong = {
        OUTSIDE: _leads_out(zip_name(info)),
        LINK: stat.S_ISLNK(info.external_attr >> 16),
        LOCKED: bool(info.flag_bits & 1),
        LONG: is_too_long(zip_name(info)),
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
        with tarfile.open(source, tarinfo=_TarInfo) as archive:
            for member in archive:
                name = readable(member.name if is_too_long(member.name) else str(PurePosixPath(member.name)))
                if listing.count(name, is_folder=member.isdir()) and keep(name):
                    yield _shown(name), _tar_member(archive, member)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"The archive {source} is damaged ({error}): get it again.") from error


def _is_tar(source: Path) -> bool:
    """Return whether this is a tar archive, as `tarfile.is_tarfile`, which reads headers of any size."""
    try:
        tarfile.open(source, tarinfo=_TarInfo).close()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError):
        return False
    return True


class _TarInfo(tarfile.TarInfo):
    """A header whose further names and remarks, which tarfile reads as a whole, have a bounded size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_TarInfo":
        info = super().frombuf(buf, encoding, errors)
        if info.type not in tarfile.REGULAR_TYPES and info.size > MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return info


def _tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> File:
    if is_too_long(member.name):
        return InputError(LONG)
    if _leads_out(member.name):
        return InputError(OUTSIDE)
    if not member.isfile():
        return InputError(LINK)
    if member.size > MAX_MEMBER:
        return InputError(GIANT)
    file = archive.extractfile(member)
    assert file is not None, "the member is a file"
    return io.BytesIO(file.read())
