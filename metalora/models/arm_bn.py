"""ARM-BN (Zhang et al. 2007.02931, section 4.2): trained and used with the BatchNorm statistics of the set.

    μ_l, σ²_l = mean and variance of layer l's activations over the images of a set and their positions

In each step every set passes with its own statistics, which gradients go through, so that the weights learn for it;
`@8-bn-adapted` takes such statistics at use only. Here the weights are LoRA's, and γ and β stay frozen, as in every
row. A single image has the statistics of its own positions.
"""

from typing import Self

import torch
from torch import Tensor

from metalora.adapters.recomputation import checkpoints
from metalora.models.backbones import Backbone
from metalora.models.context import Context, Sizes
from metalora.models.set_statistics import prepare_batchnorm, set_statistics
from metalora.util.errors import InputError


class ARMBN(Context):
    """BatchNorm layers with statistics of each set; no parameters of its own."""

    not_a_weight = "its BatchNorm layers take statistics of the images of a set"

    @classmethod
    def build(cls, backbone: Backbone, sizes: Sizes, rng: torch.Generator) -> Self:
        """Prepare the BatchNorm layers of the network.

        Raises:
            InputError: there are none.
        """
        if not prepare_batchnorm(backbone.net):
            name = backbone.name or "this network"
            raise InputError(f"ARM-BN needs BatchNorm layers, {name} has none: leave it out.")
        return cls()

    def forward(self, backbone: Backbone, images: Tensor, groups: Tensor | None, features: Tensor | None) -> Tensor:
        """Return embeddings (N, D), each set normalised by itself.

        Raises:
            InputError: activation checkpointing would compute parts again without the sets.
        """
        if torch.is_grad_enabled() and checkpoints(backbone.net):
            raise InputError("Activation checkpointing forgets the sets of ARM-BN: switch it off.")
        with set_statistics(groups):
            return backbone(images)
