"""Locks of folders, between processes: the system frees the lock of a process that is killed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from metalora.util.errors import InputError

LOCK = ".lock"


class Busy(InputError):
    """Another process works in the folder."""


@contextlib.contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Hold the lock of a folder, which is created where it is missing and removed if nothing else comes into it.

    Args:
        folder: what is locked.
        busy: the message where another process, or another thread of this one, has the lock.

    Raises:
        Busy: another one has it.
        InputError: the disk refuses.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(busy) from error
    except OSError as error:
        raise InputError(f"Cannot write in {folder}: {error}; choose another folder.") from error
    try:
        yield
    finally:
        _remove_if_empty(folder, created)
        lock.release()


def _remove_if_empty(folder: Path, created: list[Path]) -> None:
    """Remove the file of a lock that is still held, where nothing else is in the folder, and folders made for it."""
    with contextlib.suppress(OSError):  # the folder was deleted meanwhile, or another process writes there by now
        if [path.name for path in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            for path in created:
                path.rmdir()
