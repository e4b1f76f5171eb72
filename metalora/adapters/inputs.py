"""What a network gets beside its first input, such as an attention mask."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metalora.util.errors import InputError


@dataclass(frozen=True)
class Further:
    """Inputs of a network beside the first.

    Attributes:
        name: keyword of the first input; None: it is the first argument.
        args: other arguments.
        kwargs: other keyword arguments.
    """

    name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def call(self, network: Callable[..., Any], first: Any) -> Any:
        """Call a network with all inputs."""
        if self.name is not None:
            return network(*self.args, **{self.name: first}, **self.kwargs)
        return network(first, *self.args, **self.kwargs)

    def call_known(self, network: nn.Module, first: Any) -> Any:
        """Call a network, such as an extractor, with those of the inputs by keyword that it knows."""
        if not self.kwargs:
            return network(first)
        known = inspect.signature(network.forward).parameters
        return network(first, **{name: value for name, value in self.kwargs.items() if name in known})

    def one(self, batch: int) -> "Further":
        """Return those of the first sample of a batch."""
        return self._map(lambda t: t[:1] if t.ndim and t.shape[0] == batch else t)

    def repeat(self, count: int) -> "Further":
        """Return those of one sample, `count` times."""
        return self._map(lambda t: t.repeat(count, *[1] * (t.ndim - 1)) if t.ndim and t.shape[0] == 1 else t)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Further":
        args, kwargs = tree_map(lambda v: change(v) if isinstance(v, Tensor) else v, (self.args, self.kwargs))
        return Further(self.name, args, kwargs)


NONE = Further()


def split_inputs(first: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Further]:
    """Return the first input, which may have a keyword, and the others.

    Raises:
        InputError: there is no input.
    """
    if first is not None:
        return first, Further(None, args, kwargs) if args or kwargs else NONE
    name = next((name for name, value in kwargs.items() if isinstance(value, Tensor)), None)
    if name is None:
        raise InputError("There is no input: give the model a batch, as an argument or by the keyword of its network.")
    return kwargs[name], Further(name, args, {key: value for key, value in kwargs.items() if key != name})


def pooled(output: Any, mask: Tensor | None = None) -> Any:
    """Return one vector for each sample, (N, D), of what a network gives; anything else as it is.

    Of the outputs of transformers the pooled one, else the last hidden states; tokens (N, T, D) and maps (N, D, H, W)
    by their means.

    Args:
        output: of the network.
        mask: (N, T), 0 for tokens that do not count.
    """
    if isinstance(output, dict):
        names = ("pooler_output", "last_hidden_state", "logits")
        output = next((output[name] for name in names if isinstance(output.get(name), Tensor)), output)
    elif isinstance(output, tuple) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return output
    if output.ndim == 4:
        return output.mean((2, 3))
    if mask is None or mask.shape != output.shape[:2]:
        return output.mean(1)
    weights = mask.to(output)[:, :, None]
    return (output * weights).sum(1) / weights.sum(1).clamp(min=torch.finfo(output.dtype).tiny)
