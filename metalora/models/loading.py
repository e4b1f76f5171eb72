"""Load saved adapters: every file is checked before it is used."""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.auto_model import PREFIX, load_auto_model
from metalora.models.backbones import Backbone, load_backbone, wrap
from metalora.models.bundled import adapter_folder
from metalora.models.peft_format import is_peft, load_peft
from metalora.models.saving import (
    CONFIG,
    DTYPES,
    FORMAT_VERSION,
    WEIGHTS,
    SavedAdapter,
    SavedBackbone,
    describe,
    extractor_hash,
    original_hash,
)
from metalora.models.shared_tensors import copy_of
from metalora.util.config import from_plain
from metalora.util.errors import InputError
from metalora.util.files import check_finite, hash_tensors, parse_json, read_shapes, read_tensors
from metalora.util.renamed import upgrade_settings

HARMLESS = 4096  # a size that settings may have without a tensor, where the method does not use it
# Settings that trained tensors do not depend on, once they have values.
SHAPELESS = ("alpha", "dropout", "seed", "code_norm_limit", "head_init_std")


def load(
    path: str | Path,
    backbone: str | nn.Module | None = None,
    *,
    extractor: nn.Module | None = None,
    download: bool = False,
) -> AdaptedModel:
    """Load the adapted model that `AdaptedModel.save` wrote to `path`, in evaluation mode.

    Args:
        path: the folder, or the name of a bundled adapter, such as "resnet20/metalora-tr"; or the folder of a LoRA of
            PEFT, for the backbone that it was trained on.
        backbone: the foreign backbone, which is not saved, or the name of a transformer, as in "hf:USER/NAME"; for a
            named one only to save loading it.
        extractor: the extractor, if it was a module.
        download: fetch weights of timm, or of a transformer, that are not on this machine.

    Raises:
        InputError: the folder, its version, names, shapes or dtypes do not fit, or another backbone is given.
    """
    path = adapter_folder(path)
    if isinstance(backbone, str):
        if not backbone.startswith(PREFIX):
            raise InputError(f"{backbone!r} is no transformer: write hf:NAME, or leave backbone out.")
        backbone = load_auto_model(backbone, download=download)
    if is_peft(path):
        return load_peft(path, backbone, download=download)
    saved = _read_config(path)
    settings = dict(saved.adapter)
    if settings.get("extractor") == "module":
        if extractor is None:
            raise InputError(f"{path} was made with an extractor module: pass it, load(path, extractor=…).")
        settings["extractor"] = extractor
    config, named = AdapterConfig.from_dict(settings), saved.backbone
    _check_sizes(config, path)
    tensors = _read_weights(saved, path)
    if backbone is None:
        if named.name is None:
            raise InputError(f"{path} adapts a module of yours: pass it, load(path, backbone=…).")
        backbone = load_backbone(named.name, image_size=named.image_size, download=download)
    backbone = copy_of(backbone)
    wrapped = backbone if isinstance(backbone, Backbone) else _wrap(backbone, named)
    wrapped.old_features = named.stages is None
    if (wrapped.name, wrapped.image_size) != (named.name, named.image_size):
        wanted = f"load_backbone({named.name!r}, image_size={named.image_size})" if named.name else "the module"
        raise InputError(f"{path} was made with another kind of backbone: pass {wanted} that it was made from.")
    own = str(next(wrapped.parameters()).dtype).removeprefix("torch.")
    if wrapped.shared and own != named.dtype:
        raise InputError(f"{path} adapts a backbone in {named.dtype}, this one is shared in {own}: load it alone.")
    like = next(wrapped.to(DTYPES[named.dtype]).parameters())
    if hash_tensors(wrapped.net.state_dict()) != named.sha256:
        raise InputError(f"{path} was trained on other weights of its backbone: pass the module that it was made from.")
    example = saved.example()
    example = example.to(like) if example.is_floating_point() else example.to(like.device)
    model = adapt(wrapped, config, example=example, download=download)
    names = {name.removeprefix("adapters.").rpartition(".")[0] for name in tensors if name.startswith("adapters.")}
    if config.targets is None and names and names != model.layers.keys():
        # Made by another version, whose default targets were others.
        exact = replace(config, targets=tuple(f"^{re.escape(name)}$" for name in names))
        model = adapt(wrapped, exact, example=example, download=download)
    floats = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(floats) == 1:  # a model may have been moved to another precision as a whole
        model.trained.to(floats.pop())
    _fill(model, saved, tensors, path)
    model.decoding = saved.decoding
    return model


def _wrap(net: nn.Module, named: SavedBackbone) -> Backbone:
    """Wrap a module as it was when the adapter was made, by version 0.1 without stages."""
    if named.stages is None:
        return Backbone(net)
    wrapped = wrap(net)
    wrapped.stages = {name: width for name, width in wrapped.stages.items() if name in named.stages}
    return wrapped


def restore(model: AdaptedModel, path: str | Path) -> None:
    """Give `model` the trained part that was saved in `path`, a folder or a bundled name, to train on from there.

    Settings that tensors do not depend on may differ: alpha, dropout, seed, code_norm_limit and head_init_std.

    Raises:
        InputError: the folder does not fit, as in `load`, or was made with other settings or another backbone.
    """
    path = adapter_folder(path)
    saved = _read_config(path)
    tensors = _read_weights(saved, path)
    check_start(path, model.backbone.name, model.config)
    if saved.backbone.sha256 != original_hash(model.backbone.net):
        raise InputError(f"{path} was trained on other weights of its backbone: start at zero.")
    _fill(model, saved, tensors, path)


