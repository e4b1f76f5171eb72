"""The state of a training at its best validation."""

import math
from dataclasses import asdict
from typing import Any

from metalora.evaluation.linear_head import LinearHead
from metalora.models.adapted_model import AdaptedModel


class Best:
    """The state of a model's trained part at its best validation.

    That is the state before the first step unless a later validation is better by more than its standard error (the
    rule of Breiman et al. 1984): a difference below it is as likely to be lost on other images.

    Args:
        images: number of validation images.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self._start: dict[str, Any] = {}
        self._later: dict[str, Any] = {}

    def consider(self, validation: float, step: int, model: AdaptedModel, head: LinearHead | None = None) -> None:
        """Keep the model's state after `step` steps, and its head, if no earlier one is as good."""
        if not self._start or validation > self._later.get("validation", 0.0):
            trained = {name: tensor.detach().clone() for name, tensor in model.trained.state_dict().items()}
            kept = {"validation": validation, "step": step, "trained": trained}
            if head is not None:
                kept["head"] = asdict(head)
            if self._start:
                self._later = kept
            else:
                self._start = kept

    @property
    def step(self) -> int:
        """The steps after which the model was best."""
        return self._best["step"]

    @property
    def _best(self) -> dict[str, Any]:
        if not self._later:
            return self._start
        before, after = self._start["validation"], self._later["validation"]
        error = math.sqrt(after * (1 - after) / max(1, self.images))
        return self._later if after - before > error else self._start

    @property
    def head(self) -> LinearHead | None:
        """The head of the best state; None for that before the first step, and in checkpoints from before heads."""
        kept = self._best.get("head")
        return LinearHead(**kept) if kept is not None else None

    def restore(self, model: AdaptedModel) -> None:
        """Give the model the state that was kept, if any."""
        if self._start:
            model.trained.load_state_dict(self._best["trained"])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"start": self._start, "later": self._later}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._start, self._later = state["start"], state["later"]
