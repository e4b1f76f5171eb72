"""What every training loop shares: schedule, progress with time left, checkpoints, resuming.

A loop is a function `step(i)` that trains on batch i and returns its metrics. All random draws of a step come from a
generator seeded by the training's seed and i, so that a resumed training sees the batches that it would have seen.
"""

import json
import math
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._pytree import tree_leaves

from metalora.training.config import UNNAMED
from metalora.util.checks import check_int
from metalora.util.distributed import current_processes
from metalora.util.errors import InputError
from metalora.util.files import read_state, write_state
from metalora.util.paths import expand
from metalora.util.renamed import upgrade_settings


class Stateful(Protocol):
    """A module, an optimiser, a schedule: anything whose state can be saved and restored."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore the state."""


@dataclass(frozen=True)
class Progress:
    """What a loop reports after a step.

    Attributes:
        step: steps done; 0 before the first one, when nothing but validation is measured.
        steps: steps in all.
        metrics: losses and accuracies of this step.
        lrs: learning rate of each parameter group, in this step.
        images_per_second: over the last few steps; 0 before the first.
        seconds_left: until the last step is done; None before the first.
    """

    step: int
    steps: int
    metrics: dict[str, float]
    lrs: dict[str, float]
    images_per_second: float
    seconds_left: float | None