def check_start(path: str | Path, backbone: str | None, config: AdapterConfig, name: str | None = None) -> None:
    """Check that an adapter of these settings can be trained on from the one in `path`.

    Args:
        path: the folder, or the name of a bundled adapter.
        backbone: name of the new adapter's backbone.
        config: settings of the new adapter.
        name: what the person calls the saved one; None is its path.

    Raises:
        InputError: it cannot; the message names the setting that differs.
    """
    name, (trained_on, saved) = name or str(path), settings_of(path)
    if trained_on != backbone:
        raise InputError(f"{name} adapts {trained_on or 'a module'}, not {backbone}: set the same, or start at zero.")
    before, now = saved.to_dict(), config.to_dict()
    for setting, value in before.items():
        if setting not in SHAPELESS and now[setting] != value:
            same = "set the same, or start at zero"
            raise InputError(f"{name} was made with {setting} {value!r}, not {now[setting]!r}: {same}.")


def settings_of(path: str | Path) -> tuple[str | None, AdapterConfig]:
    """Read the name of the backbone (None is a module) and the adapter settings that `save` wrote to `path`.

    Raises:
        InputError: there is no adapter, or its settings are damaged.
    """
    saved = _read_config(adapter_folder(path))
    return saved.backbone.name, AdapterConfig.from_dict(saved.adapter)


def _check_sizes(config: AdapterConfig, path: Path) -> None:
    """Check, before anything is built, that no size of the settings is larger than the tensors in the file.

    Raises:
        InputError: one is.
    """
    shapes = read_shapes(path / WEIGHTS)
    largest = max((side for shape in shapes.values() for side in shape), default=0)
    sizes = {name: getattr(config, name) for name in ("rank", "branches", "hidden", "code", "condition")}
    sizes |= {f"rank_pattern[{pattern!r}]": rank for pattern, rank in config.rank_pattern.items()}
    for name, size in (sizes | {"factors": sum(config.factors)}).items():
        if size > max(largest, HARMLESS):
            raise InputError(f"{name} is {size:,}, but no tensor of {path / WEIGHTS} is as large: save it again.")


def _read_weights(saved: SavedAdapter, path: Path) -> dict[str, Tensor]:
    """Read tensors, and check that they belong to the settings."""
    tensors, _ = read_tensors(path / WEIGHTS)
    _compare(saved.tensors, describe(tensors), path / WEIGHTS)
    check_finite(tensors, path / WEIGHTS)
    if saved.format_version == 1 and "mapping.feature_std" in tensors:  # which had no record of it
        tensors["mapping.standardised"] = (tensors["mapping.feature_std"] != 1).any()
    return tensors


def _fill(model: AdaptedModel, saved: SavedAdapter, tensors: dict[str, Tensor], path: Path) -> None:
    if extractor_hash(model.extractor) != saved.extractor_sha256:
        raise InputError(f"{path} was trained with other weights of its extractor: pass the one that it was made with.")
    _compare(describe(model.trained.state_dict()), describe(tensors), path / WEIGHTS)
    model.trained.load_state_dict(tensors)


def _read_config(path: Path) -> SavedAdapter:
    try:
        saved = parse_json((path / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} holds no adapter: there is no {CONFIG} in it.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path / CONFIG} cannot be read ({error}): save the adapter again.") from error
    version = saved.get("format_version") if isinstance(saved, dict) else None
    if not isinstance(version, int) or version not in (1, FORMAT_VERSION):
        raise InputError(f"{path} has format version {version}, this metalora reads {FORMAT_VERSION}: save it again.")
    missing = {"backbone", "adapter", "tensors", "example_shape", "extractor_sha256"} - saved.keys()
    if missing:
        raise InputError(f"{path / CONFIG} lacks {', '.join(sorted(missing))}: save the adapter again.")
    known = {field.name for field in fields(SavedAdapter)}
    try:
        whole = from_plain(SavedAdapter, {name: value for name, value in saved.items() if name in known})
    except InputError as error:
        raise InputError(f"{path / CONFIG} is damaged. {error}") from error
    # Adapters saved before that setting existed have no limit.
    return replace(whole, adapter={"code_norm_limit": 0.0, **upgrade_settings(whole.adapter)})


def _compare(expected: Mapping[str, Any], actual: dict[str, list], file: Path) -> None:
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            raise InputError(f"{file} lacks the tensor {name!r}: it does not belong to its {CONFIG}.")
        if name not in expected:
            raise InputError(f"{file} has a tensor {name!r} too many: it does not belong to its {CONFIG}.")
        if expected[name] != actual[name]:
            want, have = map(_in_words, (expected[name], actual[name]))
            raise InputError(f"In {file} the tensor {name!r} is {have} where {want} is needed.")


def _in_words(described: Any) -> str:
    """Return dtype and shape of a tensor as a person reads them; what stands in their place, as it is."""
    match described:
        case [str(dtype), list(shape)]:
            return f"{dtype} {tuple(shape)}"
    return repr(described)
