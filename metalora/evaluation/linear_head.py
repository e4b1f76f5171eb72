"""The linear head that is trained with a row, as another way to read embeddings beside k-NN.

ARM, ICRM and DomainBed report the accuracy of the classifier that was trained. Here it is the objective's head over the
classes of the seen tasks. It can name no other class, so it is read where all classes of the queries are among these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metalora.evaluation.accuracy import SplitFeatures
from metalora.evaluation.config import LINEAR_HEAD
from metalora.suites.suite import Examples, Suite


@dataclass(frozen=True)
class LinearHead:
    """A trained head.

    Attributes:
        weight: (classes, D).
        bias: (classes).
        classes: the label that each output stands for, (classes).
    """

    weight: Tensor
    bias: Tensor
    classes: Tensor

    def predict(self, embeddings: Tensor) -> Tensor:
        """Return the labels (N) of embeddings (N, D)."""
        return self.classes[(embeddings @ self.weight.T + self.bias).argmax(1)]


def measure_head(
    suite: Suite, features: SplitFeatures, head: LinearHead
) -> Iterator[tuple[dict[str, Any], Examples, Tensor]]:
    """Classify the queries of seen and unseen tasks by the head, where it knows all their classes.

    Args:
        suite: whose splits.
        features: as `embed_splits` returns.
        head: that was trained on these embeddings.

    Yields:
        As `accuracy.measure` does.
    """
    for task_split in ("seen", "unseen"):
        queries = suite.splits.get(f"{task_split} query")
        if queries is not None and torch.isin(queries.labels, head.classes).all():
            predicted = head.predict(features(f"{task_split} query"))
            yield {"task_split": task_split, "gallery": LINEAR_HEAD, "k": 0}, queries, predicted
