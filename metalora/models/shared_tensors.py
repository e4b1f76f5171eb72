"""Modules that share tensors: copies of a network without those of its weights, and moves that keep them shared."""

import copy
from collections.abc import Callable
from typing import Self, TypeVar

from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def copy_of(backbone: Network) -> Network:
    """Copy a backbone, with its tensors, or of a shared one the modules alone."""
    tensors = [*backbone.parameters(), *backbone.buffers()] if getattr(backbone, "shared", False) else []
    return copy.deepcopy(backbone, {id(tensor): tensor for tensor in tensors})


class SharedTensors(nn.Module):
    """A module whose parts share tensors, also after a move or in another precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        moved: dict[int, tuple[Tensor, Tensor]] = {}

        def once(tensor: Tensor) -> Tensor:
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor, fn(tensor)  # the tensor is kept, so that no id is given twice
            return moved[id(tensor)][1]

        return super()._apply(once, recurse)
