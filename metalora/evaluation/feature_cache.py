"""Features of a suite's images, computed once: what a frozen extractor sees of a picture in a task never changes.

Tasks show pictures without randomness. So over epochs, and over methods that read the same features, generation costs
little more than the mapping net.
"""

import time

import torch
from torch import Tensor

from metalora.models.adapted_model import AdaptedModel
from metalora.suites.suite import Examples, Suite


class FeatureCache:
    """The features of a suite's images that one extractor gives; serves all models that have the same one.

    Args:
        suite: whose images.
        limit: bytes that are kept; features beyond are computed whenever they are asked for.
    """

    def __init__(self, suite: Suite, limit: int = 2**30):
        self.limit = limit
        self.computed, self.seconds = 0, 0.0  # images so far, and the time that they took
        self.known = 0  # images whose features were kept already
        self._places = torch.full((len(suite.pictures), len(suite.tasks)), -1)  # row of `_kept`
        self._kept: Tensor | None = None
        self._count = 0

    def __call__(self, model: AdaptedModel, examples: Examples, images: Tensor) -> Tensor | None:
        """Features (N, F) of `examples`; None where the model reads none in a pass of their own.

        Args:
            images: the same, rendered already, on the model's device.
        """
        if not model.config.generates or model.config.extractor == "stem":
            return None
        places = self._places[examples.index, examples.tasks]
        missing = (places < 0).nonzero().flatten()
        self.known += len(places) - len(missing)
        if not len(missing):
            return self._kept[places].to(images.device)
        started = time.perf_counter()
        # One image alone is computed in another order, and would be rounded otherwise than among others.
        rows = missing if len(missing) > 1 else missing.repeat(2)
        found = model.features(images[rows.to(images.device)])[: len(missing)]
        features = found.new_empty(len(places), found.shape[1])
        features[missing.to(found.device)] = found
        if len(missing) < len(places):
            present = (places >= 0).nonzero().flatten()
            features[present.to(found.device)] = self._kept[places[present]].to(found.device)
        self._keep(examples[missing], found)
        self.computed += len(missing)
        self.seconds += time.perf_counter() - started
        return features

    @property
    def seconds_saved(self) -> float:
        """Seconds that kept features have spared so far, at the pace at which they are computed."""
        return self.known * self.seconds / max(1, self.computed)

    @torch.inference_mode(False)  # what is kept while embedding serves training too
    def _keep(self, examples: Examples, features: Tensor) -> None:
        if self._kept is None:
            rows = min(self._places.numel(), self.limit // (features.element_size() * features.shape[1]))
            self._kept = torch.empty(rows, features.shape[1], dtype=features.dtype)  # takes memory as it is filled
        count = min(len(examples), len(self._kept) - self._count)
        places = torch.arange(self._count, self._count + count)
        self._kept[places] = features[:count].cpu()
        self._places[examples.index[:count], examples.tasks[:count]] = places
        self._count += count
