"""Runs and short work inside the event that asks for them, for machines that lend a GPU to one event (ZeroGPU).

There a decorator forks for each call: the child trains, yields plain values and cannot change the parent's memory. So
what lasts goes through the run's folder. A run ends with its page, at its last checkpoint, and can be resumed.
"""

import contextlib
import functools
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from metalora.runs.run_log import LOG
from metalora.runs.status import RunStatus, run_status
from metalora.runs.store import open_run
from metalora.runs.workspace import Workspace
from metalora.util.device import AUTO
from metalora.util.errors import InputError

Execute = Callable[[Path], Iterator[RunStatus]]


def execute_here(folder: Path) -> Iterator[RunStatus]:
    """Train the run in `folder` in this process, yielding how it stands after every step and at its end.

    What goes wrong is recorded in the folder and told by the last status, never raised; its traceback is in the log.

    Raises:
        InputError: there is no run, or another process trains it.
    """
    os.environ.pop(AUTO, None)  # the parent has no GPU to pick, this process may have
    run = open_run(folder)
    try:
        with contextlib.closing(run.execute()) as events:
            for _ in events:
                yield run_status(folder)
                if run.stop_requested:
                    break
    except Exception as error:
        if run.status != "failed":
            raise
        text = str(error) if isinstance(error, InputError) else traceback.format_exc()
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text.rstrip() + "\n")
    yield run_status(folder)


class InEvent:
    """The back end of runs that live in an event, see `run_status.Backend`.

    Args:
        decorate: what lends the GPU to a run, such as `spaces.GPU(duration=…)`; for a generator function of a path.
        decorate_short: the same for a function that returns.
    """

    outlives_page = False

    def __init__(
        self,
        workspace: Workspace,
        decorate: Callable[[Execute], Execute] = lambda function: function,
        decorate_short: Callable[[Callable], Callable] = lambda function: function,
    ):
        self.workspace, self._execute, self._decorate_short = workspace, decorate(execute_here), decorate_short

    def start(self, visitor: str, run_id: str) -> Iterator[RunStatus]:
        """Train the run, yielding how it stands; closing the generator stops it.

        Raises:
            InputError: there is no such run of this visitor, or it is finished or being trained.
        """
        folder = self.workspace.run_folder(visitor, run_id)
        open_run(folder).enqueue()
        try:
            with contextlib.closing(self._execute(folder)) as statuses:
                yield from statuses
        except Exception as error:  # the lender's own: no GPU left today, time over, the child died
            if open_run(folder).died or open_run(folder).status == "queued":
                open_run(folder).record("failed", f"The event ended early ({error}): resume the run.")
            yield run_status(folder)
        finally:
            self._end(folder)

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """See `run_status.Backend`; an `InputError` of the function stays one.

        Lenders make their own errors of exceptions in a child, without their text: so a sentence travels as a value.
        """

        def there(*arguments: Any) -> tuple[Any, str | None]:
            os.environ.pop(AUTO, None)
            try:
                return function(*arguments), None
            except InputError as problem:
                return None, str(problem)

        lent = self._decorate_short(there)

        @functools.wraps(function)
        def here(*arguments: Any) -> Any:
            result, problem = lent(*arguments)
            if problem:
                raise InputError(problem)
            return result

        return here

    def _end(self, folder: Path) -> None:
        """Whoever still trains it is told to stop; one that is gone is recorded."""
        run = open_run(folder)
        if run.status == "running":
            run.request_stop()
        elif run.died or run.status == "queued":
            run.record("stopped")

    def stop(self, visitor: str, run_id: str) -> RunStatus:
        """Ask for a stop after the step at hand; nothing happens to a run that is not being trained."""
        folder = self.workspace.run_folder(visitor, run_id)
        if open_run(folder).status in ("queued", "running"):
            open_run(folder).request_stop()
        return self.status(visitor, run_id)

    def status(self, visitor: str, run_id: str) -> RunStatus:
        """How a run stands; one whose event is gone was stopped."""
        folder = self.workspace.run_folder(visitor, run_id)
        found = run_status(folder)
        return replace(found, state="stopped", reason=None) if open_run(folder).died else found
