"""Runs and short work inside the event that asks for them, for machines that lend a GPU to one event (ZeroGPU).

There a decorator forks for each call: the child trains, yields plain values and cannot change the parent's memory, so
that everything lasting goes through the run's folder. A run ends with its page, at its last checkpoint, and can be
resumed.
"""

import contextlib
import functools
import traceback
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from metalora.runs.execute import execute
from metalora.runs.run_folder import LOG, RunState, open_run
from metalora.runs.status import RunStatus, run_status
from metalora.runs.workspace import Workspace
from metalora.util.device import use_device
from metalora.util.errors import InputError
from metalora.util.locks import Busy

Execute = Callable[[Path], Generator[RunStatus, None, None]]


def execute_here(folder: Path, device: str | None = None) -> Generator[RunStatus, None, None]:
    """Execute the run in `folder` in this process, yielding its status after every step and at its end.

    Errors are recorded in the folder and shown by the last status, never raised; tracebacks are in the log.

    Args:
        folder: of the run.
        device: in place of that of the run's settings.

    Raises:
        InputError: there is no run, or another process trains it.
    """
    run = open_run(folder)
    try:
        with contextlib.closing(execute(run, device=device)) as events:
            for _ in events:
                yield run_status(folder)
    except Exception as error:
        if run.state is not RunState.FAILED:
            raise
        text = str(error) if isinstance(error, InputError) else traceback.format_exc()
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text.rstrip() + "\n")
    yield run_status(folder)


class InEvent:
    """The back end of runs that live in an event, see `status.Backend`.

    Args:
        workspace: where the runs are.
        decorate: lends the GPU to a run, such as `spaces.GPU(duration=…)`; for a generator function of a path.
        decorate_short: the same for a function that returns.
        device: where events compute, which need not be where this process does; None: the same.
    """

    outlives_page = False

    def __init__(
        self,
        workspace: Workspace,
        decorate: Callable[[Execute], Execute] = lambda function: function,
        decorate_short: Callable[[Callable], Callable] = lambda function: function,
        *,
        device: str | None = None,
    ):
        self.workspace, self.device, self._decorate_short = workspace, device, decorate_short

        def in_child(folder: Path) -> Generator[RunStatus, None, None]:
            yield from execute_here(folder, device)

        self._execute = decorate(in_child)

    def start(self, visitor: str, run_id: str) -> Generator[RunStatus, None, None]:
        """Execute the run, yielding its status; closing the generator stops it.

        Raises:
            InputError: there is no such run of this visitor, or it is finished or being trained.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        open_run(folder).enqueue()
        try:
            with contextlib.closing(self._execute(folder)) as statuses:
                yield from statuses
        except Exception as error:  # of the lender: no GPU left today, time over, the child died
            self._settle(folder, RunState.FAILED, f"The event ended early ({error}): resume the run.")
            yield run_status(folder)
        finally:
            if open_run(folder).state is RunState.RUNNING:
                open_run(folder).request_stop()
            self._settle(folder, RunState.STOPPED)

    def _settle(self, folder: Path, state: RunState, reason: str | None = None) -> None:
        """Record how a run ended whose process could not do so."""
        run = open_run(folder)
        if run.state in (RunState.DIED, RunState.QUEUED):
            with contextlib.suppress(Busy), run.locked():  # another process may train it by now
                run.record(state, reason)

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """Return a function that is executed where events compute; its `InputError` stays one.

        Lenders replace exceptions of a child by their own, without the text, so that messages travel as values.
        """

        def in_child(*arguments: Any) -> tuple[Any, str | None]:
            try:
                with use_device(self.device):
                    return function(*arguments), None
            except InputError as problem:
                return None, str(problem)

        decorated = self._decorate_short(in_child)

        @functools.wraps(function)
        def wrapped(*arguments: Any) -> Any:
            result, problem = decorated(*arguments)
            if problem:
                raise InputError(problem)
            return result

        return wrapped

    def stop(self, visitor: str, run_id: str) -> RunStatus:
        """Request a stop after the current step; a run that is not being trained stays as it is."""
        folder = self.workspace.run_folder(visitor, run_id)
        run = open_run(folder)
        if run.state.active:
            run.request_stop()
        return self.status(visitor, run_id)

    def counts(self) -> dict[str, int]:
        """Return nothing: events are counted by who lends the GPU."""
        return {}

    def status(self, visitor: str, run_id: str) -> RunStatus:
        """Return the status of a run; one whose event is gone was stopped."""
        folder = self.workspace.run_folder(visitor, run_id)
        status = run_status(folder)
        died = open_run(folder).state is RunState.DIED
        return replace(status, state=RunState.STOPPED, reason=None) if died else status
