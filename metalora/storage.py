"""Adapters on disk: a folder with config.json and adapter.safetensors, checked before it is used."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalora.backbones import Backbone, load_backbone
from metalora.config import AdapterConfig
from metalora.errors import InputError
from metalora.model import AdaptedModel, adapt
from metalora.states import hash_tensors, read_tensors, write_tensors, write_text
from metalora.version import __version__

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "adapter.safetensors"


def check_folder(path: Path, owned: tuple[str, ...] = (CONFIG,)) -> None:
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
            "sha256": original_hash(model),
        },
        "adapter": model.config.to_dict(),
        "tensors": {name: _describe(tensor) for name, tensor in trained.items()},
        "example_shape": list(model.example.shape),
    }
    write_tensors(path / WEIGHTS, trained)
    write_text(path / CONFIG, json.dumps(config, indent=1) + "\n")


def original_hash(model: AdaptedModel) -> str:
    """Hash of the backbone's weights under the names that they have without adapters."""
    state = model.backbone.net.state_dict()
    for name in model.layers:
        for part in ("weight", "bias"):
            if f"{name}.base.{part}" in state:
                state[f"{name}.{part}"] = state.pop(f"{name}.base.{part}")
    return hash_tensors(state)


def _describe(tensor: Tensor) -> list:
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]


def load(path: str | Path, backbone: nn.Module | None = None, *, extractor: nn.Module | None = None) -> AdaptedModel:
    """The adapted model that `AdaptedModel.save` wrote to `path`, in eval mode.

    Args:
        backbone: the foreign backbone, which is not saved; for a named one only to save loading it.
        extractor: the extractor, where that was a module.

    Raises:
        InputError: the folder, its version, names, shapes or dtypes do not fit, or another backbone is given.
    """
    path = Path(path)
    saved = _read_config(path)
    tensors, _ = read_tensors(path / WEIGHTS)
    found = {name: _describe(tensor) for name, tensor in tensors.items()}
    _compare(saved["tensors"], found, path / WEIGHTS)
    settings = dict(saved["adapter"])
    if settings["extractor"] == "module":
        if extractor is None:
            raise InputError(f"{path} was made with an extractor module: pass it, load(path, extractor=…).")
        settings["extractor"] = extractor
    config = AdapterConfig.from_dict(settings)
    named = saved["backbone"]
    if backbone is None:
        if named["name"] is None:
            raise InputError(f"{path} adapts a module of yours: pass it, load(path, backbone=…).")
        backbone = load_backbone(named["name"], image_size=named["image_size"])
    wrapped = backbone if isinstance(backbone, Backbone) else Backbone(backbone)
    if hash_tensors(wrapped.net.state_dict()) != named["sha256"]:
        raise InputError(f"{path} was trained on other weights of its backbone: pass the module that it was made from.")
    like = next(wrapped.parameters())
    model = adapt(backbone, config, example=torch.zeros(saved["example_shape"]).to(like))
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), like.dtype)
    model.to(dtype)
    built = {name: _describe(tensor) for name, tensor in model.trained.state_dict().items()}
    _compare(built, found, path / WEIGHTS)
    model.trained.load_state_dict(tensors)
    return model


def _read_config(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} holds no adapter: there is no {CONFIG} in it.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path / CONFIG} cannot be read ({error}): save the adapter again.") from error
    version = saved.get("format_version") if isinstance(saved, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"{path} has format version {version}, this metalora reads {FORMAT_VERSION}: save it again.")
    missing = {"backbone", "adapter", "tensors", "example_shape"} - saved.keys()
    if missing:
        raise InputError(f"{path / CONFIG} lacks {', '.join(sorted(missing))}: save the adapter again.")
    return saved


def _compare(expected: dict[str, list], found: dict[str, list], file: Path) -> None:
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise InputError(f"{file} lacks the tensor {name!r}: it does not belong to its {CONFIG}.")
        if name not in expected:
            raise InputError(f"{file} has a tensor {name!r} too many: it does not belong to its {CONFIG}.")
        if list(expected[name]) != found[name]:
            want, have = (f"{dtype} {tuple(shape)}" for dtype, shape in (expected[name], found[name]))
            raise InputError(f"In {file} the tensor {name!r} is {have} where {want} is needed.")
