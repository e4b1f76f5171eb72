"""BatchNorm folded into the frozen convolution before it: one pass over the activations less.

A fast path of passes in eager mode, beside the modules that it stands in for: `Fold` computes a convolution and its
BatchNorm as one convolution. The two modules keep their classes, places, parameters and buffers; their `forward` is
replaced. Before every pass of the backbone, `refresh` compares the tensors that a fold was computed from (identity,
storage, version) and computes it anew after a change. A fold is out of use

- in an exact pass (`AdaptedModel.disabled`) and in a compiled one, which fuses BatchNorm by itself,
- while the BatchNorm trains or has no statistics, or one of the tensors requires a gradient,
- while one of the modules has a user's hook, which then sees the module's own output,
- once one of the two modules is no longer where it was.

torch does not count writes through `.data`. On a CPU they are noticed by a sample of the values; on other devices,
where a look costs more than the fold saves, they are not: write under `torch.no_grad()` there.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from metalora.adapters.layers import AdaptedLayer, has_hooks
from metalora.adapters.recomputation import state_of
from metalora.adapters.trained_copy import TrainedCopy
from metalora.util.compiling import transformed

SAMPLE = 256  # entries of a tensor that are compared
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


@dataclass(frozen=True, eq=False)
class Folded:
    """What a fold computes with.

    Attributes:
        weight: weight · gain.
        bias: (O), of both modules.
        gain: (O), what the BatchNorm multiplies each output with; an update must be multiplied with it too.
    """

    weight: Tensor
    bias: Tensor
    gain: Tensor


# What was folded, by what from: models that share the tensors of a backbone share these as well.
_FOLDED: WeakValueDictionary[tuple, Folded] = WeakValueDictionary()


def remove_folds(net: nn.Module) -> None:
    """Let a replica of a network compute by itself: what it has of its original's folds leads to the original."""
    for module in net.modules():
        if isinstance(getattr(module.__dict__.get("forward"), "__self__", None), Fold):
            del module.__dict__["forward"]
            module.__dict__.pop("fold", None)


class Fold:
    """A frozen convolution and the BatchNorm behind it, computed as one convolution.

    Args:
        conv: its output goes into `norm` and nowhere else.
        norm: a BatchNorm with running statistics.
        places: (parent, name) of each.
        channels_last: memory format of the folded weight, which decides the output's.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d,
        places: tuple[tuple[nn.Module, str], ...],
        channels_last: bool,
    ):
        self.conv, self.norm, self._places, self._channels_last = conv, norm, places, channels_last
        self._folded: Folded | None = None
        self._marks: list = []
        self._samples: list[np.ndarray] = []
        self._values: list[bytes] = []
        self._kept: list[tuple[Tensor, Tensor]] = []
        for module, forward in ((conv, self._convolve), (norm, self._normalise)):
            module.__dict__["forward"] = forward
        conv.__dict__["fold"] = self

    def __getstate__(self) -> dict[str, Any]:
        """Leave to a copy to compute its own fold."""
        return self.__dict__ | {"_folded": None, "_kept": [], "_samples": []}

    def remove(self) -> None:
        """Give both modules their own `forward` back."""
        for module, name in ((self.conv, "forward"), (self.norm, "forward"), (self.conv, "fold")):
            del module.__dict__[name]

    @property
    def folded(self) -> Folded | None:
        """What a pass computes with in this thread; None where both modules do their own work."""
        return None if transformed() or state_of(self).exact else self._folded

    @property
    def gain(self) -> Tensor | None:
        """What the convolution's outputs are multiplied with beyond its own weight, (O)."""
        return None if self.folded is None else self.folded.gain

    @property
    def bias(self) -> Tensor | None:
        """What the convolution adds to its outputs, (O)."""
        return self.conv.bias if self.folded is None else self.folded.bias

    def refresh(self) -> None:
        """Compute the fold anew after a change, or put it out of use."""
        conv, norm = self.conv._parameters, self.norm._parameters
        needed = [conv.get("weight"), self.norm._buffers.get("running_mean"), self.norm._buffers.get("running_var")]
        sources = [*needed, conv.get("bias"), norm.get("weight"), norm.get("bias")]
        if any(tensor is None for tensor in needed) or not self._usable(sources):
            self._folded = None
            return
        marks = [self.norm.eps, *map(_mark, sources)]
        if self._folded is None or marks != self._marks or self._values != _read(self._samples):
            # These keep ids and addresses from being used again.
            self._kept = [(tensor, tensor.detach()) for tensor in sources if tensor is not None]
            self._samples = [sample for tensor, _ in self._kept if (sample := _sample(tensor)) is not None]
            self._marks, self._values = marks, _read(self._samples)
            key = (*marks, *self._values, self._channels_last)
            self._folded = _FOLDED.get(key)
            if self._folded is None:
                self._folded = _FOLDED[key] = fold_tensors(self.conv, self.norm, self._channels_last)

    def _usable(self, sources: list[Tensor | None]) -> bool:
        if self.norm.training or any(tensor is not None and tensor.requires_grad for tensor in sources):
            return False
        (around, conv_name), (norm_parent, norm_name) = self._places
        if any(map(has_hooks, (self.conv, self.norm, *([around] if isinstance(around, AdaptedLayer) else [])))):
            return False
        return around._modules.get(conv_name) is self.conv and norm_parent._modules.get(norm_name) is self.norm

    def _convolve(self, x: Tensor) -> Tensor:
        folded = self.folded
        if folded is None:
            return nn.Conv2d.forward(self.conv, x)
        return self.conv._conv_forward(x, folded.weight, folded.bias)

    def _normalise(self, x: Tensor) -> Tensor:
        if self.folded is None:
            return type(self.norm).forward(self.norm, x)
        return self.norm.act(self.norm.drop(x)) if isinstance(self.norm, BatchNormAct2d) else x


