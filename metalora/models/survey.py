"""What one pass of a backbone shows: which layers it calls, how their inputs hold the images, which stages report."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.layers import AdaptedLayer
from metalora.adapters.trained_copy import TrainedCopy
from metalora.models.backbones import Backbone
from metalora.models.folding import Pair, watch_pairs

NOT_CALLED = "it is never called by the backbone's forward pass"
READ_ONLY = "its weight is read by the module around it, not called"
READ_TOO = "its weight is read as well as called"
NOT_THE_BATCH = "the leading axis of its input is not the batch"

COPIES = 3  # an image, another, and the first again
# Rows of the two copies of one image may differ by rounding, within this part of what tells two images apart.
SAME = 0.1


@dataclass
class Survey:
    """What one pass of a backbone shows.

    Attributes:
        unfit: layer → why no update of its weight does what it should.
        uncarried: layer → why it cannot have a core for each image.
        rows: layer → the rows of its input for one image; 1 where its leading axis is the batch.
        stages: those of the backbone's stages that can be read → their channels.
        pairs: convolutions and the BatchNorms that can be folded into them.
        head: the linear layer whose output is the network's, as in a classifier; None where there is none.
    """

    unfit: dict[str, str] = field(default_factory=dict)
    uncarried: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    head: str | None = None

    def unsuited(self, *, generated: bool) -> dict[str, str]:
        """Return the layers that cannot be adapted → why, by a method with or without cores."""
        return self.uncarried | self.unfit if generated else self.unfit


@torch.inference_mode(False)
@torch.no_grad()
def survey(backbone: Backbone, example: Tensor) -> Survey:
    """Pass an image, another, and the first again through a backbone, adapted or not, the other inputs the same.

    Rows that belong to one image are then the same in the first and the last third of a layer's input, and different in
    the middle, whatever the order of windows or patches.

    Args:
        backbone: in evaluation mode.
        example: one image.
    """
    example = example.detach().clone()
    if any(nn.parameter.is_lazy(parameter) for parameter in backbone.parameters()):
        with forward_context(enabled=False):
            backbone(example)
    layers, seen = _layers(backbone.net), Survey()
    reads = _Reads(backbone.net, layers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_watching_inputs(layers, seen))
        stack.enter_context(_watching_stages(backbone, seen))
        pairs = stack.enter_context(watch_pairs(backbone))
        stack.enter_context(reads)
        outputs = stack.enter_context(_watching_outputs(layers))
        images = torch.cat([example, another(example), example])
        stack.enter_context(forward_context(enabled=False, exact=True, further=current.further.repeat(COPIES)))
        output = backbone.half_size(images) if backbone.takes_half_size else backbone(images)
    seen.pairs = pairs(output)
    seen.head = outputs.get(id(output)) if seen.rows.get(outputs.get(id(output), "")) == 1 else None
    for module, name in layers.items():
        called, read = name in seen.rows or name in seen.uncarried, module in reads.found
        if read or not called:
            seen.unfit[name] = NOT_CALLED if not read else READ_TOO if called else READ_ONLY
    return seen


def another(image: Tensor) -> Tensor:
    """Return an input that differs from this one and is as valid, where there is one."""
    if image.is_meta:
        return image
    mirrored = image.flip(-1)
    if not torch.equal(mirrored, image) or not image.is_floating_point():
        return mirrored
    return image + torch.rand(image.shape, generator=torch.Generator().manual_seed(0)).to(image)


def rows_per_image(x: Tensor) -> int | None:
    """Return how many rows of x belong to one of the survey's images; None if rows of an image are not together.

    On the meta device, where rows have no values, they are taken to be together.

    Args:
        x: a layer's input for the three images of the survey.
    """
    if x.ndim < 2 or len(x) == 0 or len(x) % COPIES:
        return None
    if x.is_meta:
        return len(x) // COPIES
    first, other, again = x.chunk(COPIES)
    same, different = float((again - first).norm()), float((other - first).norm())
    rounding = 10 * torch.finfo(x.dtype).eps * float(first.norm())
    return None if same > max(SAME * different, rounding) else len(x) // COPIES


def reporting(net: nn.Module, stage: str) -> nn.Module:
    """Return the module whose output is that of a stage: the last in a sequence, which timm may call block by block."""
    module = net.get_submodule(stage)
    while type(module) is nn.Sequential and len(module):
        last = module[-1]
        # A layer that may be replaced, or was, is none of timm's blocks.
        if isinstance(last, AdaptedLayer | TrainedCopy) or not any(last.children()):
            break
        module = last
    return module


def _layers(net: nn.Module) -> dict[nn.Module, str]:
    """Return the frozen layers that could be adapted → their names."""
    adapted = {module.base: module.name for module in net.modules() if isinstance(module, AdaptedLayer)}
    kinds = (nn.Linear, nn.Conv2d)
    return {module: adapted.get(module, name) for name, module in net.named_modules() if isinstance(module, kinds)}


@contextlib.contextmanager
def _watching_inputs(layers: dict[nn.Module, str], seen: Survey) -> Iterator[None]:
    """Note the rows of every layer's inputs."""

    def note(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        name, (x, *_) = layers[layer], (*args, *kwargs.values())
        rows = rows_per_image(x[None] if x.ndim == 3 and isinstance(layer, nn.Conv2d) else x)
        if rows is None:
            seen.uncarried[name] = NOT_THE_BATCH
        else:
            seen.rows[name] = max(rows, seen.rows.get(name, 1))

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _watching_outputs(layers: dict[nn.Module, str]) -> Iterator[dict[int, str]]:
    """Give id of the last output → name of every linear layer that is called once."""
    last: dict[str, Tensor] = {}
    found: dict[int, str] = {}

    def note(layer: nn.Module, args: tuple, output: Tensor) -> None:
        last[layers[layer]] = output  # kept, so that no id is given twice

    hooks = [layer.register_forward_hook(note) for layer in layers if isinstance(layer, nn.Linear)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        found.update({id(output): name for name, output in last.items()})


@contextlib.contextmanager
def _watching_stages(backbone: Backbone, seen: Survey) -> Iterator[None]:
    """Note the stages that are there, called once, and give a map or tokens of each image."""
    calls: dict[str, int] = dict.fromkeys(backbone.stages, 0)
    there = dict(backbone.net.named_modules())
    modules = {name: reporting(backbone.net, name) for name in backbone.stages if name in there}

    def note(name: str, output: Any) -> None:
        calls[name] += 1
        channels = backbone.stages[name]
        if calls[name] == 1 and isinstance(output, Tensor) and len(output) == COPIES and output.ndim in (3, 4):
            places = (output.shape[2],) if output.ndim == 3 else (output.shape[1], output.shape[3])
            if channels in places:
                seen.stages[name] = channels

    hooks = [
        modules[name].register_forward_hook(lambda _module, _args, output, name=name: note(name, output))
        for name in backbone.stages
        if name in modules
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    seen.stages = {name: seen.stages[name] for name in backbone.stages if name in seen.stages}


class _Reads(TorchFunctionMode):
    """Finds layers whose weight goes into a computation outside of the modules that it is a parameter of.

    Attributes:
        found: the layers.
    """

    def __init__(self, net: nn.Module, layers: dict[nn.Module, str]):
        super().__init__()
        self.found: set[nn.Module] = set()
        self._owned = {id(parameter): layer for layer in layers for parameter in layer.parameters(recurse=False)}
        # A weight may be tied to another module's, which may read its own.
        self._owners = [m for m in net.modules() if any(id(p) in self._owned for p in m._parameters.values())]
        self._inside: list[nn.Module] = []

    def __enter__(self) -> "_Reads":
        self._hooks = [module.register_forward_pre_hook(self._enter) for module in self._owners]
        self._hooks += [module.register_forward_hook(self._leave, always_call=True) for module in self._owners]
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _enter(self, module: nn.Module, args: tuple) -> None:
        self._inside.append(module)

    def _leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._inside.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [self._owned[id(leaf)] for leaf in tree_leaves((args, kwargs)) if id(leaf) in self._owned]
        # To ask for a dtype or a shape is no read.
        if read and any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            own = {id(parameter) for module in self._inside[-1:] for parameter in module._parameters.values()}
            self.found |= {self._owned[key] for key in self._keys(args, kwargs) if key not in own}
        return result

    def _keys(self, args: Any, kwargs: Any) -> set[int]:
        return {id(leaf) for leaf in tree_leaves((args, kwargs)) if id(leaf) in self._owned}
