"""A visitor's uploads: a folder ID with one file each, under the name that its owner gave it.

A folder is filled under a hidden name and renamed when it is whole; whatever else lies there is ignored.
"""

import contextlib
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from metalora.util.errors import InputError
from metalora.util.paths import is_stray

UPLOAD_ID = r"[0-9a-f]{24}"
MAX_NAME = 60  # letters
MB = 2**20


@dataclass(frozen=True)
class Upload:
    """A file that a visitor sent.

    Attributes:
        id: name of its folder.
        file: where it is.
        size: in bytes.
        used_at: when it was sent or used last, in seconds since 1970.
    """

    id: str
    file: Path
    size: int
    used_at: float

    @property
    def name(self) -> str:
        """What its owner calls it."""
        return self.file.name


def list_uploads(folder: Path) -> list[Upload]:
    """Return the uploads in a folder, which may not exist, those used last first."""
    found = []
    for path in folder.glob("*"):
        if re.fullmatch(UPLOAD_ID, path.name) and path.is_dir():
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                files = [file for file in path.iterdir() if not is_stray(file.name) and file.is_file()]
                file = min(files, key=lambda file: file.stat().st_mtime_ns, default=None)
                if file is not None:
                    found.append(Upload(path.name, file, file.stat().st_size, path.stat().st_mtime))
    return sorted(found, key=lambda upload: (upload.used_at, upload.id), reverse=True)


def check_room(uploads: list[Upload], size: int, max_uploads: int, max_bytes: int) -> None:
    """Check that one more file fits beside a visitor's uploads.

    Raises:
        InputError: it is larger than all may be together, or there are too many.
    """
    used = sum(upload.size for upload in uploads)
    if size > max_bytes:
        raise InputError(f"The file is larger than {max_bytes // MB} MB: send a smaller one.")
    if len(uploads) >= max_uploads:
        raise InputError(f"You have {max_uploads} uploads, which is the maximum: delete one first.")
    if used + size > max_bytes:
        raise InputError(
            f"Your uploads take {used / MB:.1f} of {max_bytes // MB} MB and this file {size / MB:.1f} MB: "
            "delete some first."
        )


def keep_upload(folder: Path, file: Path, name: str) -> str:
    """Copy a file into a new folder below `folder`, whole or not at all; return its id.

    Raises:
        InputError: the disk refuses.
    """
    upload_id = secrets.token_hex(12)
    partial = folder / f".{upload_id}"
    try:
        partial.mkdir(parents=True)
        shutil.copyfile(file, partial / harmless_name(name))
        partial.rename(folder / upload_id)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"The upload cannot be kept ({error.strerror}): try again later.") from error
    return upload_id


def mark_used(upload: Path) -> None:
    """Note that an upload's file is used now."""
    os.utime(upload.parent)


def harmless_name(name: str) -> str:
    """Return the last part of a path, with letters, digits, dots and dashes only, and no name that is ignored."""
    last = re.sub(r"[^\w.-]+", "_", str(name).replace("\\", "/").rpartition("/")[2]).lstrip(".")[-MAX_NAME:]
    return "upload" if not last or is_stray(last) else last
