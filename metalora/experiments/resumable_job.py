"""One job as a process runs it: resumed from its checkpoint, its progress and result in files, ended when asked."""

import contextlib
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from metalora.experiments.config import JobConfig
from metalora.experiments.job import check_fingerprint, run_job
from metalora.experiments.job_files import (
    CHECKPOINT,
    job_file,
    remove_progress,
    stop_requested,
    write_progress,
    write_result,
)
from metalora.training.loop import Progress
from metalora.training.tracking import Tracker
from metalora.util.cluster import is_shared, leave_if_cancelled
from metalora.util.errors import LayersLeftOut
from metalora.util.processes import end_with_parent

Ran = tuple[dict[str, Any] | None, float]  # the result of a job, None where it was stopped, and the fraction that ran
SECONDS_BETWEEN_UPDATES = 1.0  # of the progress


def run_and_write(job: JobConfig, folder: Path, log_to: str | None = None, threads: int | None = None) -> Ran:
    """Run one job in this process, on so many threads, writing its progress and then its result.

    Returns:
        Its result, and the fraction of it that was run here; no result where it was asked to stop.
    """
    end_with_parent()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        result, ran = _run(job, folder, log_to)
    finally:
        torch.set_num_threads(before)
    if result is not None:
        write_result(job, folder, result)
    return result, ran


def run_on_worker(job: JobConfig, file: Path, images: str) -> tuple[dict[str, Any] | None, float, bool]:
    """Run one job on a worker, with checkpoints beside the file of `probe` where that is shared.

    Returns:
        Its result, the fraction of it that was run here, and whether the folder is not shared.

    Raises:
        InputError: the images that the worker reads are not those of the fingerprint.
    """
    check_fingerprint(job, images)
    with contextlib.ExitStack() as stack:
        shared = is_shared(file)
        folder = file.parents[1] if shared else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return *_run(job, folder), not shared


class _Stopped(Exception):
    """A job was asked to stop."""


class _Watch:
    """What a running job says of itself, in a file and to a tracker; it raises `_Stopped` where it is asked to stop.

    Args:
        job: that runs.
        folder: of the results.
        log_to: tracker, see `run_comparison`; it is opened at the first step.
    """

    def __init__(self, job: JobConfig, folder: Path, log_to: str | None):
        self.job, self.folder, self.log_to = job, folder, log_to
        self.written = 0.0
        self.resumed_at: float | None = None
        self.tracker: Tracker | None = None

    def __enter__(self) -> "_Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self.tracker is not None:
            self.tracker.close()
        remove_progress(self.job, self.folder)

    def __call__(self, event: Progress) -> None:
        leave_if_cancelled()
        if self.log_to is not None:
            self.tracker = self.tracker or self._opened(self.log_to)
            self.tracker.log(event)
        if self.resumed_at is None:
            self.resumed_at = (event.step - 1) / event.steps
        if time.monotonic() - self.written > SECONDS_BETWEEN_UPDATES:
            write_progress(self.job, self.folder, event.step / event.steps, self.resumed_at)
            self.written = time.monotonic()
        if stop_requested(self.folder):
            raise _Stopped

    def _opened(self, log_to: str) -> Tracker:
        settings = {"folder": str(self.folder), **self.job.to_dict()}
        return Tracker(log_to, name=self.job.key, settings=settings, folder=self.folder / "tensorboard")


def _run(job: JobConfig, folder: Path, log_to: str | None = None) -> Ran:
    """Run one job in this process, writing its progress and checkpoints.

    Returns:
        Its result, and the fraction of it that was run here; no result where it was asked to stop.
    """
    if stop_requested(folder):
        return None, 0.0
    checkpoint = job_file(folder, job).with_suffix(CHECKPOINT)
    try:
        with _Watch(job, folder, log_to) as watch, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore", LayersLeftOut)  # reported by check_comparison, once for all seeds
            result = run_job(job, checkpoint, watch)
    except _Stopped:
        return None, 0.0
    if caught:  # kept with the result, the one thing that a process hands on
        result["warnings"] = list(dict.fromkeys(str(warning.message) for warning in caught))
    return result, 1 - (watch.resumed_at or 0)
