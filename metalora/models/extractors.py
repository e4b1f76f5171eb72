"""What the mapping net reads from an image: features of a frozen, pre-trained network.

arXiv 2504.00460 uses a pre-trained ResNet. Here it is the adapted backbone itself without its adapters ("self"), its
first stage only ("stem"), another backbone by name, or any module.
"""

import contextlib
import copy
import math
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.inputs import NONE, Further, pooled
from metalora.adapters.recomputation import call_recorded, checkpoints
from metalora.models.backbones import Backbone, check_embeddings, load_backbone
from metalora.models.survey import Survey, reporting, survey
from metalora.util.compiling import transformed
from metalora.util.errors import InputError, LayersLeftOut

EPSILON = 1e-6
WIDE = 1024  # channels of all stages, above which the layout would make most of the trained parameters


def input_statistics(images: Tensor) -> Tensor:
    """Return mean, standard deviation, skew of every channel and correlations of channel pairs: (N, 12) for RGB.

    Colour transforms are read from these, not from deep features.
    """
    pixels = images.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    std = centred.square().mean(2, keepdim=True).add(EPSILON).sqrt()
    unit = centred / std
    skew = unit.pow(3).mean(2)
    channels = images.shape[1]
    first, second = torch.triu_indices(channels, channels, 1, device=images.device)
    correlation = (unit[:, first] * unit[:, second]).mean(2)
    return torch.cat([mean[..., 0], std[..., 0], skew, correlation], dim=1)


def stage_statistics(output: Tensor, channels: int, prefix: int = 0, *, layout: bool = True) -> Tensor:
    """Return mean, standard deviation and 2×2 layout of a stage's output: (N, 6 · channels).

    The layout shows rotation, which global means hide.

    Args:
        output: (N, C, H, W), (N, H, W, C), or tokens (N, T, C).
        channels: C.
        prefix: tokens before the grid (class token, registers).
        layout: whether the layout is among them; otherwise (N, 2 · channels).
    """
    if output.ndim == 3:
        output = output[:, prefix:].transpose(1, 2)
        side = math.isqrt(output.shape[2])
        output = output.unflatten(2, (side, side)) if side * side == output.shape[2] else output[..., None]
    elif output.shape[1] != channels:
        output = output.movedim(-1, 1)
    mean = output.mean((2, 3))
    # Ten times as fast as torch.std_mean on a CPU.
    variance = (output - mean[..., None, None]).square().mean((2, 3))
    std = variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt()  # the gradient of √0 is infinite
    parts = [mean, std, F.adaptive_avg_pool2d(output, 2).flatten(1)] if layout else [mean, std]
    return torch.cat(parts, dim=1)


class StopForward(Exception):
    """Ends a forward pass whose remaining layers are not needed."""


def _report(name: str, module: nn.Module, args: tuple, output: Tensor) -> None:
    if current.stage_hook is not None:
        current.stage_hook(name, output)
    # Pooling after the last stage returns a gradient of another layout, which then slows every layer.
    if output.requires_grad and not transformed() and _is_channels_last(output):
        output.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def keep_stages(backbone: Backbone, seen: Survey) -> None:
    """Leave out stages that cannot be read, with a warning."""
    lost = [name for name in backbone.stages if name not in seen.stages]
    if lost:
        rest = f"the stages {', '.join(seen.stages)}" if seen.stages else "its output"
        warnings.warn(
            f"Features are read from {rest} of the backbone: {', '.join(lost)} give no map or tokens of each image.",
            LayersLeftOut,
            stacklevel=3,
        )
    backbone.stages = seen.stages


def _report_input(name: str, head: nn.Module, args: tuple) -> None:
    if current.stage_hook is not None:
        current.stage_hook(name, args[0])


def report_stages(backbone: Backbone) -> None:
    """Make the backbone's stages pass their outputs to `current.stage_hook`."""
    for name in backbone.stages:
        reporting(backbone.net, name).register_forward_hook(partial(_report, name))


def report_head(backbone: Backbone, head: str | None) -> None:
    """Make the layer that gives the output pass its input to `current.stage_hook`, where that describes an image.

    Args:
        backbone: adapted or not; one with a name has no head.
        head: name of the layer; None where there is none.
    """
    if head is None or backbone.head or backbone.name or backbone.stages or backbone.old_features:
        return
    layer: Any = backbone.net.get_submodule(head)
    getattr(layer, "base", layer).register_forward_pre_hook(partial(_report_input, head))
    backbone.head = head


def silence_stages(net: nn.Module, stages: Iterable[str]) -> None:
    """Undo `report_stages` and `report_head`, and leave other hooks alone."""
    for name in stages:
        module = reporting(net, name)
        hooks: Any
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if getattr(hook, "func", None) in (_report, _report_input)]:
                del hooks[key]


def _further(own: nn.Module | None) -> Further | None:
    """Return the inputs of an extractor's pass beside the images: none for another network than the adapted one."""
    return None if own is None else NONE


def _keeps_graph(backbone: Backbone, images: Tensor) -> bool:
    """Return whether features need a graph: transformers may ask for the gradients of embeddings, which nobody uses."""
    if not torch.is_grad_enabled() or transformed():
        return torch.is_grad_enabled()
    inputs = tree_leaves((images, current.further.args, current.further.kwargs))
    return any(isinstance(t, Tensor) and t.requires_grad for t in (*inputs, *backbone.parameters()))


