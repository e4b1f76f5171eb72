"""A comparison in a process of its own, which ends with the page that watches it: `python -m metalora compare`.

A training cannot be interrupted from another thread, and worker processes would outlive it in the app. So the app runs
the command that it shows, follows the files of the jobs, and ends the whole group of processes when the page is closed.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job_files import JOBS, RunningJob, remove_stale_progress, running_jobs
from metalora.experiments.results import adopt_bundled, missing_jobs
from metalora.experiments.runner import jobs_of, seconds_left
from metalora.runs.failures import reason_of_exit
from metalora.util.errors import InputError
from metalora.util.processes import launch

LOG, STOP = "log.txt", "stop"
OVERDUE = "The comparison was ended after {:g} minutes, which is the most here at a time: run what is missing again."
POLL_SECONDS, KILL_SECONDS = 1.0, 10.0  # the second: until processes that were asked to end are killed


@dataclass(frozen=True)
class Stage:
    """Progress of a comparison.

    Attributes:
        done: jobs that are finished.
        total: jobs in all.
        seconds_left: known once a job is running here.
    """

    done: int
    total: int
    seconds_left: float | None = None


def stage(config: ComparisonConfig, folder: Path) -> Stage:
    """Return the progress of a comparison that does not tune, bundled jobs included."""
    total = len(jobs_of(config))
    return Stage(total - len(missing_jobs(config, folder)), total)


def request_stop(folder: Path) -> None:
    """Ask the process that runs a comparison in `folder`, or waits for its turn, to stop."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).touch()


def clear_stop(folder: Path) -> None:
    """Withdraw `request_stop`."""
    (folder / STOP).unlink(missing_ok=True)


def run_in_subprocess(
    config: ComparisonConfig, folder: Path, command: str, *, max_seconds: float = 0
) -> Iterator[Stage]:
    """Run the jobs that `folder` lacks in processes of their own, yielding every second.

    It ends with the last job, or soon after `request_stop`; closing the generator ends it at once. Finished jobs are
    kept, and the next call resumes from them.

    Args:
        config: what is compared.
        folder: of the comparison.
        command: `python -m metalora compare …` of this configuration, without a folder.
        max_seconds: after which it is ended; 0: no limit.

    Raises:
        InputError: the comparison failed, or its time is over; the message says why.
    """
    now = first = stage(config, folder)
    yield now
    if now.done == now.total or (folder / STOP).exists():
        return
    (folder / JOBS).mkdir(parents=True, exist_ok=True)  # by which the command recognises its folder
    remove_stale_progress(folder)
    adopt_bundled(config, folder)
    words = [sys.executable, *shlex.split(command)[1:], "--out", str(folder)]
    (folder / LOG).unlink(missing_ok=True)
    began, process = time.monotonic(), launch(words, folder / LOG)
    try:
        # Once all jobs are done, the command's own table is not needed.
        while process.poll() is None and now.done < now.total and not (folder / STOP).exists():
            yield now
            if max_seconds and time.monotonic() - began > max_seconds:
                raise InputError(OVERDUE.format(max_seconds / 60))
            _wait(process)
            now = _timed(stage(config, folder), first, began, running_jobs(folder))
    finally:
        _end(process)
    if process.returncode and now.done < now.total and not (folder / STOP).exists():
        log = (folder / LOG).read_text(encoding="utf-8", errors="replace")
        raise InputError(reason_of_exit(process.returncode, log, folder))
    yield now


def _wait(process: subprocess.Popen) -> None:
    try:
        process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _timed(now: Stage, first: Stage, began: float, running: list[RunningJob]) -> Stage:
    """Add the time left, once some of the trainings is done."""
    elapsed = time.monotonic() - began
    return replace(now, seconds_left=seconds_left(elapsed, now.done - first.done, now.total - now.done, running))


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started, without waiting, since an event loop may call this."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)  # it leads a session, hence a group, of this number
    threading.Thread(target=_kill_late, args=(process,), daemon=True).start()


def _kill_late(process: subprocess.Popen) -> None:
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
