"""A linear probe: the backbone stays as it is, and a linear map of its embedding is trained.

    z = (1 + A) f

The linear classifier behind it, which is trained along and discarded, is linear in f as well: that is linear probing
(Alain and Bengio 1610.01644). k-NN reads z, so that the row can stand beside those of other methods.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from metalora.adapters.full import Full
from metalora.adapters.places import EMBEDDING, Place


@dataclass(frozen=True)
class LinearProbe(Full):
    """A (D, D), as `Full`, for the identity behind the network."""

    place: ClassVar[Place] = EMBEDDING


class Probed(nn.Sequential):
    """A network `net`, and an identity `probe` of its embeddings (N, D)."""

    def __init__(self, net: nn.Module, embedding: Tensor):
        super().__init__()
        width = embedding.shape[1]
        self.net, self.probe = net, nn.Linear(width, width, bias=False)
        self.probe.weight = nn.Parameter(torch.eye(width).to(embedding))
