"""What the mapping net reads from an image: features of a pre-trained network.

arXiv 2504.00460 uses a pre-trained ResNet. Here it is the adapted backbone itself without its adapters ("self"), its
first stage only ("stem"), another backbone by name, or any module. It is frozen.
"""

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.inputs import NONE, pooled
from metalora.adapters.recomputation import call_recorded, checkpoints
from metalora.models.backbones import Backbone, check_embeddings, load_backbone
from metalora.models.stage_statistics import input_statistics, stage_statistics
from metalora.models.survey import Survey, reporting, survey
from metalora.util.compiling import transformed
from metalora.util.errors import InputError, LayersLeftOut

WIDE = 1024  # channels of all stages, above which the layout would make most of the trained parameters


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


def _keeps_graph(backbone: Backbone, images: Tensor) -> bool:
    """Return whether features need a graph: transformers may ask for the gradients of embeddings, which nobody uses."""
    if not torch.is_grad_enabled() or transformed():
        return torch.is_grad_enabled()
    inputs = tree_leaves((images, current.further.args, current.further.kwargs))
    return any(isinstance(t, Tensor) and t.requires_grad for t in (*inputs, *backbone.parameters()))


class NetworkExtractor(nn.Module):
    """What reads a network: the adapted one without its adapters, or one of the extractor's own.

    Attributes:
        own: the extractor's own network; None where it reads the adapted model's.
    """

    def __init__(self, backbone: Backbone, *, owned: bool):
        super().__init__()
        self.own = backbone if owned else None
        self._backbone = (backbone,)  # in a tuple: not a child

    @contextlib.contextmanager
    def reading(self, images: Tensor, hook: Callable[[str, Tensor], None]) -> Iterator[bool]:
        """Make passes of the network report to a hook, and record a graph where one is needed; give whether it is.

        Args:
            images: that are read.
            hook: called with the name and output of every stage.
        """
        graph = _keeps_graph(self._backbone[0], images)
        further = None if self.own is None else NONE  # another network takes images alone
        with torch.set_grad_enabled(graph), forward_context(enabled=False, stage_hook=hook, further=further):
            yield graph


class StageExtractor(NetworkExtractor):
    """Statistics of the input and of the outputs of some stages of a backbone.

    Args:
        backbone: its stages must report (`report_stages`).
        stages: names of the stages to read; the pass ends at the last of them.
        owned: whether the backbone belongs to the extractor (otherwise to the adapted model).
    """

    def __init__(self, backbone: Backbone, stages: list[str], *, owned: bool):
        super().__init__(backbone, owned=owned)
        self.stages = {name: backbone.stages[name] for name in stages}
        self.prefix = getattr(backbone.net, "num_prefix_tokens", 0)
        self.layout = backbone.old_features or sum(backbone.stages.values()) <= WIDE
        # The stem shares the pass of the embedding.
        self.at_half_size = (
            backbone.takes_half_size and not backbone.old_features and len(stages) == len(backbone.stages)
        )

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
        with contextlib.suppress(StopForward), self.reading(images, collect) as graph:
            if graph and not transformed() and checkpoints(backbone.net):
                # Statistics would be part of the block that a checkpoint computes again without them.
                raise InputError(
                    "A gradient goes through the features, which are read inside blocks that activation checkpointing "
                    "computes again: give features= without a graph, or switch checkpointing off."
                )
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


class OutputExtractor(NetworkExtractor):
    """The output of a backbone without its adapters, or what its head gets, where it ends in one.

    A classifier's logits say less about an image than what they are computed from. Tokens and maps are averaged.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, F) of images."""
        backbone = self._backbone[0]
        read: dict[str, Tensor] = {}
        with self.reading(images, read.__setitem__):
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
        backbone: the adapted model's own; its stages report.
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
        return StageExtractor(backbone, list(backbone.stages)[:1], owned=False)
    read = backbone if which == "self" else _load_other(which, backbone, download)
    if read.stages:
        return StageExtractor(read, list(read.stages), owned=read is not backbone)
    return OutputExtractor(read, owned=read is not backbone)


def _load_other(name: str, backbone: Backbone, download: bool) -> Backbone:
    """Load another backbone than the adapted one to read its stages."""
    other = load_backbone(name, download=download)
    other.old_features = backbone.old_features
    example = other.example()
    assert example is not None
    seen = survey(other, example)
    keep_stages(other, seen)
    other.fold(seen.pairs)
    report_stages(other)
    return other