def _sample(tensor: Tensor) -> np.ndarray | None:
    """View a sample of a tensor's entries as integers; None if that is not cheap."""
    dense = tensor.is_contiguous() or (tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
    if tensor.device.type != "cpu" or not dense:
        return None
    flat = tensor.detach().as_strided((tensor.numel(),), (1,)).view(INTEGERS[tensor.element_size()])
    return flat[:: max(1, len(flat) // SAMPLE)].numpy()


def _read(samples: list[np.ndarray]) -> list[bytes]:
    return [sample.tobytes() for sample in samples]


def _mark(tensor: Tensor | None) -> tuple[int, ...] | None:
    """Return what differs once the tensor is another, was written to (torch counts that), or was moved."""
    if tensor is None:
        return None
    return id(tensor), 0 if tensor.is_inference() else tensor._version, tensor.data_ptr()


def is_reset(norm: _BatchNorm) -> bool:
    """Return whether a BatchNorm has no statistics of any batch (on a GPU this waits), as on the meta device."""
    if norm.num_batches_tracked is not None and norm.num_batches_tracked.is_meta:
        return True
    return norm.num_batches_tracked is None or int(norm.num_batches_tracked) == 0


@torch.inference_mode(False)
@torch.no_grad()
def fold_tensors(conv: nn.Conv2d, norm: nn.BatchNorm2d, channels_last: bool) -> Folded:
    """Compute weight, bias and gain of a convolution and its BatchNorm together, in float32 or wider."""
    assert norm.running_mean is not None and norm.running_var is not None
    wide = torch.promote_types(conv.weight.dtype, torch.float32)
    mean, gain = norm.running_mean.to(wide), (norm.running_var.to(wide) + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.to(wide)
    bias = (0 if conv.bias is None else conv.bias.to(wide)) - mean
    bias = bias * gain + (0 if norm.bias is None else norm.bias.to(wide))
    weight = (conv.weight.to(wide) * gain[:, None, None, None]).to(conv.weight)
    layout = torch.channels_last if channels_last else torch.preserve_format
    return Folded(weight.clone(memory_format=layout), bias.to(weight), gain.to(weight))


def fold_batchnorm(net: nn.Module, example: Tensor, *, channels_last: bool = False) -> list[Fold]:
    """Fold every BatchNorm of `net` that follows a convolution alone.

    Args:
        net: in evaluation mode; called once with `example`.
        example: one input or more.
        channels_last: see `fold_pairs`.
    """
    with watch_pairs(net) as pairs:
        result = net(example)
    return fold_pairs(net, pairs(result), channels_last=channels_last)


def fold_pairs(net: nn.Module, pairs: Iterable[Pair], *, channels_last: bool = False) -> list[Fold]:
    """Fold these BatchNorms of `net` into these convolutions.

    Args:
        net: what holds them.
        pairs: as `watch_pairs` finds them.
        channels_last: whether the network is known to take that memory format; otherwise it stays as it came.
    """
    places = {module: (parent, name) for parent in net.modules() for name, module in parent.named_children()}
    # A module that is trained along is another one in passes with adapters.
    apart = {part for module in net.modules() if isinstance(module, TrainedCopy) for part in module.modules()}
    pairs = [pair for pair in pairs if apart.isdisjoint(pair)]
    folds = [Fold(conv, norm, (places[conv], places[norm]), channels_last) for conv, norm in pairs]
    for fold in folds:
        fold.refresh()
    return folds


def unfold_batchnorm(net: nn.Module) -> None:
    """Undo `fold_batchnorm`."""
    for module in net.modules():
        fold = module.__dict__.get("fold")
        if isinstance(fold, Fold):
            fold.remove()


class _Uses(TorchFunctionMode):
    """Counts the calls that a watched tensor goes into; torch.fx would trace as well, but disturb other threads."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}  # id of a tensor → calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in self.counts:
                self.counts[id(leaf)] += 1
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def watch_pairs(net: nn.Module) -> Iterator[Callable[[object], list[Pair]]]:
    """Find convolutions and BatchNorms, each called once, where the one's output goes into the other alone.

    The context is for one pass of `net`. Behind it, what it gives maps the result of that pass to the pairs.
    """
    own = [module for module in net.modules() if "forward" not in module.__dict__]
    convs = [module for module in own if type(module) is nn.Conv2d]
    norms = [
        m for m in own if type(m) in (nn.BatchNorm2d, BatchNormAct2d) and m.running_mean is not None and not m.training
    ]
    calls: dict[nn.Module, int] = dict.fromkeys((*convs, *norms), 0)
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # by id; the tensor is kept, so that no id is given twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]] = []
    paused: dict[nn.BatchNorm2d, int] = {}  # the count while the BatchNorm itself uses its input
    uses = _Uses()

    def leave_conv(conv: nn.Conv2d, args: tuple, output: Tensor) -> None:
        calls[conv] += 1
        outputs[id(output)] = (conv, output)
        uses.counts[id(output)] = 0

    def enter_norm(norm: nn.BatchNorm2d, args: tuple) -> None:
        calls[norm] += 1
        if id(args[0]) in uses.counts:
            pairs.append((outputs[id(args[0])][0], norm, args[0]))
            paused[norm] = uses.counts.pop(id(args[0]))

    def leave_norm(norm: nn.BatchNorm2d, args: tuple, output: Tensor) -> None:
        if norm in paused:
            uses.counts[id(args[0])] = paused.pop(norm)

    hooks = [conv.register_forward_hook(leave_conv) for conv in convs]
    for norm in norms:
        hooks += [norm.register_forward_pre_hook(enter_norm), norm.register_forward_hook(leave_norm)]

    def found(result: object) -> list[Pair]:
        returned = {id(leaf) for leaf in tree_leaves(result)}
        return [
            (conv, norm)
            for conv, norm, output in pairs
            if calls[conv] == calls[norm] == 1 and uses.counts[id(output)] == 0 and id(output) not in returned
        ]

    try:
        with uses:
            yield found
    finally:
        for hook in hooks:
            hook.remove()
