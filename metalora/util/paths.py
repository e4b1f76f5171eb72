"""Paths as people write them, and files that systems leave in any folder."""

from pathlib import Path

from metalora.util.errors import InputError

STRAYS = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})  # of Windows and macOS, beside hidden ones


def expand(path: str | Path) -> Path:
    """Return the path with ~ and ~user replaced by the home folder, as a shell does it at the start of a word only.

    Raises:
        InputError: there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"There is no home folder for {path}: write the path out.") from error


def is_stray(name: str) -> bool:
    """Return whether a file of this name is hidden or left by a file manager, and nobody's own."""
    return name.startswith(".") or name.lower() in STRAYS
