"""Where picture files lie: a folder, a tar archive (plain or compressed) or a zip archive."""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from PIL import Image

from metalora.errors import InputError

# Pillow opens more (PostScript runs a program, HDF5 and PDF hold no picture that it can decode): these only.
_WANTED = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "AVIF")
_SUFFIXES = Image.registered_extensions()
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
SUFFIXES = frozenset(suffix for suffix, name in _SUFFIXES.items() if name in FORMATS)

File = Path | io.BytesIO
Entries = tuple[int | None, Iterator[tuple[str, File]]]


def list_pictures(source: Path, keep: Callable[[str], bool] = lambda name: True) -> Entries:
    """Every picture file of a folder or archive whose name passes `keep`, known by its suffix.

    Hidden files (a part of the name starts with a dot, or with __MACOSX) do not count.

    Returns:
        How many there are (None: not known before the end, in a tar archive), and an iterator over
        (name relative to the source with forward slashes, file), reading one file at a time.

    Raises:
        InputError: the source is missing or is neither a folder nor an archive; from the iterator,
            an archive is damaged.
    """
    source = Path(source)

    def wanted(name: str) -> bool:
        parts = PurePosixPath(name).parts
        hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
        return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES and keep(name)

    if source.is_dir():
        return _in_folder(source, wanted)
    if source.is_file() and zipfile.is_zipfile(source):
        return _in_zip(source, wanted)
    if source.is_file() and tarfile.is_tarfile(source):
        return None, _in_tar(source, wanted)
    if source.exists():
        raise InputError(f"{source} is neither a folder nor a tar or zip archive of pictures: choose one of these.")
    raise InputError(f"There is no folder or archive {source}: check the path.")


def _in_folder(source: Path, wanted: Callable[[str], bool]) -> Entries:
    names = (path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    names = sorted(filter(wanted, names))
    return len(names), ((name, source / name) for name in names)


def _in_zip(source: Path, wanted: Callable[[str], bool]) -> Entries:
    with zipfile.ZipFile(source) as archive:
        members = {str(PurePosixPath(info.filename)): info for info in archive.infolist() if not info.is_dir()}
    names = sorted(filter(wanted, members))

    def entries() -> Iterator[tuple[str, File]]:
        with zipfile.ZipFile(source) as archive:
            for name in names:
                try:
                    content = archive.read(members[name])
                except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError):
                    content = b""  # damaged or locked: like an empty file, the picture is named as unreadable
                yield name, io.BytesIO(content)

    return len(names), entries()


def _in_tar(source: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, File]]:
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))
                if member.isfile() and wanted(name):
                    yield name, io.BytesIO(archive.extractfile(member).read())
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"The archive {source} is damaged ({error}): get it again.") from error
