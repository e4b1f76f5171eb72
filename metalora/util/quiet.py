"""Warnings of other libraries that say nothing to a person here."""

import contextlib
import threading
import warnings
from collections.abc import Iterator

UMAP = r"umap|sklearn\.manifold"  # which warn of features that are not used, and of starts that fell back to others


@contextlib.contextmanager
def ignore_warnings(module: str = "") -> Iterator[None]:
    """Ignore what modules whose names match a regular expression warn of, by default all, in the main thread.

    In other threads the filters stay as they are, since they belong to the process: two threads that each change them
    and change them back leave those of the other. An app sets its own at its start, see runs/app_process.py.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=module)
        yield