def clock(seconds: float) -> str:
    """Format a duration as in 1:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


PART, LEAST = 0.02, 1.0  # of a training, and seconds, between checkpoints; PART is also what they may take of the time
SPENT = 0.015  # of the time, on checkpoints before the last
RATE = 250e6  # bytes that are written in a second, until one checkpoint has shown it
IMAGES = "images"  # the part of a training's identity that tells its images and labels
WARMUP_FRACTION, WARMUP_STEPS = 0.05, 20


def warmup_cosine(optimizer: Optimizer, *cycles: int) -> LambdaLR:
    """Build a schedule of linear warm-up over 5 % of the steps, then half a cosine to zero, for each of `cycles`.

    Short trainings warm up for 20 steps (a third of them at most): Adam's first steps, taken at the full learning rate
    before it has estimated the scale of the gradients, destroy the features.

    Args:
        optimizer: whose learning rates are scheduled.
        cycles: steps of each cycle.
    """

    def factor(step: int) -> float:
        for steps in cycles:
            if step < steps:
                return _factor(step, steps)
            step -= steps
        return 0.0

    return LambdaLR(optimizer, factor)


def _factor(step: int, steps: int) -> float:
    """Return the factor on the learning rate in a step of one cycle."""
    rise = max(1, round(WARMUP_FRACTION * steps), min(WARMUP_STEPS, steps // 3))
    fall = max(1, steps - rise)
    return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / fall))


def run_loop(
    step: Callable[[int], dict[str, float]],
    steps: int,
    batch_size: int,
    optimizer: Optimizer,
    parts: dict[str, Stateful],
    identity: dict[str, Any],
    *,
    checkpoint: str | Path | None = None,
    every: float = 30.0,
    start: Callable[[], dict[str, float]] | None = None,
    last: Callable[[], list[float]] | None = None,
) -> Generator[Progress, None, Progress | None]:
    """Call `step` until `steps` are done, yielding progress after each.

    Args:
        step: trains on batch i and returns metrics, among them "loss".
        steps: in all.
        batch_size: images per step, for the pace.
        optimizer: whose learning rates progress reports.
        parts: what a checkpoint holds, by name.
        identity: settings that decide what the training ends with; a checkpoint with other values is refused, one with
            further settings is not.
        checkpoint: file to resume from when it exists and to write now and then, at the end, and when the loop is left
            early between steps (the generator closed, or Ctrl-C there). Ctrl-C in the middle of a step saves nothing,
            since half a step cannot be resumed. A process that is killed loses the time since the last one and a step.
            A loop that is resumed after its last step yields that step's progress again.
        every: seconds between checkpoints; less where the whole training takes less than 50 times as long, but not
            under `LEAST`. It is 67 times what writing one takes, up to this or 2 % of the training.
        start: called before the first step of a training that is not resumed; if it returns metrics, they are yielded
            as step 0.
        last: returns numbers of the last step, where the metrics may be of the step before; nothing is saved unless
            they are finite.

    Returns:
        The last step's progress; None after a checkpoint of an earlier version that lacks it.

    Raises:
        InputError: the checkpoint belongs to another training, its folder is gone, or the loss or its gradient is not
            finite any more.
    """
    identity = json.loads(json.dumps(identity))  # as a checkpoint gives it back: lists in place of tuples
    checkpoint = None if checkpoint is None else expand(checkpoint)
    done, progress = _resume(checkpoint, parts, identity, steps) if checkpoint is not None else (0, None)
    has_folder = checkpoint is not None and checkpoint.parent.is_dir()
    first, written, pace, cost, stepping = done, done, 0.0, 0.0, False

    def save() -> None:
        nonlocal written
        finite = all(map(math.isfinite, last() if last is not None else ()))
        if checkpoint is not None and current_processes().is_first and finite:
            if has_folder and not checkpoint.parent.is_dir():
                raise InputError(f"The folder {checkpoint.parent} was deleted meanwhile: start again in another one.")
            state = {name: part.state_dict() for name, part in parts.items()}
            rng = {"rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all() if _on_cuda() else []}
            shown = {"progress": asdict(progress)} if progress is not None else {}
            write_state(checkpoint, {"identity": identity, "step": done, **rng, **shown, **state})
        written = done

    try:
        saved = time.monotonic()  # what is measured before the first step counts as work as well
        metrics = start() if start is not None and not done else {}
        if metrics:
            yield Progress(0, steps, metrics, _lrs(optimizer), 0.0, None)
        if done >= steps and progress is not None:
            yield progress
        started = time.monotonic()
        while done < steps:
            before, lrs = time.monotonic(), _lrs(optimizer)
            stepping = True
            metrics = step(done)
            if not math.isfinite(metrics["loss"]):
                lr = max(lrs.values())
                raise InputError(
                    f"The loss or its gradient is not finite at step {done + 1}: lower the learning rate (now {lr:g})."
                )
            done += 1
            now = time.monotonic()
            pace = 0.9 * pace + 0.1 * (now - before) if pace else now - before
            left = (now - started) / (done - first) * (steps - done)
            progress = Progress(done, steps, metrics, lrs, batch_size / pace, left)
            stepping = False
            if done == steps:
                save()
            elif done == first + 1 and checkpoint is not None:
                cost = _size(parts) / RATE
            yield progress
            # Later, since a log may lack no step before a checkpoint; the last one is yielded again.
            if done < steps and now - saved > _interval(every, now - started + left, cost):
                now = time.monotonic()
                save()
                saved = time.monotonic()
                cost = saved - now
    except (KeyboardInterrupt, GeneratorExit):
        if done != written and not stepping:
            save()
        raise
    return progress


def _interval(every: float, total: float, cost: float) -> float:
    """Return the seconds between checkpoints of a training of `total` seconds, of which the last one took `cost`."""
    return min(max(min(every, max(LEAST, PART * total)), cost / SPENT), max(every, PART * total))


def _size(parts: dict[str, Stateful]) -> int:
    """Return the bytes of the tensors that a checkpoint holds."""
    leaves = tree_leaves([part.state_dict() for part in parts.values()])
    return sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))


def _lrs(optimizer: Optimizer) -> dict[str, float]:
    return {group.get("name", "all"): group["lr"] for group in optimizer.param_groups}


def _resume(
    checkpoint: Path, parts: dict[str, Stateful], identity: dict[str, Any], steps: int
) -> tuple[int, Progress | None]:
    """Restore the state of a checkpoint; return its step, and the progress of that step where it is known."""
    state = current_processes().from_first(lambda: read_state(checkpoint) if checkpoint.exists() else None)
    if state is None:
        return 0, None
    saved = upgrade_settings(state.get("identity"))
    saved = saved if isinstance(saved, dict) else {}
    # Checkpoints of version 0.1 do not know their images.
    same = _unnamed(saved) == _unnamed(identity)
    if not same or not _agrees({IMAGES: identity.get(IMAGES)} | saved, identity):
        if same and _agrees({**saved, IMAGES: identity.get(IMAGES)}, identity):
            raise InputError(
                f"The images of {identity['suite']}, or their labels, have changed since the training of {checkpoint} "
                "began: start a new one in another place."
            )
        raise InputError(f"{checkpoint} is the checkpoint of a run with other settings: choose another place.")
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
            _check_moments(part)
        torch.set_rng_state(state["rng"])
        if _on_cuda() and len(state.get("cuda_rng", [])) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        check_int("step", state["step"], 0, steps)
        progress = Progress(**state["progress"]) if "progress" in state else None
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(":.")
        raise InputError(f"{checkpoint} is damaged ({reason}): delete it to train from the beginning.") from error
    return int(state["step"]), progress


def _check_moments(part: Stateful) -> None:
    """Check that what an optimiser remembers of each parameter has that one's shape, which torch takes as it is.

    Raises:
        ValueError: something has another one.
    """
    if isinstance(part, Optimizer):
        for parameter, moments in part.state.items():
            if any(isinstance(m, torch.Tensor) and m.shape not in ((), parameter.shape) for m in moments.values()):
                raise ValueError("a moment has another shape than its parameter")


def _on_cuda() -> bool:
    """Return whether dropout draws from the generators of GPUs here; several processes seed theirs at every step."""
    return torch.cuda.is_available() and torch.cuda.is_initialized() and current_processes().count == 1


def _unnamed(identity: dict[str, Any]) -> list[Any]:
    """Return the settings that an identity does not name at their default, None for those."""
    parts = [(identity.get(part), names) for part, names in UNNAMED.items()]
    found = [part.get(name) if isinstance(part, dict) else None for part, names in parts for name in names]
    return [identity.get("loss"), *found]


def _agrees(saved: Any, identity: Any) -> bool:
    """Check that all settings of `identity` have the same values in `saved`, which may hold others besides."""
    if isinstance(identity, dict) and isinstance(saved, dict):
        return all(name in saved and _agrees(saved[name], value) for name, value in identity.items())
    return saved == identity
