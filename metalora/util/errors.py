"""The exception for errors that users can cause, and the warning about layers."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input cannot be used.

    The message is one sentence that names the thing, says what is wrong and what to do. The command line prints it
    and exits with code 2; the app shows it.
    """


class LayersLeftOut(UserWarning):
    """The default targets leave layers out, for the reason given."""


def choices(name: str, known: Iterable[str], max_shown: int = 8) -> str:
    """Return the known names in one phrase, those similar to `name` first."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    listed = (near + [other for other in known if other not in near])[:max_shown]
    more = f" or one of {len(known) - max_shown} more" if len(known) > max_shown else ""
    return ", ".join(listed) + more
