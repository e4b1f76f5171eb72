"""A queue of runs, each carried out by a process of its own: `python -m metalora train --run FOLDER`.

The queue keeps nothing to itself: which runs wait and which are being trained stands in their folders, so that an app
that starts again finds both. Workers are sessions of their own and outlive the app.
"""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import joblib

from metalora.runs.failures import reason_of, reason_of_exit
from metalora.runs.run_log import LOG, read_log
from metalora.runs.status import RunStatus, run_status
from metalora.runs.store import open_run
from metalora.runs.workspace import Workspace
from metalora.util.errors import InputError
from metalora.util.processes import launch

SECONDS_BETWEEN_LOOKS = 1.0  # at a worker that an earlier app started: only a parent can wait for a process


def worker_command(folder: Path) -> list[str]:
    """What carries a run out."""
    return [sys.executable, "-m", "metalora", "train", "--run", str(folder)]


@dataclass
class _Job:
    folder: Path
    process: subprocess.Popen | None = None  # None: not started yet, or a worker that an earlier app started
    told_to_stop: bool = False


class RunQueue:
    """The back end of runs that outlive their page, see `run_status.Backend`.

    Bounded and fair: visitors take turns, so that someone with one run is not behind another's ten.

    Args:
        workers: runs that are trained at the same time.
        per_visitor: the most runs of one visitor that wait or are being trained.
        most: the most runs that wait.
        command: what carries the run of a folder out.
    """

    outlives_page = True

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """See `run_status.Backend`: short work is done in this process."""
        return function

    def __init__(
        self,
        workspace: Workspace,
        *,
        workers: int = 1,
        per_visitor: int = 4,
        most: int = 16,
        command: Callable[[Path], list[str]] = worker_command,
    ):
        self.workspace, self.workers, self.per_visitor, self.most = workspace, workers, per_visitor, most
        self.command = command
        self._changed = threading.Condition()
        self._waiting: list[Path] = []  # as they came
        self._jobs: dict[Path, _Job] = {}  # being trained
        self._turns: dict[str, float] = {}  # visitor → when a run of theirs was last started, in runs
        self._started, self._closed = 0, False
        self._reasons: dict[Path, str] = {}  # of failures that a full disk refused to record
        adopted = self._take_up()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        self._threads += [threading.Thread(target=self._look_after, args=(job,), daemon=True) for job in adopted]
        for thread in self._threads:
            thread.start()

    def _take_up(self) -> list[_Job]:
        """Find what an earlier app left: runs that wait, and workers that are still at it."""
        for folder in self.workspace.all_runs():
            with contextlib.suppress(InputError):  # a damaged folder is told to whoever asks for it
                status = open_run(folder).status
                if status == "queued":
                    self._append(folder)
                elif status == "running":
                    self._jobs[folder] = _Job(folder)
        return list(self._jobs.values())

    def start(self, visitor: str, run_id: str) -> Iterator[RunStatus]:
        """`submit`; how the run stands, once."""
        return iter([self.submit(visitor, run_id)])

    def submit(self, visitor: str, run_id: str) -> RunStatus:
        """Queue a run that is new, or resume one that stopped or failed.

        Raises:
            InputError: there is no such run of this visitor, it is finished or on its way, or the queue is full.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        with self._changed:
            if folder in self._jobs or folder in self._waiting:
                raise InputError("This run is on its way already: wait for its end, or stop it.")
            self._refuse_if_full(_owner(folder))
            open_run(folder).enqueue()
            self._reasons.pop(folder, None)
            self._append(folder)
            self._changed.notify()
        return self.status(visitor, run_id)

    resume = submit

    def _refuse_if_full(self, visitor: str) -> None:
        own = sum(_owner(folder) == visitor for folder in (*self._waiting, *self._jobs))
        if own >= self.per_visitor:
            raise InputError(f"You have {own} runs on their way, which is the most: wait for one, or stop one.")
        if len(self._waiting) >= self.most:
            raise InputError(f"The queue is full, {self.most} runs are waiting: try again in some minutes.")

    def _append(self, folder: Path) -> None:
        self._waiting.append(folder)
        # Who comes anew comes before those who were served since, and behind those who have waited longer.
        self._turns.setdefault(_owner(folder), self._started - 0.5)

    def stop(self, visitor: str, run_id: str) -> RunStatus:
        """Stop a run after the step at hand, keeping what is trained; a second call does not wait for the step.

        Nothing happens to a run that is over.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        with self._changed:
            if folder in self._waiting:
                self._waiting.remove(folder)
                self._forget_turn(_owner(folder))
                open_run(folder).record("stopped")
            elif folder in self._jobs:
                self._tell_to_stop(self._jobs[folder])
        return self.status(visitor, run_id)

    def _tell_to_stop(self, job: _Job) -> None:
        # The word in the folder is heard between steps, the signal while a worker starts and reads pictures.
        job.told_to_stop = True
        open_run(job.folder).request_stop()
        if job.process is not None:
            job.process.send_signal(signal.SIGINT)

    def status(self, visitor: str, run_id: str) -> RunStatus:
        """How a run stands.

        Raises:
            InputError: there is no such run of this visitor.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        with self._changed:
            found = run_status(folder)
            if folder in self._waiting:
                return replace(found, state="queued", place=self._order().index(folder) + 1)
            if folder in self._jobs:
                return replace(found, state="stopping" if self._jobs[folder].told_to_stop else "running", reason=None)
            if folder in self._reasons:
                return replace(found, state="failed", reason=self._reasons[folder])
            return found

    def _order(self) -> list[Path]:
        """Waiting runs as they will start: next comes the visitor whose last turn is longest ago."""
        left, turns, clock, order = list(self._waiting), dict(self._turns), self._started, []
        while left:
            folder = min(left, key=lambda run: turns[_owner(run)])
            left.remove(folder)
            order.append(folder)
            clock += 1
            turns[_owner(folder)] = clock
        return order

    def _forget_turn(self, visitor: str) -> None:
        if not any(_owner(folder) == visitor for folder in (*self._waiting, *self._jobs)):
            self._turns.pop(visitor, None)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._look_after(job)

    def _next(self) -> _Job | None:
        """Wait for a run and start it; None once the queue is closed."""
        with self._changed:
            while not self._closed and (not self._waiting or len(self._jobs) >= self.workers):
                self._changed.wait()
            if self._closed:
                return None
            folder = self._order()[0]
            self._waiting.remove(folder)
            self._started += 1
            self._turns[_owner(folder)] = self._started
            job = self._jobs[folder] = _Job(folder)
            with contextlib.suppress(InputError):  # damaged meanwhile: its worker says so
                if open_run(folder).status != "queued":  # started from the command line meanwhile
                    return job
            try:
                cores = max(1, joblib.cpu_count() // self.workers)
                job.process = launch(self.command(folder), folder / LOG, OMP_NUM_THREADS=str(cores))
            except OSError as error:
                self._reasons[folder] = reason_of(error)
            return job

    def _look_after(self, job: _Job) -> None:
        """Wait for a worker's end and make sure that it is recorded."""
        try:
            code = self._wait(job)
            self._settle(job, code)
        except Exception as error:  # whatever it was, the next run must start
            self._reasons[job.folder] = reason_of(error)
        finally:
            with self._changed:
                self._jobs.pop(job.folder, None)
                self._forget_turn(_owner(job.folder))
                self._changed.notify_all()

    def _wait(self, job: _Job) -> int | None:
        if job.process is not None:
            return job.process.wait()
        while open_run(job.folder).status == "running":
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return None

    def _settle(self, job: _Job, code: int | None) -> None:
        # Asked before its state is read, for whoever records an end takes the word away.
        stopped = job.told_to_stop or open_run(job.folder).stop_requested
        run = open_run(job.folder)
        if not run.died and run.status != "queued":
            return  # the worker recorded its end itself
        reason = self._reasons.pop(job.folder, None) or reason_of_exit(code, read_log(job.folder), job.folder)
        try:
            run.record(*(("stopped",) if stopped else ("failed", reason)))
        except InputError:
            self._reasons[job.folder] = reason

    def close(self, *, stop_runs: bool = False) -> None:
        """Start nothing more. Workers go on and are taken up by the next queue, or are stopped and waited for."""
        with self._changed:
            self._closed = True
            if stop_runs:
                for job in self._jobs.values():
                    self._tell_to_stop(job)
            self._changed.notify_all()
        if stop_runs:
            for thread in self._threads:
                thread.join()


def _owner(folder: Path) -> str:
    return folder.parents[1].name
