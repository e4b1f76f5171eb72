"""The one exception for what a person can cause, and the one warning."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one sentence that names the thing, says what is wrong and what to do. The command
    line prints it and leaves with exit code 2; the app shows it.
    """


class LayersLeftOut(UserWarning):
    """Layers that default targets do not adapt, and why."""
