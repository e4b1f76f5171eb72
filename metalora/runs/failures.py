"""Why a run failed, in one sentence that says what to change."""

import errno
import shutil
import signal
from pathlib import Path

NO_MEMORY = "Memory ran out: choose a smaller batch, smaller images or a smaller backbone."
KILLED = "The worker was killed, most likely because memory ran out: choose a smaller batch, image size or backbone."
SILENT = "The worker ended without a word, perhaps for lack of memory: choose a smaller batch or backbone."
FULL_DISK = "The disk is full: free some space, then resume the run."
FULL = 2**20  # bytes that are left where a disk counts as full
SAID = "Error: "  # how the command line begins the sentence that it leaves with


def reason_of(error: BaseException) -> str:
    """A sentence for what ended a training."""
    if out_of_memory(error):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FULL_DISK
    return str(error) or type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, told without loading torch."""
    # torch.OutOfMemoryError on accelerators; on a CPU torch raises a plain RuntimeError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def reason_of_exit(code: int | None, log: str, folder: Path) -> str:
    """A sentence for a worker that is gone and left no reason in its run's folder.

    Args:
        code: its exit code, -N for signal N; None: not known.
        log: the end of what it printed.
    """
    said = [line.removeprefix(SAID) for line in log.splitlines() if line.startswith(SAID)]
    if code == -signal.SIGKILL:
        return KILLED
    if code is not None and code >= 0 and said:
        return said[-1]
    if shutil.disk_usage(folder).free < FULL:
        return FULL_DISK
    if code is None:
        return SILENT
    if code < 0:
        return f"The worker crashed ({_name(-code)}): resume the run, or choose a smaller batch or backbone."
    return f"The worker ended with exit code {code}: its log says why."


def _name(number: int) -> str:
    return signal.strsignal(number) or f"signal {number}"