class StageExtractor(nn.Module):
    """Statistics of the input and of the outputs of some stages of a frozen backbone.

    Args:
        backbone: its stages must report (`report_stages`).
        stages: names of the stages to read; the pass ends at the last of them.
        owned: whether the backbone belongs to the extractor (otherwise to the adapted model).
        stem: whether the embedding's own pass gives the features.
    """

    def __init__(self, backbone: Backbone, stages: list[str], *, owned: bool, stem: bool = False):
        super().__init__()
        self.stages = {name: backbone.stages[name] for name in stages}
        self.prefix = getattr(backbone.net, "num_prefix_tokens", 0)
        self.layout = backbone.old_features or sum(backbone.stages.values()) <= WIDE
        # The stem shares the pass of the embedding.
        self.at_half_size = (
            backbone.takes_half_size and not backbone.old_features and len(stages) == len(backbone.stages)
        )
        self.own = backbone if owned else None
        self._backbone = (backbone,)  # in a tuple: not a child

    def width(self, channels: int) -> int:
        """Return F for images of so many channels."""
        return 3 * channels + math.comb(channels, 2) + (6 if self.layout else 2) * sum(self.stages.values())

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, F) of images (N, 3, H, W) in [0, 1]."""
        statistics: dict[str, Tensor] = {}

        def collect(name: str, output: Tensor) -> None:
            if name in self.stages:
                statistics[name] = self.read(name, output)
            if len(statistics) == len(self.stages) and not torch.compiler.is_compiling():  # which drops the rest itself
                raise StopForward

        backbone = self._backbone[0]
        graph = _keeps_graph(backbone, images)
        if graph and not transformed() and checkpoints(backbone.net):
            # Statistics would be part of the block that a checkpoint computes again without them.
            raise InputError(
                "A gradient goes through the features, which are read inside blocks that activation checkpointing "
                "computes again: give features= without a graph, or switch checkpointing off."
            )
        with (
            contextlib.suppress(StopForward),
            torch.set_grad_enabled(graph),
            forward_context(enabled=False, stage_hook=collect, further=_further(self.own)),
        ):
            if self.at_half_size:
                backbone.half_size(images)
            else:
                backbone(images)
        if len(statistics) == len(self.stages):
            return self.describe(images, statistics)
        raise InputError(f"The stages {', '.join(self.stages)} are not all part of the backbone's forward pass.")

    def read(self, name: str, output: Tensor) -> Tensor:
        """Return the statistics of a stage's output, at once, since later layers may overwrite it."""
        if output.requires_grad:  # and so is needed for the gradient
            output = output.clone()
        return stage_statistics(output, self.stages[name], self.prefix, layout=self.layout)

    def describe(self, images: Tensor, statistics: dict[str, Tensor]) -> Tensor:
        """Join the features (N, F) of images from the statistics of all stages."""
        parts = [statistics[name].to(images.dtype) for name in self.stages]
        return torch.cat([input_statistics(images), *parts], dim=1)


class OutputExtractor(nn.Module):
    """The output of a frozen backbone without its adapters, or what its head gets, where it ends in one.

    A classifier's logits say less about an image than what they are computed from. Tokens and maps are averaged.

    Args:
        backbone: of any kind.
        owned: whether the backbone belongs to the extractor (otherwise to the adapted model).
    """

    def __init__(self, backbone: Backbone, *, owned: bool):
        super().__init__()
        self.own = backbone if owned else None
        self._backbone = (backbone,)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, F) of images."""
        backbone = self._backbone[0]
        read: dict[str, Tensor] = {}
        with (
            torch.set_grad_enabled(_keeps_graph(backbone, images)),
            forward_context(enabled=False, stage_hook=read.__setitem__, further=_further(self.own)),
        ):
            # A language model's output has a number for each word of its language, and is computed from fewer.
            inner = getattr(backbone.net, "base_model", None)
            output = (
                backbone(images)
                if inner is None
                else call_recorded(backbone.net, lambda: current.further.call_known(inner, images))
            )
        output = output if backbone.head is None else read[backbone.head]
        return check_embeddings(pooled(output, current.further.kwargs.get("attention_mask")), images.shape[0])


def make_extractor(which: str | nn.Module, backbone: Backbone, *, download: bool = False) -> nn.Module:
    """Build the extractor that a configuration names.

    Args:
        which: "self", "stem", a backbone's name, or a module (N, 3, H, W) → (N, F) with `num_features`.
        backbone: the adapted model's own.
        download: fetch weights of timm that are not on this machine.

    Raises:
        InputError: "stem" of a backbone without stages, an unknown name, a module without `num_features`.
    """
    if isinstance(which, nn.Module):
        if not isinstance(getattr(which, "num_features", None), int):
            raise InputError(f"The extractor {type(which).__name__} does not say its width: set its num_features.")
        return copy.deepcopy(which)
    if which == "stem":
        if not backbone.stages:
            raise InputError("This backbone names no stages, so it has no stem: use extractor self.")
        return StageExtractor(backbone, list(backbone.stages)[:1], owned=False, stem=True)
    owned = which != "self"
    if owned:
        old_features = backbone.old_features
        backbone = load_backbone(which, download=download)
        backbone.old_features = old_features
        example = backbone.example()
        assert example is not None
        seen = survey(backbone, example)
        keep_stages(backbone, seen)
        backbone.fold(seen.pairs)
        report_stages(backbone)
    if backbone.stages:
        return StageExtractor(backbone, list(backbone.stages), owned=owned)
    return OutputExtractor(backbone, owned=owned)
