"""The status of a run that a page shows, and the interface of what executes runs."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from metalora.runs.run_folder import RunFolder, RunState, open_run
from metalora.runs.run_log import last_event


@dataclass(frozen=True)
class RunStatus:
    """The status of a run.

    Attributes:
        run: its id, the name of its folder.
        state: never "died", which shows as "failed" or "stopped".
        step: steps done.
        steps: steps in all.
        seconds_left: of the remaining steps, as measured last; None unless the run is active and a step is done.
        reason: why it failed or was stopped by the app, and what to do.
        metrics: of the last step.
        queue_position: from 1, while it waits.
    """

    run: str
    state: RunState
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    reason: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    queue_position: int | None = None

    @property
    def fraction(self) -> float | None:
        """The fraction of its steps that are done; None before the first and after the last."""
        over = self.state in (RunState.NEW, RunState.FINISHED)
        return self.step / self.steps if self.step and not over else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"state": str(self.state)}


def run_status(path: Path) -> RunStatus:
    """Return the status of the run in a folder.

    Raises:
        InputError: there is no run, or its run.json is damaged.
    """
    run, event = open_run(path), last_event(path)
    state = _shown(run)
    told = state is RunState.FAILED or run.state is RunState.STOPPED  # one that died after a request just stopped
    return RunStatus(
        run=path.name,
        state=state,
        step=event["step"] if event else 0,
        steps=run.config.training.steps,
        # A resumed run keeps the estimate of its last session until a step of this one is done.
        seconds_left=event["seconds_left"] if event and run.state.active else None,
        # A server's paths are not shown to visitors.
        reason=run.reason.replace(f"{path}/", "") if run.reason and told else None,
        metrics=event["metrics"] if event else {},
    )


def _shown(run: RunFolder) -> RunState:
    if run.state is RunState.RUNNING and run.stop_requested:
        return RunState.STOPPING
    if run.state is RunState.DIED:
        return RunState.STOPPED if run.stop_requested else RunState.FAILED
    return run.state


class Backend(Protocol):
    """Executes visitors' runs; every call checks whose run it is.

    Attributes:
        outlives_page: whether a run continues when its page is closed.
    """

    outlives_page: bool

    def start(self, visitor: str, run_id: str) -> Iterator[RunStatus]:
        """Start or resume a run; yield its status, repeatedly where the caller's event trains it, else once."""

    def stop(self, visitor: str, run_id: str) -> RunStatus:
        """Stop a run after the current step; what is trained is kept."""

    def status(self, visitor: str, run_id: str) -> RunStatus:
        """Return the status of a run."""

    def counts(self) -> dict[str, int]:
        """Return how many runs wait and how many are being trained, where that is known."""

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """Return the same function, executed where this back end computes; arguments and result are picklable."""
