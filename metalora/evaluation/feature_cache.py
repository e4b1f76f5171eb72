"""Features of a suite's images, computed once: what a frozen extractor reads of an image in a task never changes.

Tasks show images without randomness. So over epochs, and over methods with the same extractor, generation costs little
more than the mapping net.
"""

import torch
from torch import Tensor

from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples, Suite
from metalora.util.device import Stopwatch, to_device


class FeatureCache:
    """Features of a suite's images by one extractor, shared by all models that have it.

    Args:
        suite: whose images.
        limit: bytes to keep, and of a CUDA device an eighth of what is free at most; features beyond are computed
            each time.

    Attributes:
        computed: images whose features were computed.
        reused: images whose features were in the cache.
    """

    def __init__(self, suite: Suite, limit: int = 2**30):
        self.limit = limit
        self.computed, self.reused, self._watch = 0, 0, Stopwatch()
        self._rows = torch.full((len(suite.source_images), len(suite.tasks)), -1)  # of `_kept`, by image and task
        self._kept: Tensor | None = None
        self._count = 0
        seen = torch.nn.functional.one_hot(torch.tensor(suite.seen), len(suite.tasks)).float().T
        seen[list(suite.unseen)] = 1 / len(suite.seen)
        self._tasks = seen  # (tasks, seen tasks)

    def __call__(self, model: AdaptedModel, examples: Examples, images: Tensor) -> Tensor | None:
        """Return features (N, F) of `examples`; None for a model that has no extractor pass of its own.

        For a method that is told the task, they say it: 1 for the image's task, equal weights of all for an unseen one.

        Args:
            model: has the extractor.
            examples: of the suite.
            images: the same, rendered, on the model's device.
        """
        if model.extractor is None or model.config.extractor == "stem":
            return None
        if model.config.told:
            return to_device(self._tasks[examples.tasks], images.device)
        rows = self._rows[examples.index, examples.tasks]
        missing = (rows < 0).nonzero().flatten()
        self.reused += len(rows) - len(missing)
        if self._kept is not None and not len(missing):
            return self._read(rows, images.device)
        with self._watch.over(images.device):
            # A batch of one is rounded differently from a larger one.
            batch = missing if len(missing) > 1 else missing.repeat(2)
            new = model.features(images[to_device(batch, images.device)])[: len(missing)]
            features = new.new_empty(len(rows), new.shape[1])
            features[to_device(missing, new.device)] = new
            if self._kept is not None and len(missing) < len(rows):
                present = (rows >= 0).nonzero().flatten()
                features[to_device(present, new.device)] = self._read(rows[present], new.device)
            self._keep(examples[missing], new)
        self.computed += len(missing)
        return features

    def _read(self, rows: Tensor, device: torch.device) -> Tensor:
        assert self._kept is not None
        return self._kept[to_device(rows, self._kept.device)].to(device)

    @property
    def seconds_saved(self) -> float:
        """Seconds saved so far, estimated from the pace of computing features."""
        return self.reused * self._watch.seconds / max(1, self.computed)

    @torch.inference_mode(False)  # features kept while embedding are used in training too
    def _keep(self, examples: Examples, features: Tensor) -> None:
        if self._kept is None:
            # They stay on their device, since the CPU would wait for a GPU's. A CPU's memory is taken as it is filled.
            free = torch.cuda.mem_get_info(features.device)[0] if features.is_cuda else 8 * self.limit
            limit = min(self.limit, free // 8) // (features.element_size() * features.shape[1])
            count = min(self._rows.numel(), limit)
            self._kept = features.new_empty(count, features.shape[1])
        pairs = zip(examples.index.tolist(), examples.tasks.tolist(), strict=True)
        once = list({pair: i for i, pair in enumerate(pairs)}.values())  # a batch may hold an image twice
        once = once[: len(self._kept) - self._count]
        rows = torch.arange(self._count, self._count + len(once))
        device = self._kept.device
        new = features[to_device(torch.tensor(once, dtype=torch.int64), features.device)]
        self._kept[to_device(rows, device)] = new.to(device)
        self._rows[examples.index[once], examples.tasks[once]] = rows
        self._count += len(once)
