"""What can go into the weights beforehand.

BatchNorm is folded into the frozen convolution before it: one pass over the activations less. Such a convolution keeps
its own weight beside the folded one, so that `disabled()` stays exact. And the update of one sample's cores can be
folded into a plain network.
"""

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import current
from metalora.adapters.layers import AdaptedLayer
from metalora.models.extractors import silence_stages
from metalora.util.errors import InputError

if TYPE_CHECKING:
    from metalora.models.adapted_model import AdaptedModel


class FoldedConv2d(nn.Conv2d):
    """A convolution that does the work of the BatchNorm behind it as well, except in an exact pass.

    Attributes:
        folded_weight: weight · gain, in `layout`; folded_bias: (O).
        layout: memory format of the folded weight, which decides the output's.
        gain: (O), what the BatchNorm multiplies each output with; an update has to be multiplied with it too.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def fold_batchnorm(self, norm: nn.BatchNorm2d) -> None:
        """Compute the folded weight from this one's and from `norm`."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        mean, gain = norm.running_mean.to(wide), (norm.running_var.to(wide) + norm.eps).rsqrt()
        if norm.weight is not None:
            gain = gain * norm.weight.to(wide)
        bias = (0 if self.bias is None else self.bias.to(wide)) - mean
        bias = bias * gain + (0 if norm.bias is None else norm.bias.to(wide))
        weight = (self.weight.to(wide) * gain[:, None, None, None]).to(self.weight)
        values = {"folded_weight": weight.clone(memory_format=self.layout), "folded_bias": bias}
        for name, value in {**values, "gain": gain}.items():
            self.register_buffer(name, value.to(self.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if current.exact:
            return super().forward(x)
        return self._conv_forward(x, self.folded_weight, self.folded_bias)


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm whose work the convolution before it does, except in an exact pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if current.exact else x


Fold = tuple[FoldedConv2d, FoldedBatchNorm2d]


def fold_norms(net: nn.Module, example: Tensor, layout: torch.memory_format = torch.preserve_format) -> list[Fold]:
    """Fold every BatchNorm of `net` that follows a convolution alone, in place.

    Args:
        net: in evaluation mode; called once with `example`.
        layout: memory format of the folded weights; as a network came unless it is known to bear another.
    """
    pairs = _pairs(net, example)
    for conv, norm in pairs:
        # As torch's parametrisations do it: whoever holds the module sees it folded, the parent is not touched.
        conv.__class__, norm.__class__ = FoldedConv2d, FoldedBatchNorm2d
        conv.layout = layout
        conv.fold_batchnorm(norm)
    return pairs


def unfold_norms(net: nn.Module) -> None:
    """Undo `fold_norms`: only torch's own classes are left."""
    for module in net.modules():
        if isinstance(module, FoldedConv2d):
            module.__class__ = nn.Conv2d
            for name in ("folded_weight", "folded_bias", "gain", "layout"):
                delattr(module, name)
        elif isinstance(module, FoldedBatchNorm2d):
            module.__class__ = nn.BatchNorm2d


@torch.no_grad()
def plain_network(model: "AdaptedModel", cores: Cores | None) -> nn.Module:
    """See `AdaptedModel.fold`."""
    if cores is not None and len(cores) != 1:
        raise InputError(f"One core can be folded at a time, not {len(cores)}: choose one, as in cores[0].")
    net = copy.deepcopy(model.backbone.net)
    for alias, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, AdaptedLayer):
            net.set_submodule(alias, module.base)
    silence_stages(net, model.backbone.stages)
    unfold_norms(net)
    for name in model.layers:
        layer = net.get_submodule(name)
        # A new parameter, since a weight may be tied to another layer's.
        layer.weight = nn.Parameter(layer.weight + model.delta_weight(name, cores)[0], requires_grad=False)
        offset = model.layers[name].bias_delta(model.core_of(name, cores))
        if offset is not None:
            bias = offset[0] if layer.bias is None else layer.bias + offset[0]
            layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
    if model.backbone.name is None:
        return net
    return nn.Sequential(copy.deepcopy(model.backbone.preprocess), net)


class _Uses(TorchFunctionMode):
    """Counts the calls that a watched tensor goes into. (torch.fx would trace as well, and disturb other threads.)"""

    def __init__(self):
        super().__init__()
        self.counts: dict[int, int] = {}  # id of a tensor → calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in self.counts:
                self.counts[id(leaf)] += 1
        return func(*args, **(kwargs or {}))


def _pairs(net: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and BatchNorms, each called once, where the one's output goes into the other and nowhere else."""
    convs = [module for module in net.modules() if type(module) is nn.Conv2d]
    norms = [m for m in net.modules() if type(m) is nn.BatchNorm2d and m.running_mean is not None and not m.training]
    if not convs or not norms:
        return []
    calls = dict.fromkeys((*convs, *norms), 0)
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d, Tensor]] = []
    uses = _Uses()

    def leave_conv(conv: nn.Conv2d, args: tuple, output: Tensor) -> None:
        calls[conv] += 1
        made[id(output)] = (conv, output)  # kept, so that no number is given twice
        uses.counts[id(output)] = 0

    def enter_norm(norm: nn.BatchNorm2d, args: tuple) -> None:
        calls[norm] += 1
        if id(args[0]) in uses.counts:
            found.append((*made[id(args[0])][:1], norm, args[0]))
            norm_uses[norm] = uses.counts.pop(id(args[0]))

    def leave_norm(norm: nn.BatchNorm2d, args: tuple, output: Tensor) -> None:
        if norm in norm_uses:
            uses.counts[id(args[0])] = norm_uses.pop(norm)

    norm_uses: dict[nn.BatchNorm2d, int] = {}  # while the BatchNorm itself uses its input
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
        for conv, norm, output in found
        if calls[conv] == calls[norm] == 1 and uses.counts[id(output)] == 0 and id(output) not in returned
    ]
