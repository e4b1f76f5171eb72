"""A queue of runs, each executed by a worker process: `python -m metalora train --run FOLDER`.

Which runs wait and which are being trained is recorded in their folders, so that a restarted app finds both. Workers
are sessions of their own and outlive the app. Of several apps on one workspace, and the command line, the one that
has a run's lock trains it: see run_folder.py.
"""

import contextlib
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib

from metalora.runs.failures import reason_of, reason_of_exit
from metalora.runs.run_folder import LOG, RunState, open_run
from metalora.runs.run_log import read_log
from metalora.runs.status import RunStatus, run_status
from metalora.runs.workspace import Workspace
from metalora.util.errors import InputError
from metalora.util.locks import Busy
from metalora.util.processes import kill, launch

log = logging.getLogger(__name__)

MAX_CHARGE = 10  # turns that a run can cost beside its own
GRACE_SECONDS = 60.0  # from asking a worker to stop to ending it
OVERDUE = "The run was stopped after {:g} minutes, which is the most here at a time: resume it for another turn."
POLL_SECONDS = 1.0  # for a worker that an earlier app started, since only a parent can wait for a process


def worker_command(folder: Path) -> list[str]:
    """Return the command that executes a run."""
    return [sys.executable, "-m", "metalora", "train", "--run", str(folder)]


def _end_of(folder: Path) -> dict[str, Any]:
    """Return how a run ended, for the log."""
    try:
        run = open_run(folder)
    except InputError as error:
        return {"state": "damaged", "reason": str(error)}
    return {"state": run.state, "reason": run.reason}


@dataclass
class _Worker:
    folder: Path
    process: subprocess.Popen | None = None  # None: not started yet, or started by an earlier app
    stopping: bool = False
    overdue: bool = False  # stopped because its time was over
    began: float = field(default_factory=time.monotonic)


