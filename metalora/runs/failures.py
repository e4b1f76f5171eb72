"""Why a run failed, in one sentence that says what to change."""

import errno
import os
import shutil
import signal
from pathlib import Path

NO_MEMORY = "Memory ran out: choose a smaller batch, smaller images or a smaller backbone."
AGAIN = "Resume goes on from the last checkpoint; if it ends again, choose a smaller batch, image size or backbone."
KILLED = f"The worker was killed, by the system for lack of memory or by a person. {AGAIN}"
SILENT = f"The worker ended without an error: it was killed, memory ran out or the machine was restarted. {AGAIN}"
FULL_DISK = "The disk is full: free some space, then resume the run."
FULL = 2**20  # a disk with less free space, in bytes, is full
OUT_OF_MEMORY = ("can't allocate memory", os.strerror(errno.ENOMEM), "bad_alloc")  # in messages
ERROR = "Error: "  # how the command line begins its last message


def reason_of(error: BaseException) -> str:
    """Return the message for an error that ended a training."""
    if out_of_memory(error):
        return NO_MEMORY
    if disk_is_full(error):
        return FULL_DISK
    return str(error) or type(error).__name__


def disk_is_full(error: BaseException) -> bool:
    """Return whether an error means that a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, without importing torch."""
    # torch.OutOfMemoryError on accelerators; on a CPU torch raises a plain RuntimeError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in OUT_OF_MEMORY)


def reason_of_exit(code: int | None, log: str, folder: Path) -> str:
    """Return the message for a worker that ended without recording a reason in its run's folder.

    Args:
        code: its exit code, -N for signal N; None: unknown.
        log: the end of its output.
        folder: of the run.
    """
    errors = [line.removeprefix(ERROR) for line in log.splitlines() if line.startswith(ERROR)]
    if code == -signal.SIGKILL:
        return KILLED
    if code is not None and code >= 0 and errors:
        return errors[-1]
    if shutil.disk_usage(folder).free < FULL:
        return FULL_DISK
    if code is None:
        return SILENT
    if code < 0:
        return f"The worker crashed ({_name(-code)}): resume the run, or choose a smaller batch or backbone."
    return f"The worker ended with exit code {code}: its log says why."


def _name(number: int) -> str:
    return signal.strsignal(number) or f"signal {number}"
