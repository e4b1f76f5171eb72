"""BatchNorm folded into the frozen convolution before it: one pass over the activations less.

A fast path of passes in eager mode, beside the modules that it stands in for: `Fold` computes a convolution and its
BatchNorm as one convolution. The two modules keep their classes, places, parameters and buffers; their `forward` is
replaced. Before every pass of the backbone, `refresh` compares the tensors that a fold was computed from (identity,
storage, version) and computes it anew after a change. A fold is out of use

- in an exact pass (`AdaptedModel.disabled`) and in a compiled one, which fuses BatchNorm by itself,
- while the BatchNorm trains, or one of the tensors requires a gradient,
- once one of the two modules is no longer where it was.

torch does not count writes through `.data` or in `torch.inference_mode()`, so they go unnoticed: write under
`torch.no_grad()`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from metalora.adapters.forward_context import current


class Folded(NamedTuple):
    """What a fold computes with.

    Attributes:
        weight: weight · gain.
        bias: (O), of both modules.
        gain: (O), what the BatchNorm multiplies each output with; an update has to be multiplied with it too.
    """

    weight: Tensor
    bias: Tensor
    gain: Tensor


class Source(NamedTuple):
    """A tensor that a fold was computed from, as it was then.

    Attributes:
        registry: parameters or buffers of its module.
        name: its name there.
        tensor: None where the module has none.
        version: torch's count of writes.
        alias: of its storage, which keeps the address from being used again.
    """

    registry: dict[str, Any]
    name: str
    tensor: Tensor | None
    version: int | None
    alias: Tensor | None

    @classmethod
    def of(cls, registry: dict[str, Any], name: str) -> "Source":
        """Record a tensor as it is now."""
        tensor = registry.get(name)
        return cls(registry, name, tensor, _version(tensor), None if tensor is None else tensor.detach())

    def changed(self) -> bool:
        """Return whether the tensor was replaced, moved, converted or written to."""
        tensor = self.registry.get(self.name)
        if tensor is None or self.tensor is None or self.alias is None:
            return tensor is not self.tensor
        return (
            tensor is not self.tensor or _version(tensor) != self.version or tensor.data_ptr() != self.alias.data_ptr()
        )


def _version(tensor: Tensor | None) -> int | None:
    return None if tensor is None or tensor.is_inference() else tensor._version


class Fold:
    """A frozen convolution and the BatchNorm behind it, computed as one convolution.

    Args:
        conv: its output goes into `norm` and nowhere else.
        norm: a BatchNorm with running statistics.
        places: (children of the parent, name) of both modules.
        layout: memory format of the folded weight, which decides the output's.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d,
        places: tuple[tuple[dict[str, Any], str], ...],
        layout: torch.memory_format,
    ):
        self.conv, self.norm, self.layout = conv, norm, layout
        self._places = places
        self._sources: list[Source] = []
        self._eps = norm.eps
        self._folded: Folded | None = None
        for module, forward in ((conv, self._convolve), (norm, self._normalise)):
            module.__dict__["forward"] = forward
        conv.__dict__["fold"] = self

    def remove(self) -> None:
        """Give both modules their own `forward` back."""
        for module, name in ((self.conv, "forward"), (self.norm, "forward"), (self.conv, "fold")):
            del module.__dict__[name]

    @property
    def folded(self) -> Folded | None:
        """What a pass computes with in this thread; None where both modules do their own work."""
        return None if current.exact or torch.compiler.is_compiling() else self._folded

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
        if not self._usable():
            self._folded, self._sources = None, []
        elif not self._sources or self._eps != self.norm.eps or any(source.changed() for source in self._sources):
            conv, norm = self.conv, self.norm
            sources = [Source.of(module._parameters, name) for module in (conv, norm) for name in ("weight", "bias")]
            sources += [Source.of(norm._buffers, name) for name in ("running_mean", "running_var")]
            self._eps, self._folded = norm.eps, fold_tensors(conv, norm, self.layout)
            self._sources = sources

    def _usable(self) -> bool:
        modules = zip((self.conv, self.norm), self._places, strict=True)
        if self.norm.training or any(children.get(name) is not module for module, (children, name) in modules):
            return False
        registries = (self.conv._parameters, self.norm._parameters)
        return not any(p is not None and p.requires_grad for registry in registries for p in registry.values())

    def _convolve(self, x: Tensor) -> Tensor:
        folded = self.folded
        if folded is None:
            return nn.Conv2d.forward(self.conv, x)
        return self.conv._conv_forward(x, folded.weight, folded.bias)

    def _normalise(self, x: Tensor) -> Tensor:
        return nn.BatchNorm2d.forward(self.norm, x) if self.folded is None else x


@torch.inference_mode(False)
@torch.no_grad()
def fold_tensors(conv: nn.Conv2d, norm: nn.BatchNorm2d, layout: torch.memory_format) -> Folded:
    """Compute weight, bias and gain of a convolution and its BatchNorm together, in float32 or wider."""
    assert norm.running_mean is not None and norm.running_var is not None
    wide = torch.promote_types(conv.weight.dtype, torch.float32)
    mean, gain = norm.running_mean.to(wide), (norm.running_var.to(wide) + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.to(wide)
    bias = (0 if conv.bias is None else conv.bias.to(wide)) - mean
    bias = bias * gain + (0 if norm.bias is None else norm.bias.to(wide))
    weight = (conv.weight.to(wide) * gain[:, None, None, None]).to(conv.weight)
    return Folded(weight.clone(memory_format=layout), bias.to(weight), gain.to(weight))


def fold_batchnorm(net: nn.Module, example: Tensor, layout: torch.memory_format = torch.preserve_format) -> list[Fold]:
    """Fold every BatchNorm of `net` that follows a convolution alone.

    Args:
        net: in evaluation mode; called once with `example`.
        example: one input or more.
        layout: memory format of the folded weights; as the network came unless it is known to take another.
    """
    pairs = _pairs(net, example)
    places = {module: (parent._modules, name) for parent in net.modules() for name, module in parent.named_children()}
    folds = [Fold(conv, norm, (places[conv], places[norm]), layout) for conv, norm in pairs]
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
    """Counts the calls that a watched tensor goes into. (torch.fx would trace as well, and disturb other threads.)"""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}  # id of a tensor → calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in self.counts:
                self.counts[id(leaf)] += 1
        return func(*args, **(kwargs or {}))


def _pairs(net: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find convolutions and BatchNorms, each called once, where the one's output goes into the other and nowhere else."""
    own = [module for module in net.modules() if "forward" not in module.__dict__]
    convs = [module for module in own if type(module) is nn.Conv2d]
    norms = [m for m in own if type(m) is nn.BatchNorm2d and m.running_mean is not None and not m.training]
    if not convs or not norms:
        return []
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
    try:
        with uses:
            result = net(example)
    finally:
        for hook in hooks:
            hook.remove()
    returned = {id(leaf) for leaf in tree_leaves(result)}
    return [
        (conv, norm)
        for conv, norm, output in pairs
        if calls[conv] == calls[norm] == 1 and uses.counts[id(output)] == 0 and id(output) not in returned
    ]
