"""Faults in the middle of a write, in every process that has this folder on its PYTHONPATH; see `killing.Write`."""

import errno
import fnmatch
import os
import signal


def install(fault: str) -> None:
    """Let a fault, "FILE MOMENT COUNT", happen in this process."""
    pattern, moment, count = fault.split()
    seen, fsync, replace = 0, os.fsync, os.replace

    def kill() -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def meets(name: str) -> bool:
        nonlocal seen
        seen += fnmatch.fnmatch(name, pattern)
        return fnmatch.fnmatch(name, pattern) and seen >= int(count)

    def failing_fsync(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        name = os.path.basename(path)[1:].rpartition(".")[0].rpartition(".")[0]  # .NAME.RANDOM.tmp
        if path.endswith(".tmp") and moment != "named" and meets(name):
            if moment == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if moment == "torn":
                os.truncate(path, os.path.getsize(path) // 2)
            kill()
        fsync(handle)

    def failing_replace(source: os.PathLike, target: os.PathLike) -> None:
        replace(source, target)
        if moment == "named" and meets(os.path.basename(target)):
            kill()

    os.fsync, os.replace = failing_fsync, failing_replace


if os.environ.get("METALORA_TEST_FAULT"):
    install(os.environ["METALORA_TEST_FAULT"])
