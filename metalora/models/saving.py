"""Adapters on disk: a folder with config.json and adapter.safetensors."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.layers import AdaptedLayer
from metalora.adapters.linear_probe import Probed
from metalora.adapters.trained_copy import TrainedCopy
from metalora.models.backbones import MAX_IMAGE_SIZE, Backbone
from metalora.suites.decoding import AS_DECLARED, Decoding
from metalora.util.checks import check_int
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors, tensor_file, text_file, write_whole
from metalora.util.paths import expand, is_stray
from metalora.version import __version__

FORMAT_VERSION = 2
CONFIG, WEIGHTS = "config.json", "adapter.safetensors"
DTYPES = {
    name: getattr(torch, name)
    for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "uint8", "bool")
}
MAX_EXAMPLE = 2**24  # numbers of an example: an image of 2,048 pixels has fewer


@dataclass(frozen=True)
class SavedBackbone:
    """What config.json says of the backbone.

    Attributes:
        name: None for a module.
        image_size: side of its images in pixels; None where that is open.
        sha256: of its weights.
        dtype: of its weights.
        stages: names of those that report features; None: by version 0.1, which had none.
    """

    name: str | None
    image_size: int | None
    sha256: str
    dtype: str
    stages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or not DTYPES[self.dtype].is_floating_point:
            raise InputError(f"The backbone's dtype {self.dtype!r} is no floating point of torch: save it again.")
        if self.image_size is not None:
            check_int("image_size", self.image_size, 1, MAX_IMAGE_SIZE)


@dataclass(frozen=True)
class SavedAdapter:
    """What config.json says, all of it of the right kind.

    Attributes:
        format_version: of the file.
        backbone: what is adapted.
        adapter: settings of the adapter.
        tensors: name → dtype and shape.
        example_shape: of one example.
        extractor_sha256: of the extractor's weights; None without one.
        example_dtype: of the example.
        decoding: how deep images became eight bits in training.
    """

    format_version: int
    backbone: SavedBackbone
    adapter: Mapping[str, Any]
    tensors: Mapping[str, Any]
    example_shape: tuple[int, ...]
    extractor_sha256: str | None
    example_dtype: str = "float32"
    decoding: Decoding = AS_DECLARED

    def __post_init__(self) -> None:
        for side in self.example_shape:
            check_int("example_shape", side, 1, MAX_EXAMPLE)
        if not self.example_shape or math.prod(self.example_shape) > MAX_EXAMPLE:
            raise InputError(f"example_shape is {self.example_shape}: use one of up to {MAX_EXAMPLE:,} numbers.")
        if self.example_dtype not in DTYPES:
            raise InputError(f"example_dtype is {self.example_dtype!r}: use one of {', '.join(DTYPES)}.")

    def example(self) -> Tensor:
        """Return zeros of the example's shape and dtype."""
        return torch.zeros(self.example_shape, dtype=DTYPES[self.example_dtype])


def check_folder(path: str | Path, owned: tuple[str, ...] = (WEIGHTS,)) -> None:
    """Refuse to write into a folder that is not empty and holds none of the files `owned`.

    Raises:
        InputError: `path` is a file, or a folder that holds something else.
    """
    path = expand(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: choose a folder.")
    found = [file for file in path.iterdir() if not is_stray(file.name)] if path.is_dir() else []
    if found and not any((path / name).exists() for name in owned):
        raise InputError(f"{path} holds something else: choose an empty or a new folder.")


def check_frozen(frozen: nn.Module) -> None:
    """Refuse to save a model whose frozen part is trained in part.

    Raises:
        InputError: a parameter requires a gradient.
    """
    unfrozen = [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]
    if unfrozen:
        name = unfrozen[0].removeprefix("backbone.net.")
        more = f" (and {len(unfrozen) - 1} more)" if len(unfrozen) > 1 else ""
        raise InputError(
            f"{name} of the frozen part{more} requires a gradient, and would not be saved: name its module in "
            "modules_to_save, or freeze it with requires_grad_(False)."
        )


def save(
    path: Path,
    config: AdapterConfig,
    trained: dict[str, Tensor],
    backbone: Backbone,
    extractor: nn.Module | None,
    example: Tensor,
    decoding: Decoding,
) -> None:
    """Write the trained tensors of a model, with the name of its backbone and the hash of that one's weights.

    Args:
        path: the folder.
        config: the adapter's settings.
        trained: state of the trained part.
        backbone: with adapted layers.
        extractor: None where nothing is generated.
        example: one image of the first batch.
        decoding: how deep images became eight bits in training.

    Raises:
        InputError: the folder holds something else, or the disk refuses.
    """
    check_folder(path)
    saved = {
        "format_version": FORMAT_VERSION,
        "metalora": __version__,
        "backbone": {
            "name": backbone.name,
            "image_size": backbone.image_size,
            "stages": list(backbone.stages),
            "dtype": _dtype_name(next(backbone.parameters()).dtype),
            "sha256": original_hash(backbone.net),
        },
        "extractor_sha256": extractor_hash(extractor),
        "adapter": config.to_dict(),
        "tensors": describe(trained),
        "example_shape": list(example.shape),
        "decoding": asdict(decoding),
        "example_dtype": _dtype_name(example.dtype),
    }
    text = json.dumps(saved, indent=1) + "\n"
    write_whole(tensor_file(path / WEIGHTS, trained), text_file(path / CONFIG, text))


def original_hash(net: nn.Module) -> str:
    """Hash the weights of a network under the names that they have without adapters."""
    net = net.net if isinstance(net, Probed) else net
    state = net.state_dict()
    for name, module in net.named_modules(remove_duplicate=False):
        if isinstance(module, AdaptedLayer | TrainedCopy):
            base = f"{name}.base."
            state = {f"{name}.{k.removeprefix(base)}" if k.startswith(base) else k: v for k, v in state.items()}
    return hash_tensors(state)


def extractor_hash(extractor: nn.Module | None) -> str | None:
    """Hash an extractor's own weights; None without an extractor."""
    return None if extractor is None else hash_tensors(extractor.state_dict())


def describe(tensors: dict[str, Tensor]) -> dict[str, list]:
    """Return dtype and shape of every tensor, as in config.json."""
    return {name: [_dtype_name(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
