"""Processes: started, and identified by number and start time, since systems reuse the numbers of dead ones."""

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil
from joblib.externals.loky.backend import resource_tracker as joblib_tracker

from metalora.util.checks import whole_from_environment

SECONDS_BETWEEN_LOOKS = 0.5  # at whether the parent is alive
NICE, DEFAULT_NICE = "METALORA_NICE", 10  # environment variable: niceness of what the app starts, from 0 to 19


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM; processes that are started meanwhile never get them, and leave them to this one."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    for tracker in (resource_tracker, joblib_tracker):  # each unblocks signals when it starts
        tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@functools.cache  # once in a process
def end_with_parent() -> None:
    """Let this process, where it belongs to a pool, end soon after the process that started the pool was killed."""
    if multiprocessing.parent_process() is None:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def launch(command: Sequence[str], log: Path, **defaults: str) -> subprocess.Popen:
    """Start a process that can import this package, adds to `log` and outlives this one, in a session of its own.

    It gets the processors that nobody else wants: visitors wait for an app, not for a training.

    Args:
        command: words of the command.
        log: file for its output.
        defaults: environment variables, where they are not set.

    Raises:
        OSError: the system refuses.
    """
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("ab") as file:
        started = subprocess.Popen(  # nosec B603 # a list of words, without a shell; none of them is a visitor's
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**defaults, **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
    _lower_priority(started.pid)
    return started


def _lower_priority(pid: int) -> None:
    """Let a session's leader, and what it starts, yield to the app, which answers people."""
    nice = min(19, whole_from_environment(NICE, DEFAULT_NICE))
    if not nice:
        return
    psutil.Process(pid).nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if psutil.WINDOWS else nice)
    # Many a Linux shares time between sessions before it looks at processes; others, and containers, may refuse this.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def kill(leader: int) -> None:
    """End a process that `launch` started, with all of its session, at once."""
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        os.killpg(leader, signal.SIGKILL)


def process(pid: int | None = None) -> dict[str, Any]:
    """Return what identifies a process, by default this one: "pid" and "started"; ready for JSON."""
    pid = pid or os.getpid()
    return {"pid": pid, "started": psutil.Process(pid).create_time()}


def is_alive(identity: Mapping[str, Any] | None) -> bool:
    """Return whether the process that `process` identified is still running."""
    if identity is None:
        return False
    try:
        running = psutil.Process(identity["pid"])
        # Not exactly: what psutil computes moves with the system's clock.
        same = abs(running.create_time() - identity["started"]) < 1
        return same and running.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, TypeError, ValueError):  # gone, or written by an earlier version
        return False
