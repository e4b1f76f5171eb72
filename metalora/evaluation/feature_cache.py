"""Features of a suite's images, computed once: what a frozen extractor reads of an image in a task never changes.

Tasks show images without randomness. So over epochs, and over methods with the same extractor, generation costs little
more than the mapping net.
"""

import time

import torch
from torch import Tensor

from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples, Suite


class FeatureCache:
    """Features of a suite's images by one extractor, shared by all models that have it.

    Args:
        suite: whose images.
        limit: bytes to keep; features beyond are computed each time.

    Attributes:
        computed: images whose features were computed.
        reused: images whose features were in the cache.
    """

    def __init__(self, suite: Suite, limit: int = 2**30):
        self.limit = limit
        self.computed, self.reused, self._seconds = 0, 0, 0.0
        self._rows = torch.full((len(suite.source_images), len(suite.tasks)), -1)  # of `_kept`, by image and task
        self._kept: Tensor | None = None
        self._count = 0
        seen = torch.nn.functional.one_hot(torch.tensor(suite.seen), len(suite.tasks)).float().T
        seen[list(suite.unseen)] = 1 / len(suite.seen)
        self._tasks = seen  # (tasks, seen tasks)

    def __call__(self, model: AdaptedModel, examples: Examples, images: Tensor) -> Tensor | None:
        """Return features (N, F) of `examples`; None for a model that has no separate extractor pass.

        For a method that is told the task, they say it: 1 for the image's task, equal weights of all for an unseen one.

        Args:
            model: has the extractor.
            examples: of the suite.
            images: the same, rendered, on the model's device.
        """
        if not model.config.generates or model.config.extractor == "stem":
            return None
        if model.config.told:
            return self._tasks[examples.tasks].to(images.device)
        rows = self._rows[examples.index, examples.tasks]
        missing = (rows < 0).nonzero().flatten()
        self.reused += len(rows) - len(missing)
        if self._kept is not None and not len(missing):
            return self._kept[rows].to(images.device)
        started = time.perf_counter()
        # A batch of one is rounded differently from a larger one.
        batch = missing if len(missing) > 1 else missing.repeat(2)
        new = model.features(images[batch.to(images.device)])[: len(missing)]
        features = new.new_empty(len(rows), new.shape[1])
        features[missing.to(new.device)] = new
        if self._kept is not None and len(missing) < len(rows):
            present = (rows >= 0).nonzero().flatten()
            features[present.to(new.device)] = self._kept[rows[present]].to(new.device)
        self._keep(examples[missing], new)
        self.computed += len(missing)
        self._seconds += time.perf_counter() - started
        return features

    @property
    def seconds_saved(self) -> float:
        """Seconds saved so far, estimated from the pace of computing features."""
        return self.reused * self._seconds / max(1, self.computed)

    @torch.inference_mode(False)  # features kept while embedding are used in training too
    def _keep(self, examples: Examples, features: Tensor) -> None:
        if self._kept is None:
            count = min(self._rows.numel(), self.limit // (features.element_size() * features.shape[1]))
            self._kept = torch.empty(count, features.shape[1], dtype=features.dtype)  # takes memory as it is filled
        pairs = zip(examples.index.tolist(), examples.tasks.tolist(), strict=True)
        once = list({pair: i for i, pair in enumerate(pairs)}.values())  # a batch may hold an image twice
        once = once[: len(self._kept) - self._count]
        rows = torch.arange(self._count, self._count + len(once))
        self._kept[rows] = features[once].cpu()
        self._rows[examples.index[once], examples.tasks[once]] = rows
        self._count += len(once)
