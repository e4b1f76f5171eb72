"""Deleting what visitors left long ago: uploads, runs that are over, comparisons, exports.

A workspace may hold files of other programs (.DS_Store, Thumbs.db, half-written folders): they are pruned alike, and
what cannot be deleted is logged and left.
"""

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from metalora.runs.run_folder import open_run
from metalora.util.errors import InputError
from metalora.util.locks import Busy, locked

log = logging.getLogger(__name__)
BUSY = "This run is not over: stop it first."


def prune(visitors: Path, older_than: timedelta) -> int:
    """Delete what has not been used for so long, then folders of visitors who have nothing left.

    Args:
        visitors: folder with a folder for each visitor.
        older_than: the age.

    Returns:
        The number of uploads, runs, comparisons, exports and stray files deleted.
    """
    limit = time.time() - older_than.total_seconds()
    deleted = sum(_delete(path) for path in _entries(visitors) if _touched(path) < limit)
    for folder in (*visitors.glob("*/*"), *visitors.glob("*")):
        if _touched(folder) < limit:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
    return deleted


def repeat(work: Callable[[], object], every: timedelta) -> threading.Event:
    """Prune now and then in a thread that ends with the process, or when the event that is returned is set.

    Args:
        work: prunes.
        every: time between the end of one and the next.
    """
    over = threading.Event()

    def loop() -> None:
        while not over.wait(every.total_seconds()):
            try:
                work()
            except Exception:  # pruning must run again
                log.exception("The workspace could not be pruned.")

    threading.Thread(target=loop, daemon=True).start()
    return over


def disk_usage(folder: Path) -> int:
    """Return the bytes of the files in a folder; one with several names counts once."""
    files: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                state = os.lstat(os.path.join(parent, name))
                files[state.st_dev, state.st_ino] = state.st_size
    return sum(files.values())


def delete_run(folder: Path) -> None:
    """Delete the folder of a run.

    Raises:
        Busy: it is queued or being trained.
    """
    try:
        active = open_run(folder).state.active
    except InputError:  # damaged, or incomplete
        active = False
    if active:
        raise Busy(BUSY)
    with locked(folder, BUSY):
        shutil.rmtree(folder)


def _entries(visitors: Path) -> Iterator[Path]:
    """Yield everything that visitors have: what is in their folders of runs, uploads, …; and stray files beside."""
    for path in (*visitors.glob("*"), *visitors.glob("*/*"), *visitors.glob("*/*/*")):
        if not path.is_dir() or len(path.relative_to(visitors).parts) == 3:
            yield path


def _touched(path: Path) -> float:
    """Return when a file, or a folder or a file right in it, was changed last, in seconds since 1970."""
    times = [0.0]
    for part in (path, *(path.iterdir() if path.is_dir() else ())):
        with contextlib.suppress(FileNotFoundError):  # a file that was half written is renamed by now
            times.append(part.lstat().st_mtime)
    return max(times)


def _delete(path: Path) -> bool:
    """Delete a file or a folder; return whether that was done."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif path.parent.name == "runs":
            delete_run(path)
        else:
            shutil.rmtree(path)
    except (Busy, FileNotFoundError):
        return False
    except (InputError, OSError) as error:
        log.warning("%s cannot be deleted: %s", path, error)
        return False
    return True
