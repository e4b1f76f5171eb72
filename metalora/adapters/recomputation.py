"""Forward passes whose parts are computed again in the backward pass, by `torch.utils.checkpoint`.

By then the pass has ended, and its `forward_context` with it. So its state travels with the autograd graph. Tensors
that are saved for the backward pass, a checkpoint's inputs among them, are packed together with the state. A checkpoint
unpacks its inputs before it computes anything again, in the thread that does so, and hands over the state by that.

With use_reentrant=True the second pass has a graph of its own, in which the mapping net must not appear: every block
would run through it once more. Layers get detached cores there. Their gradients are collected, and enter the graph at a
node behind which nothing is left to compute again: it is made before the network's first node, and autograd takes the
nodes that are ready from the last made to the first. `RecordedPass.check` notices if it ever does not.

Only a network that says that it checkpoints is recorded, since saved tensors cost time to pack.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import ForwardState, current
from metalora.util.compiling import transformed
from metalora.util.errors import InputError

FLAGS = ("grad_checkpointing", "gradient_checkpointing")  # as timm and transformers call it

# Network → those of its parts that have a flag, on or off.
_CANDIDATES: WeakKeyDictionary[nn.Module, tuple[nn.Module, ...]] = WeakKeyDictionary()


def checkpoints(net: nn.Module) -> bool:
    """Return whether a network says, by one of the `FLAGS`, that it checkpoints activations."""
    if is_flagged(net):
        return True
    if net not in _CANDIDATES:  # to walk through all modules in every pass would take as long as to pack its tensors
        _CANDIDATES[net] = tuple(module for module in net.modules() if module is not net and _can_be_flagged(module))
    return any(map(is_flagged, _CANDIDATES[net]))


def _can_be_flagged(module: nn.Module) -> bool:
    return any(flag in vars(module) or hasattr(type(module), flag) for flag in FLAGS)


def is_flagged(module: nn.Module) -> bool:
    """Return whether this module says so itself."""
    # `getattr` of what a module does not have is slow.
    values = (vars(module).get(flag, getattr(type(module), flag, False)) for flag in FLAGS)
    return any(value is True for value in values)


class RecordedPass:
    """The state of a forward pass, for the layers that are computed again in its backward pass.

    Attributes:
        cores: detached; in the second pass they collect gradients.
        enabled: as in the forward pass, like what follows.
        exact: see there.
        spread: see there.
        members: what took part in the pass.
        reentrant: whether a layer was called without a graph.
        connected: whether gradients of cores can be collected.
    """

    def __init__(self) -> None:
        self.enabled, self.exact, self.spread = current.enabled, current.exact, current.spread
        self.cores: Cores | None = None
        if current.cores is not None:
            own = current.cores.items()
            self.cores = Cores({name: core.detach().requires_grad_(core.requires_grad) for name, core in own})
        self.members: set[Any] = set()
        self.reentrant = False
        self.connected = False
        self._collected_in = -1

    def collector(self) -> Tensor:
        """Return an empty tensor whose gradient, the last of the backward pass, is that of the second pass's cores."""
        cores = [] if current.cores is None else [core for _, core in current.cores.items()]
        return _Collect.apply(self, *cores)

    def take(self, count: int) -> list[Tensor | None]:
        """Return the gradients that were collected, and begin anew."""
        self._collected_in = torch._C._current_graph_task_id()
        cores = [] if self.cores is None else [core for _, core in self.cores.items()]
        gradients = [core.grad for core in cores[:count]]
        for core in cores:
            core.grad = None
        return gradients

    def join(self, member: Any) -> None:
        """Note that a layer takes part in the forward pass."""
        self.members.add(member)
        if not torch.is_grad_enabled():
            self.reentrant = True

    def check(self) -> None:
        """Make sure that gradients of the second pass's cores will be collected.

        Raises:
            InputError: they will not, or were already.
        """
        if not self.reentrant or self.cores is None or not any(core.requires_grad for _, core in self.cores.items()):
            return
        if not self.connected or self._collected_in == torch._C._current_graph_task_id():
            raise InputError(
                "Gradients cannot reach the cores here: call torch.utils.checkpoint with use_reentrant=False."
            )

    def connect(self, output: Any, collector: Tensor) -> Any:
        """Connect what a network gives with the collector.

        Raises:
            InputError: the network checkpoints with use_reentrant=True, and no tensor can be found in what it gives.
        """
        linked = tree_map(
            lambda value: (
                _Connect.apply(value, collector, self) if isinstance(value, Tensor) and value.requires_grad else value
            ),
            output,
        )
        if self.reentrant and not any(isinstance(leaf, Tensor) for leaf in tree_leaves(output)):
            raise InputError(
                f"Gradients cannot reach the cores through {type(output).__name__}, which the network gives: make it "
                "call torch.utils.checkpoint with use_reentrant=False."
            )
        return linked