class RunQueue:
    """The back end of runs that outlive their page, see `status.Backend`.

    Network addresses take turns, and visitors of one address do, so that someone with one run does not wait for
    another's ten. A long run counts as a turn more for each of its minutes, up to `MAX_CHARGE`.

    Args:
        workspace: where the runs are.
        workers: runs that are trained at the same time.
        per_visitor: maximum of one visitor's runs that wait or are being trained.
        per_address: the same of all visitors of one network address; 0: no limit.
        max_waiting: maximum of runs that wait.
        max_seconds: of a run by the clock, after which it is stopped and can be resumed; 0: no limit.
        command: returns the command that executes the run in a folder.
    """

    outlives_page = True

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """Return the function itself: short work is done in this process."""
        return function

    def __init__(
        self,
        workspace: Workspace,
        *,
        workers: int = 1,
        per_visitor: int = 4,
        per_address: int = 0,
        max_waiting: int = 16,
        max_seconds: float = 0,
        command: Callable[[Path], list[str]] = worker_command,
    ):
        self.workspace, self.workers, self.per_visitor, self.max_waiting = workspace, workers, per_visitor, max_waiting
        self.per_address, self.max_seconds, self.command = per_address, max_seconds, command
        self._changed = threading.Condition()
        self._waiting: list[Path] = []  # in order of arrival
        self._active: dict[Path, _Worker] = {}  # runs that are being trained
        self._turns: dict[str, float] = {}  # address or visitor → runs started when their last one was, and its minutes
        self._started, self._closed = 0, False
        self._reasons: dict[Path, str] = {}  # of failures that a full disk refused to record
        adopted = self._adopt()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        self._threads += [threading.Thread(target=self._supervise, args=(worker,), daemon=True) for worker in adopted]
        for thread in self._threads:
            thread.start()

    def _adopt(self) -> list[_Worker]:
        """Find what an earlier app left: runs that wait, and workers that still train."""
        for folder in self.workspace.all_runs():
            with contextlib.suppress(InputError):  # damaged; its visitor sees that
                state = open_run(folder).state
                if state is RunState.QUEUED:
                    self._append(folder)
                elif state is RunState.RUNNING:
                    self._active[folder] = _Worker(folder)
        return list(self._active.values())

    def start(self, visitor: str, run_id: str) -> Iterator[RunStatus]:
        """Submit a run; yield its status once."""
        return iter([self.submit(visitor, run_id)])

    def submit(self, visitor: str, run_id: str) -> RunStatus:
        """Queue a run that is new, or resume one that stopped or failed.

        Raises:
            InputError: there is no such run of this visitor, it is finished, queued or running, or the queue is full.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        with self._changed:
            if folder in self._active or folder in self._waiting:
                raise InputError("This run is queued or running already: wait for its end, or stop it.")
            self._refuse_if_full(folder)
            open_run(folder).enqueue()
            self._reasons.pop(folder, None)
            self._append(folder)
            log.info("run queued", extra={"run": run_id, "waiting": len(self._waiting)})
            self._changed.notify()
        return self.status(visitor, run_id)

    resume = submit

    def _refuse_if_full(self, folder: Path) -> None:
        address, owner = self._parties(folder)
        taken = [self._parties(other) for other in (*self._waiting, *self._active)]
        count = sum(other == owner for _, other in taken)
        if count >= self.per_visitor:
            raise InputError(
                f"You have {count} runs queued or running, which is the maximum: wait for one, or stop one."
            )
        if self.per_address and sum(other == address for other, _ in taken) >= self.per_address:
            raise InputError(
                f"Your network address has {self.per_address} runs queued or running, which is the maximum: wait for "
                "one, or stop one."
            )
        if len(self._waiting) >= self.max_waiting:
            raise InputError(f"The queue is full, {self.max_waiting} runs are waiting: try again in some minutes.")

    def _append(self, folder: Path) -> None:
        self._waiting.append(folder)
        # New visitors come before those whose run has started since, and after those who have waited longer.
        for party in self._parties(folder):
            self._turns[party] = max(self._turns.get(party, 0.0), self._started - 0.5)

    def _parties(self, folder: Path) -> tuple[str, str]:
        """Return who takes turns for a run: its network address, where that is known, and its visitor."""
        owner = folder.parents[1]
        return self.workspace.address(owner) or owner.name, owner.name

    def stop(self, visitor: str, run_id: str) -> RunStatus:
        """Stop a run after the current step, keeping what is trained; a second call does not wait for the step.

        A run that is over stays as it is; another app or the command line hears of the stop as well.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        with self._changed:
            run = open_run(folder)
            if folder in self._active:
                self._stop(self._active[folder])
            elif folder not in self._waiting:
                if run.state.active:
                    run.request_stop()
            else:
                self._waiting.remove(folder)
                self._forget_turns()
                try:
                    with run.locked():
                        run.record(RunState.STOPPED)
                except Busy:  # another app has started it
                    run.request_stop()
        return self.status(visitor, run_id)

    def _stop(self, worker: _Worker) -> None:
        # The request in the folder works between steps, the signal while a worker starts and reads images.
        worker.stopping = True
        open_run(worker.folder).request_stop()
        if worker.process is not None:
            worker.process.send_signal(signal.SIGINT)

    def status(self, visitor: str, run_id: str) -> RunStatus:
        """Return the status of a run.

        Raises:
            InputError: there is no such run of this visitor.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        with self._changed:
            status = run_status(folder)
            if folder in self._waiting:
                return replace(status, state=RunState.QUEUED, queue_position=self._order().index(folder) + 1)
            if folder in self._active:
                state = RunState.STOPPING if self._active[folder].stopping else RunState.RUNNING
                return replace(status, state=state, reason=None)
            if folder in self._reasons:
                return replace(status, state=RunState.FAILED, reason=self._reasons[folder])
            return status

    def counts(self) -> dict[str, int]:
        """Return how many runs wait and how many are being trained."""
        with self._changed:
            return {"waiting": len(self._waiting), "running": len(self._active)}

    def _order(self) -> list[Path]:
        """Return waiting runs in the order of their start: next is who had their last turn longest ago."""
        left = {folder: self._parties(folder) for folder in self._waiting}
        turns, clock, order = dict(self._turns), self._started, []
        while left:
            folder = min(left, key=lambda run: [turns.get(party, 0.0) for party in left[run]])
            clock += 1
            turns |= dict.fromkeys(left.pop(folder), clock)
            order.append(folder)
        return order

    def _forget_turns(self) -> None:
        """Forget who has no run here and owes no turn."""
        here = {party for folder in (*self._waiting, *self._active) for party in self._parties(folder)}
        self._turns = {who: turn for who, turn in self._turns.items() if who in here or turn > self._started}

    def _charge(self, worker: _Worker) -> None:
        """Count the time of a run as further turns."""
        charge = min(MAX_CHARGE, (time.monotonic() - worker.began) / 60)
        for party in self._parties(worker.folder):
            self._turns[party] = self._turns.get(party, self._started) + charge

    def _work(self) -> None:
        while (worker := self._next()) is not None:
            self._supervise(worker)

    def _next(self) -> _Worker | None:
        """Wait for a run and start it; None once the queue is closed."""
        with self._changed:
            while not self._closed and (not self._waiting or len(self._active) >= self.workers):
                self._changed.wait()
            if self._closed:
                return None
            folder = self._order()[0]
            self._waiting.remove(folder)
            self._started += 1
            self._turns |= dict.fromkeys(self._parties(folder), self._started)
            worker = self._active[folder] = _Worker(folder)
            with contextlib.suppress(InputError):  # damaged meanwhile, which its worker reports
                if open_run(folder).state is not RunState.QUEUED:  # started from the command line meanwhile
                    return worker
            log.info("run started", extra={"run": folder.name, "waiting": len(self._waiting)})
            try:
                cores = max(1, joblib.cpu_count() // self.workers)
                worker.process = launch(self.command(folder), folder / LOG, OMP_NUM_THREADS=str(cores))
            except OSError as error:
                self._reasons[folder] = reason_of(error)
            return worker

    def _supervise(self, worker: _Worker) -> None:
        """Wait for a worker's end and make sure that it is recorded."""
        try:
            code = self._wait(worker)
            self._settle(worker, code)
        except Exception as error:  # the next run must start in any case
            self._reasons[worker.folder] = reason_of(error)
        finally:
            seconds = round(time.monotonic() - worker.began, 1)
            log.info("run ended", extra={"run": worker.folder.name, "seconds": seconds, **_end_of(worker.folder)})
            with self._changed:
                self._active.pop(worker.folder, None)
                self._charge(worker)
                self._forget_turns()
                self._changed.notify_all()

    def _wait(self, worker: _Worker) -> int | None:
        """Wait for a worker's end, which is hurried when its time is over; return its exit code, if that is known."""
        if worker.process is not None:
            if not self._ends(worker, self.max_seconds):
                worker.overdue = True
                self._stop(worker)
                if not self._ends(worker, GRACE_SECONDS):
                    kill(worker.process.pid)
            code = worker.process.wait()
            if open_run(worker.folder).state is not RunState.RUNNING:
                return code
            # Another process trains it, such as the worker that an app started before it was killed.
        while (run := open_run(worker.folder)).state is RunState.RUNNING:
            time.sleep(POLL_SECONDS)
            over = time.monotonic() - worker.began - self.max_seconds
            if self.max_seconds and over > 0 and not worker.overdue:
                worker.overdue = True
                self._stop(worker)
            elif worker.overdue and over > GRACE_SECONDS:
                run.kill()
        return None

    def _ends(self, worker: _Worker, seconds: float) -> bool:
        """Wait so long for the end of a worker of this app, 0 is for ever; return whether it came."""
        assert worker.process is not None
        try:
            worker.process.wait(seconds or None)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _settle(self, worker: _Worker, code: int | None) -> None:
        # Asked first, since recording an end deletes the request.
        stopped = worker.stopping or open_run(worker.folder).stop_requested
        run = open_run(worker.folder)
        late = OVERDUE.format(self.max_seconds / 60) if worker.overdue else None
        if run.state not in (RunState.DIED, RunState.QUEUED) and not (late and run.state is RunState.STOPPED):
            return  # the worker recorded its end itself
        reason = (
            late
            or self._reasons.pop(worker.folder, None)
            or reason_of_exit(code, read_log(worker.folder), worker.folder)
        )
        try:
            with run.locked():
                run.record(*((RunState.STOPPED, late) if stopped else (RunState.FAILED, reason)))
        except Busy:  # another app or the command line trains it
            return
        except InputError:
            self._reasons[worker.folder] = reason

    def close(self, *, stop_runs: bool = False) -> None:
        """Start nothing more. Workers continue and are adopted by the next queue, or are stopped and waited for."""
        with self._changed:
            self._closed = True
            if stop_runs:
                for worker in self._active.values():
                    self._stop(worker)
            self._changed.notify_all()
        if stop_runs:
            for thread in self._threads:
                thread.join()
