"""Adapters on disk: a folder with config.json and adapter.safetensors, checked before it is used."""

import json
from pathlib import Path

import torch
from torch import Tensor

from metalora.adapters.layers import AdaptedLayer
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors, tensor_file, text_file, write_whole
from metalora.version import __version__

FORMAT_VERSION = 2
CONFIG, WEIGHTS = "config.json", "adapter.safetensors"


def check_folder(path: Path, owned: tuple[str, ...] = (WEIGHTS,)) -> None:
    """Refuse to write into a folder that is not empty and holds none of the files `owned`.

    Raises:
        InputError: `path` is a file, or a folder that holds something else.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: choose a folder.")
    if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in owned):
        raise InputError(f"{path} holds something else: choose an empty or a new folder.")


def save(model: AdaptedModel, path: Path) -> None:
    """Write the trained part of `model`; the backbone is named and its weights' hash noted.

    Raises:
        InputError: sizes are not known yet, the folder holds something else, or the disk refuses.
    """
    if model.example is None:
        raise InputError("Sizes are known after a first batch: call the model once, or give adapt() an example.")
    check_folder(path)
    trained = model.trained.state_dict()
    config = {
        "format_version": FORMAT_VERSION,
        "metalora": __version__,
        "backbone": {
            "name": model.backbone.name,
            "image_size": model.backbone.image_size,
            "dtype": _name(next(model.backbone.parameters()).dtype),
            "sha256": original_hash(model),
        },
        "extractor_sha256": extractor_hash(model),
        "adapter": model.config.to_dict(),
        "tensors": _description(trained),
        "example_shape": list(model.example.shape),
    }
    text = json.dumps(config, indent=1) + "\n"
    write_whole(tensor_file(path / WEIGHTS, trained), text_file(path / CONFIG, text))


def original_hash(model: AdaptedModel) -> str:
    """Hash of the backbone's weights under the names that they have without adapters."""
    net = model.backbone.net
    state = net.state_dict()
    for name, module in net.named_modules(remove_duplicate=False):
        if isinstance(module, AdaptedLayer):
            inner = f"{name}.base."
            state = {f"{name}.{k.removeprefix(inner)}" if k.startswith(inner) else k: v for k, v in state.items()}
    return hash_tensors(state)


def extractor_hash(model: AdaptedModel) -> str | None:
    """Hash of an extractor's own weights; None where nothing is generated."""
    return hash_tensors(model.extractor.state_dict()) if model.config.generates else None


def _describe(tensor: Tensor) -> list:
    return [_name(tensor.dtype), list(tensor.shape)]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _description(tensors: dict[str, Tensor]) -> dict[str, list]:
    return {name: _describe(tensor) for name, tensor in tensors.items()}