class _Collect(torch.autograd.Function):
    """From the cores to an empty tensor; back to them go the gradients that the second pass collected."""

    @staticmethod
    def forward(ctx: Any, recorded: RecordedPass, *cores: Tensor) -> Tensor:
        ctx.recorded, ctx.count = recorded, len(cores)
        return torch.empty(0, device=cores[0].device if cores else None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.recorded.take(ctx.count)


class _Connect(torch.autograd.Function):
    """The output as it is, as a function of the collector too."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, collector: Tensor, recorded: RecordedPass) -> Tensor:
        ctx.recorded, ctx.like = recorded, collector
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        current.again = weakref.ref(ctx.recorded)
        return gradient, torch.zeros_like(ctx.like), None


@contextlib.contextmanager
def recording(net: nn.Module) -> Iterator[RecordedPass | None]:
    """Record the pass of a network inside the context, if it checkpoints and a graph is made."""
    before = current.recorded, current.again
    current.recorded, current.again = None, None
    try:
        if not torch.is_grad_enabled() or transformed() or not checkpoints(net):
            yield None
        else:
            current.recorded = RecordedPass()
            with torch.autograd.graph.saved_tensors_hooks(*_hooks(current.recorded)):
                yield current.recorded
    finally:
        current.recorded, current.again = before


def _hooks(recorded: RecordedPass) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """Return what packs a tensor with the state of a pass, and what unpacks it and hands over the state."""
    # Hooks around this context, such as torch.autograd.graph.save_on_cpu, would have no effect inside another's.
    outer = torch._C._autograd._top_saved_tensors_default_hooks(False)

    def pack(tensor: Tensor) -> tuple[Any, int]:
        return (tensor, tensor._version) if outer is None else (outer[0](tensor), -1)

    def unpack(packed: tuple[Any, int]) -> Tensor:
        value, version = packed
        tensor = value if outer is None else outer[1](value)
        current.again = weakref.ref(recorded)
        if version not in (-1, tensor._version):  # which torch checks by itself without hooks
            raise RuntimeError("A tensor needed for gradient computation has been modified by an inplace operation.")
        return tensor

    return pack, unpack


def call_recorded(net: nn.Module, call: Callable[[], Any]) -> Any:
    """Call a network so that parts of it can be computed again with the state of this pass.

    Args:
        net: what is called.
        call: gives its output.

    Raises:
        InputError: as `RecordedPass.connect`.
    """
    with recording(net) as recorded:
        if recorded is None:
            return call()
        collector = recorded.collector()
        recorded.connected = True
        output = call()
    return recorded.connect(output, collector)


def state_of(member: Any) -> ForwardState | RecordedPass:
    """Return the state that a layer computes with: that of this thread's pass, or of the one that is computed again."""
    if current.again is not None and not transformed() and torch._C._current_graph_task_id() != -1:
        recorded = current.again()
        if recorded is not None and member in recorded.members:
            recorded.check()
            return recorded
    if current.recorded is not None:
        current.recorded.join(member)
    return current
