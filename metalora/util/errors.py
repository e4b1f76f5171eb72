"""The one exception for what a person can cause, and the one warning."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one sentence that names the thing, says what is wrong and what to do. The command
    line prints it and leaves with exit code 2; the app shows it.
    """


class LayersLeftOut(UserWarning):
    """Layers that default targets do not adapt, and why."""


def choices(name: str, known: Iterable[str], most: int = 8) -> str:
    """The known names in one phrase, near misses of `name` first."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    listed = (near + [other for other in known if other not in near])[:most]
    more = f" or one of {len(known) - most} more" if len(known) > most else ""
    return ", ".join(listed) + more
