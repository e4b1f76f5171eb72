"""Training events in an experiment tracker: TensorBoard, Trackio or Weights & Biases, where it is installed."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metalora.training.loop import Progress
from metalora.util.errors import InputError

PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}


def track(
    events: Iterator[Progress],
    to: str,
    *,
    name: str,
    project: str = "metalora",
    settings: Mapping[str, Any] | None = None,
    folder: str | Path = "runs/tensorboard",
) -> Iterator[Progress]:
    """Pass the events of `fit` on, and log their metrics; an interruption ends the tracker's run as well.

    Args:
        events: of a training.
        to: "tensorboard", "trackio" or "wandb".
        name: of the run.
        project: of the tracker; TensorBoard has none.
        settings: of the run, plain values.
        folder: of TensorBoard.

    Raises:
        InputError: there is no such tracker, or it is not installed.
    """
    return _passed(events, Tracker(to, name=name, project=project, settings=settings, folder=folder))


def _passed(events: Iterator[Progress], tracker: "Tracker") -> Iterator[Progress]:
    with contextlib.closing(tracker):
        for event in events:
            tracker.log(event)
            yield event


class Tracker:
    """A run in a tracker, for events that come one by one; see `track` for the arguments.

    Raises:
        InputError: there is no such tracker, or it is not installed.
    """

    def __init__(
        self,
        to: str,
        *,
        name: str,
        project: str = "metalora",
        settings: Mapping[str, Any] | None = None,
        folder: str | Path = "runs/tensorboard",
    ):
        check_tracker(to)
        opened = (
            _tensorboard(Path(folder) / name, settings)
            if to == "tensorboard"
            else _service(to, project, name, settings)
        )
        self._log, self.close = opened

    def log(self, event: Progress) -> None:
        """Log the metrics and learning rates of a step."""
        self._log({**event.metrics, **{f"lr/{group}": lr for group, lr in event.lrs.items()}}, event.step)


def check_tracker(to: str) -> None:
    """Check, before a training begins, that a tracker can be used.

    Raises:
        InputError: there is no such tracker, or it is not installed.
    """
    if to not in PACKAGES:
        raise InputError(f"Unknown tracker {to!r}: use {', '.join(PACKAGES)}.")
    try:
        importlib.import_module(PACKAGES[to])
    except ModuleNotFoundError as error:
        raise InputError(f"The tracker {to} is not installed: pip install {PACKAGES[to]}.") from error


def _tensorboard(folder: Path, settings: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Return how to log and how to close."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in (settings or {}).items()))

    def log(values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            writer.add_scalar(key, value, step)

    return log, writer.close


def _service(package: str, project: str, name: str, settings: Mapping[str, Any] | None) -> tuple[Any, Any]:
    module = importlib.import_module(package)  # Trackio has the interface of Weights & Biases
    module.init(project=project, name=name, config=dict(settings or {}))
    return lambda values, step: module.log(values, step=step), module.finish
