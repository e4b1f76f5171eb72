"""Where in a network a format acts: on weights, behind the network, or on the tokens of a vision transformer."""

from dataclasses import dataclass
from typing import Any

from timm.layers import Attention
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """A kind of modules that adapters are made for.

    Attributes:
        kind: "weight", "embedding", "block" or "attention".
    """

    kind: str

    def find(self, net: nn.Module) -> dict[str, Any]:
        """Return name → module of this kind, but for layers with a weight."""
        if self.kind == "embedding":
            return {"probe": net.get_submodule("probe")}
        attention = {name: module for name, module in net.named_modules() if _is_plain_attention(module)}
        if self.kind == "attention":
            return attention
        blocks = [name.removesuffix(".attn") for name in attention if name.endswith(".attn")]
        return {name: net.get_submodule(name) for name in blocks}


WEIGHT = Place("weight")
EMBEDDING = Place("embedding")
BLOCK = Place("block")
ATTENTION = Place("attention")


def weight_of(base: Any) -> Tensor:
    """Return the weight that gives an adapter its shape: a layer's own, or that of queries, keys and values."""
    attention = getattr(base, "attn", base)
    return getattr(attention, "qkv", base).weight


def _is_plain_attention(module: nn.Module) -> bool:
    """Return whether queries meet keys and values of all tokens, and nothing stands before the projection."""
    if type(module) is not Attention:
        return False
    return isinstance(module.norm, nn.Identity) and getattr(module, "gate", None) is None
