"""ICRM (Gupta et al. 2309.09888): in-context risk minimisation, a causal transformer over the images of a set.

    min Σ_j ℓ(h(x_j; x_1, …, x_{j−1}), y_j)        with a loss at every position j of a set, from an empty context on

Inputs are the embeddings that LoRA's network gives. In training the embedding of an image is read at its own position,
behind those before it; at use every image is the last one, behind all others of its set. ICRM's transformer is a GPT-2
of 12 layers; here two layers keep to the budget, and what they give is added to the embedding by a map that starts at
zero, since a pre-trained embedding is adapted, not learnt. There are no positions, as sets may be larger at use than in
training, and have no order. ICRM with a context of k images is a set of k + 1 here, the image itself included.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.models.backbones import Backbone
from metalora.models.context import Context, Sizes
from metalora.util.device import without_autocast

LAYERS, HEADS, MAX_TOKENS = 2, 4, 2**16


class Block(nn.Module):
    """A block of GPT-2: causal attention, then two layers, each behind a LayerNorm and added to its input."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = next(heads for heads in range(HEADS, 0, -1) if width % heads == 0)
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (S, L, width) to sequences of the same shape; what is behind a position has no part in it."""
        parts = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.projection(attended)
        return x + self.layers(self.norm(x))


class ICRM(Context):
    """Embedding → read in → causal transformer → read out, added to the embedding."""

    not_a_weight = "a transformer reads the embeddings of a set"

    def __init__(self, width: int, hidden: int, rng: torch.Generator):
        super().__init__()
        self.read_in, self.read_out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.blocks = nn.Sequential(*(Block(hidden) for _ in range(LAYERS)), nn.LayerNorm(hidden))
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter, generator=rng)  # as in the authors' code
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.zeros_(self.read_out.weight)

    @classmethod
    def build(cls, backbone: Backbone, sizes: Sizes, rng: torch.Generator) -> Self:
        """Build the transformer for embeddings of the backbone's width."""
        return cls(sizes.width, sizes.hidden, rng)

    def forward(self, backbone: Backbone, images: Tensor, groups: Tensor | None, features: Tensor | None) -> Tensor:
        """Return embeddings (N, D) in the context of those before them, or in use of all others of their set."""
        embeddings = backbone(images)
        with without_autocast(embeddings.device):
            embeddings = embeddings.to(self.read_in.weight)
            if groups is None:
                return embeddings + self.read(embeddings[:, None])[:, 0]
            if self.training:
                return embeddings + self._along(embeddings, groups)
            return embeddings + self._last(embeddings, groups)

    def read(self, sequences: Tensor) -> Tensor:
        """Return what is added to every embedding of sequences (S, L, D), each in the context of those before it."""
        return self.read_out(self.blocks(self.read_in(sequences)))

    def _along(self, embeddings: Tensor, groups: Tensor) -> Tensor:
        """Return what is added at each image's own position in its set."""
        sets = _rows_by_set(groups)
        added = torch.zeros_like(embeddings)
        for size in {len(rows) for rows in sets}:
            rows = torch.stack([rows for rows in sets if len(rows) == size]).to(embeddings.device)
            added = added.index_put((rows,), self.read(embeddings[rows]))
        return added

    def _last(self, embeddings: Tensor, groups: Tensor) -> Tensor:
        """Return what is added to each image behind all others of its set."""
        added = torch.zeros_like(embeddings)
        for rows in _rows_by_set(groups):
            size = len(rows)
            # Row i of the matrix is the set without its i-th image, and then that one.
            order = (torch.arange(size) + torch.arange(size)[:, None] + 1) % size
            order[:, :-1] = order[:, :-1].sort(dim=1).values
            for part in rows[order].split(max(1, MAX_TOKENS // size)):
                part = part.to(embeddings.device)
                added = added.index_put((part[:, -1],), self.read(embeddings[part])[:, -1])
        return added


def _rows_by_set(groups: Tensor) -> list[Tensor]:
    """Return the rows of every set, in their order."""
    _, member, counts = groups.cpu().unique(return_inverse=True, return_counts=True)
    return list(member.argsort(stable=True).split(counts.tolist()))
