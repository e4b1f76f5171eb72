"""What every training loop here shares: schedule, progress with time left, checkpoints, resuming.

A loop is a function `step(i)` that trains on batch i and returns its metrics. Whatever it draws at
random, it draws from a generator made of the run's seed and i, so that a resumed run sees the very
batches that it would have seen.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from metalora.util.errors import InputError
from metalora.util.files import read_state, write_state
from metalora.util.renamed import upgrade_settings


class Stateful(Protocol):
    """A module, an optimiser, a schedule: anything that can be put away and taken up again."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Progress:
    """What a loop tells after a step."""

    step: int  # steps done, from 1
    steps: int  # steps in all
    metrics: dict[str, float]  # losses and accuracies of this step
    lrs: dict[str, float]  # learning rate of each parameter group
    images_per_second: float  # over the last few steps
    seconds_left: float


def clock(seconds: float) -> str:
    """A duration as in 1:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


WARMUP_SHARE, WARMUP_STEPS = 0.05, 20


def warmup_cosine(optimizer: Optimizer, *cycles: int) -> LambdaLR:
    """Linear warm-up over 5 % of the steps, then half a cosine down to zero; once for each of `cycles`, in steps.

    Short runs warm up for 20 steps (a third of the run at most): Adam's first steps, taken at full rate
    before it knows the gradients' scale, throw the features away.
    """
    factors = [factor for steps in cycles for factor in _one_cycle(steps)]
    return LambdaLR(optimizer, lambda step: factors[step] if step < len(factors) else 0.0)


def _one_cycle(steps: int) -> list[float]:
    rise = max(1, round(WARMUP_SHARE * steps), min(WARMUP_STEPS, steps // 3))
    fall = max(1, steps - rise)
    return [
        (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / fall))
        for step in range(steps)
    ]


def run_loop(
    step: Callable[[int], dict[str, float]],
    steps: int,
    batch: int,
    optimizer: Optimizer,
    parts: dict[str, Stateful],
    identity: dict[str, Any],
    *,
    checkpoint: Path | None = None,
    every: float = 30.0,
) -> Iterator[Progress]:
    """Call `step` until `steps` are done, yielding progress after each.

    Args:
        step: trains on batch i and returns metrics, among them "loss".
        batch: images per step, for the rate.
        parts: what a checkpoint holds, by name.
        identity: settings of the run; a checkpoint of other settings is refused.
        checkpoint: file to resume from when it exists and to write every `every` seconds, at the
            end, and when the loop is left early between steps (the generator closed, or Ctrl-C there).
            Ctrl-C in the middle of a step saves nothing: half a step is no state to go on from.

    Raises:
        InputError: the checkpoint belongs to another run, or the loss is not finite any more.
    """
    identity = json.loads(json.dumps(identity))  # as it comes back from a checkpoint: tuples are lists there
    done = _resume(checkpoint, parts, identity) if checkpoint is not None else 0

    def save() -> None:
        if checkpoint is not None:
            state = {name: part.state_dict() for name, part in parts.items()}
            write_state(checkpoint, {"identity": identity, "step": done, "rng": torch.get_rng_state(), **state})

    saved = started = time.monotonic()
    first, pace, stepping = done, 0.0, False
    try:
        while done < steps:
            before = time.monotonic()
            stepping = True
            metrics = step(done)
            stepping = False
            if not math.isfinite(metrics["loss"]):
                lr = max(group["lr"] for group in optimizer.param_groups)
                raise InputError(f"The loss is not finite at step {done + 1}: lower the learning rate (now {lr:g}).")
            done += 1
            now = time.monotonic()
            pace = 0.9 * pace + 0.1 * (now - before) if pace else now - before
            left = (now - started) / (done - first) * (steps - done)
            lrs = {group.get("name", "all"): group["lr"] for group in optimizer.param_groups}
            if now - saved > every:
                save()
                saved = now
            yield Progress(done, steps, metrics, lrs, batch / pace, left)
    except (KeyboardInterrupt, GeneratorExit):
        if not stepping:
            save()
        raise
    save()


def _resume(checkpoint: Path, parts: dict[str, Stateful], identity: dict[str, Any]) -> int:
    if not checkpoint.exists():
        return 0
    state = read_state(checkpoint)
    if upgrade_settings(state.get("identity")) != identity:
        raise InputError(f"{checkpoint} is the checkpoint of a run with other settings: choose another place.")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["rng"])
    return state["step"]
