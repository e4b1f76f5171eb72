"""Names of files as text: one Unicode form, whatever system or program wrote them."""

import re
import unicodedata
import zipfile
from pathlib import PurePosixPath

from metalora.util.errors import InputError

# What systems, NAS boxes and cameras put beside images: thumbnails, bins, indexes. Names that begin with a dot, too.
SYSTEM_NAMES = frozenset(
    {"__macosx", "$recycle.bin", "recycler", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"}
    | {"lost+found", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "thmbnl", "canonmsc"}
)


MAX_DEPTH, MAX_NAME = 16, 1_000  # folders around a file in an archive, and letters of its whole name
# What moves a terminal's cursor, ends a line, or turns the direction of the letters after it.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def readable(name: str) -> str:
    r"""Return a name in Unicode's composed form (NFC); control characters and bytes that are not UTF-8 as \xNN."""
    whole = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", printable(whole))


def printable(text: str) -> str:
    r"""Return a text with control characters as \xNN, so that it changes nothing but its own place on a screen."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_too_long(name: str) -> bool:
    """Whether a name in an archive is longer, or lies deeper, than any that a person gives."""
    return len(name) > MAX_NAME or name.count("/") > MAX_DEPTH


def is_system(name: str) -> bool:
    """Whether a part of a path is hidden or of a system's own; ".." is neither."""
    if is_too_long(name):
        return False
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part.lower() in SYSTEM_NAMES for part in parts)


def zip_name(info: zipfile.ZipInfo, encoding: str | None = None) -> str:
    """Return the name of a zip archive's member, with forward slashes.

    Programs write UTF-8 without the flag that says so, or the code page of their system; zipfile takes both for cp437.

    Args:
        info: The member, as zipfile reads it.
        encoding: Of names without the flag; None: UTF-8 where they are that, else cp437.

    Raises:
        InputError: There is no such encoding, or the name is not in it.
    """
    name = info.filename
    if not info.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode(encoding or "utf-8")
        except LookupError as error:
            raise InputError(f"There is no encoding {encoding!r}: use a name of Python's, such as cp866.") from error
        except UnicodeError as error:
            if encoding:
                raise InputError(f"The names in the archive are not in {encoding}: give another encoding.") from error
    return readable(re.sub(r"/{2,}", "/", name.replace("\\", "/")))  # some programs of Windows pack so
