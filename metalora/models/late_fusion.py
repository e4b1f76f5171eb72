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
from metalora.util.device import without_autocast


class LateFusion(Reader):
    """A small net on features (N, F), whose output is concatenated to the embedding."""

    not_a_weight = "a reading of the image's features stands beside the embedding"

    def __init__(self, features: int, hidden: int, code: int, rng: torch.Generator):
        super().__init__()
        self.hidden, self.code = nn.Linear(features, hidden), nn.Linear(hidden, code)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu", generator=rng)
        for parameter in (self.hidden.bias, self.code.weight, self.code.bias):
            nn.init.zeros_(parameter)
        self.register_statistics(features)

    @classmethod
    def build(cls, backbone: Backbone, sizes: Sizes, rng: torch.Generator) -> Self:
        """Build the net for the extractor's features."""
        assert sizes.features is not None, "it reads the extractor"
        return cls(sizes.features, sizes.hidden, sizes.code, rng)

    def forward(self, backbone: Backbone, images: Tensor, groups: Tensor | None, features: Tensor | None) -> Tensor:
        """Return embeddings (N, D + code)."""
        assert features is not None, "it reads the extractor"
        embeddings = backbone(images)
        with without_autocast(embeddings.device):
            readings = shared_by_set(self.code(F.relu(self.hidden(self.scores(features)))), groups)
            return torch.cat([embeddings.to(readings), readings], dim=1)
