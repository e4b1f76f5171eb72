"""How a run stands, read from its folder; and what carries runs out: one interface for every back end."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from metalora.runs.run_log import last_event
from metalora.runs.store import open_run


@dataclass(frozen=True)
class RunStatus:
    """How a run stands."""

    run: str  # its id, the name of its folder
    state: str  # "new", "queued", "running", "stopping", "stopped", "failed" or "finished"
    step: int = 0  # steps done
    steps: int = 0  # steps in all
    seconds_left: float | None = None  # while it trains
    reason: str | None = None  # why it failed, and what to change
    metrics: dict[str, float] = field(default_factory=dict)  # of the last step
    place: int | None = None  # in the queue, from 1

    @property
    def active(self) -> bool:
        """Whether something is still going to happen by itself."""
        return self.state in ("queued", "running", "stopping")

    @property
    def share(self) -> float | None:
        """Of its steps that are done, 0 to 1, where it is on the way or was left there; None otherwise."""
        return self.step / self.steps if self.step and self.state not in ("new", "finished") else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def run_status(folder: Path) -> RunStatus:
    """How the run in `folder` stands; a queue knows its place besides.

    Raises:
        InputError: there is no run, or its run.json is damaged.
    """
    run, event = open_run(folder), last_event(folder)
    stopping = run.status == "running" and run.stop_requested
    return RunStatus(
        run=folder.name,
        state="stopping" if stopping else run.status,
        step=event["step"] if event else 0,
        steps=run.config.training.steps,
        seconds_left=event["seconds_left"] if event and run.status == "running" else None,
        reason=run.reason and run.reason.replace(f"{folder}/", ""),  # where a server keeps it is nobody's business
        metrics=event["metrics"] if event else {},
    )


class Backend(Protocol):
    """Carries visitors' runs out. Whose run it is, is checked at every call.

    Attributes:
        outlives_page: whether a run goes on when its page is closed.
    """

    outlives_page: bool

    def start(self, visitor: str, run_id: str) -> Iterator[RunStatus]:
        """Start or resume a run; how it stands, again and again where the caller's event carries it, else once."""

    def stop(self, visitor: str, run_id: str) -> RunStatus:
        """Stop a run after the step at hand; it keeps what is trained."""

    def status(self, visitor: str, run_id: str) -> RunStatus:
        """How a run stands."""

    def wrap_for_gpu(self, function: Callable) -> Callable:
        """The same function, carried out where this back end computes; what it is given and returns is picklable."""
