"""Late fusion, the sceptic's control: LoRA's embedding, and beside it a reading of the extractor's features.

    z_n = [e_n, m(f̄_n)],   m(f) = W₂ ReLU(W₁ f + b₁) + b₂

Features f, standardised, are those that cores are generated from, and m is as wide as the mapping net up to its code; a
set shares the mean of its readings. If cores only told the classifier what the extractor sees, this row would do as
well. W₂ and b₂ start at zero, so that neighbours are at first those of the embedding alone.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.models.backbones import Backbone
from metalora.models.context import Reader, Sizes, shared_by_set
from metalora.models.mapping_net import MAX_SCORE, MIN_STD
from metalora.util.device import without_autocast


class LateFusion(Reader):
    """A small net on features (N, F), whose output is concatenated to the embedding."""

    not_a_weight = "a reading of the image's features stands beside the embedding"
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, features: int, hidden: int, code: int, rng: torch.Generator):
        super().__init__()
        self.hidden, self.code = nn.Linear(features, hidden), nn.Linear(hidden, code)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu", generator=rng)
        for parameter in (self.hidden.bias, self.code.weight, self.code.bias):
            nn.init.zeros_(parameter)
        self.register_buffer("feature_mean", torch.zeros(features))
        self.register_buffer("feature_std", torch.ones(features))
        self.register_buffer("standardised", torch.tensor(False))

    @classmethod
    def build(cls, backbone: Backbone, sizes: Sizes, rng: torch.Generator) -> Self:
        """Build the net for the extractor's features."""
        assert sizes.features is not None, "it reads the extractor"
        return cls(sizes.features, sizes.hidden, sizes.code, rng)

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and standard deviation of the training images' features (N, F)."""
        std, mean = torch.std_mean(features.to(self.feature_mean), dim=0, correction=0)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std.clamp(min=MIN_STD))
        self.standardised.fill_(True)

    def forward(self, backbone: Backbone, images: Tensor, groups: Tensor | None, features: Tensor | None) -> Tensor:
        """Return embeddings (N, D + code)."""
        assert features is not None, "it reads the extractor"
        embeddings = backbone(images)
        with without_autocast(embeddings.device):
            scores = ((features.to(self.feature_mean) - self.feature_mean) / self.feature_std).clamp(
                -MAX_SCORE, MAX_SCORE
            )
            readings = shared_by_set(self.code(F.relu(self.hidden(scores))), groups)
            return torch.cat([embeddings.to(readings), readings], dim=1)
