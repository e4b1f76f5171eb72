"""ARM-CML (Zhang et al. 2007.02931, section 4.1): the network gets each image with a context of its set.

    c = 1/K Σ_k f_cont(x_k; φ),   ŷ_k = f_pred(x_k, c; θ)

The context network f_cont is that of the authors' code: three 5×5 convolutions, BatchNorm and ReLU between them, whose
map is as large as the image and averaged over the set. There it is concatenated to the image, and where the network is
pre-trained, the first layer's weights of the image's channels serve the context's channels as well. Those weights are
frozen here but for LoRA's update, which concerns both: with as many context channels as the image has, that is the
context added to the image. Its last layer starts at zero, so that the network starts as it was.
"""

import itertools
from typing import Self

import torch
from torch import Tensor, nn

from metalora.models.backbones import Backbone
from metalora.models.context import Context, Sizes, shared_by_set
from metalora.util.errors import InputError

KERNEL = 5


class ARMCML(Context):
    """The context network, behind the backbone's preprocessing."""

    not_a_weight = "each image comes with a context of its set"

    def __init__(self, channels: int, hidden: int, rng: torch.Generator):
        super().__init__()
        widths = (channels, hidden, hidden, channels)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, KERNEL, padding=KERNEL // 2), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-2])
        for layer in self.net[::3]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]

    @classmethod
    def build(cls, backbone: Backbone, sizes: Sizes, rng: torch.Generator) -> Self:
        """Build the context network for images.

        Raises:
            InputError: the backbone takes something else than images.
        """
        if sizes.image.ndim != 4 or not sizes.image.is_floating_point():
            shape = tuple(sizes.image.shape[1:])
            raise InputError(f"ARM-CML convolves images (N, C, H, W), and gets {shape} each: use another method.")
        return cls(sizes.image.shape[1], sizes.hidden, rng)

    def forward(self, backbone: Backbone, images: Tensor, groups: Tensor | None, features: Tensor | None) -> Tensor:
        """Return embeddings (N, D) of images with the context of their set."""
        inputs = backbone.prepared(images)
        return backbone.embed(inputs + shared_by_set(self.net(inputs), groups))
