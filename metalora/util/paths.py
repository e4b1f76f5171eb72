"""Paths as people write them, and files that systems leave in any folder."""

import os
from pathlib import Path

from metalora.util.errors import InputError

CACHE = "METALORA_CACHE"  # environment variable: where decoded images are kept; empty: nowhere
STRAYS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})  # of Windows and macOS, beside hidden ones


def expand(path: str | Path) -> Path:
    """Return the path with ~ or ~user at its start replaced by the home folder; a shell does that for whole words only.

    A name that only begins like a user's, such as ~backup, stays as it is.

    Raises:
        InputError: the person has no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        if Path(path).parts[0] != "~":
            return Path(path)
        raise InputError(f"There is no home folder for {path}: write the path out, or set HOME.") from error


def cache_folder() -> Path | None:
    """Return the folder of decoded images: that of METALORA_CACHE, by default ~/.cache/metalora.

    None, for nothing is kept: METALORA_CACHE is empty, or by default there is no home folder.

    Raises:
        InputError: METALORA_CACHE lies in a home folder, and there is none.
    """
    named = os.environ.get(CACHE)
    if named is not None:
        return expand(named) if named else None
    try:
        return expand("~/.cache/metalora")
    except InputError:
        return None


def is_stray(name: str) -> bool:
    """Return whether a file of this name is hidden or left by a file manager, and nobody's own."""
    return name.startswith(".") or name.lower() in STRAYS
