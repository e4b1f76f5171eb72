"""Paths as people write them, and files that systems leave in any folder."""

from pathlib import Path

from metalora.util.errors import InputError

_PACKAGE = Path(__file__).parents[1]
ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"
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


def is_stray(name: str) -> bool:
    """Return whether a file of this name is hidden or was left by a file manager, not by a person."""
    return name.startswith(".") or name.lower() in STRAYS
