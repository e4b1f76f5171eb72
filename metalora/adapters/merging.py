"""A layer's update added to its weight during the pass, if that is less work than two thin layers beside it.

In inference, in float32 or float64, where all images share one update: the frozen layer is computed once, with W + ΔW.
Half precision would round small updates away; gradients are cheaper of thin layers; and products with a weight for each
image take longer than one frozen product and thin layers (measured on EfficientNet, ConvNeXt and ResNet-50).
"""

from typing import Any

import torch
from torch import Tensor

from metalora.adapters.formats import Factorised
from metalora.adapters.forward_context import current
from metalora.util.compiling import transformed


def merges(layer: Any, x: Tensor, core: Tensor | None, positions: int) -> bool:
    """Return whether a layer's pass takes the merged weight: that is less work, and nothing is lost by it.

    With M the narrow width, ΔW takes M·I·O products, and thin layers M·(I + O) at every position.

    Args:
        layer: an `AdaptedLayer` whose base has no hooks.
        x: its input.
        core: of the images; None without one.
        positions: of its outputs, of all images.
    """
    base, adapter = layer.base, layer.adapter
    outputs, inputs = len(base.weight), base.weight[0].numel()
    return (
        not transformed()  # first: an exported program would keep a comparison of sizes
        and inputs * outputs < positions * (inputs + outputs)
        and (core is None or core.shape[0] == 1)
        and isinstance(adapter.format, Factorised)
        and adapter.format.linear
        and not torch.is_grad_enabled()
        and not current.apart
        and not (adapter.training and adapter.dropout.p)
        and {x.dtype, base.weight.dtype} <= {torch.float32, torch.float64}
        and not torch.is_autocast_enabled(x.device.type)
    )


def merged_weight(layer: Any, core: Tensor | None) -> Tensor:
    """Return W + ΔW, a folded BatchNorm's gain included.

    Args:
        layer: an `AdaptedLayer`.
        core: one sample; None without a core.
    """
    format, factors, gain = layer.adapter.format, layer.factors(), layer.output_gain
    frozen, up = layer.output_weight, format.up(factors["B"])
    up = up if core is None else format.fold(up, core.to(up))[0]
    up = up if gain is None else up * gain
    down = format.down(factors["A"]).flatten(1)
    merged = torch.addmm(frozen.flatten(1), up.T.to(frozen), down.to(frozen))
    return merged.view(frozen.shape)
