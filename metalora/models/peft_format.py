"""LoRA folders of Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors.

One sample's core makes any low-rank format a LoRA: of rank R for CP, R² for TR. PEFT itself is not needed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.formats import Factorised
from metalora.adapters.layers import AdaptedLayer
from metalora.adapters.patterns import check_pattern, matches
from metalora.adapters.places import EMBEDDING
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.context import refuse_context
from metalora.models.saving import check_folder
from metalora.util.checks import check_float
from metalora.util.config import from_plain
from metalora.util.errors import InputError
from metalora.util.files import check_finite, parse_json, read_tensors, tensor_file, text_file, write_whole
from metalora.util.paths import expand

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A_NAME, B_NAME = ".lora_A.weight", ".lora_B.weight"
PREFIX = "base_model.model."  # what PEFT's wrappers add to the names of a network's modules
# Settings of PEFT under which a layer computes something else than W x + (alpha / r) B A x.
CHANGES = ("use_dora", "use_qalora", "lora_bias", "fan_in_fan_out", "alora_invocation_tokens", "layer_replication")


@dataclass(frozen=True)
class _Settings:
    """Settings of PEFT that decide what a LoRA computes, under their names there.

    Attributes:
        lora_alpha: the update is scaled by lora_alpha / r.
        alpha_pattern: expression over names of layers → lora_alpha of these.
        base_model_name_or_path: the backbone.
        modules_to_save: names of modules that are saved as a whole.
        use_rslora: the update is scaled by lora_alpha / √r.
    """

    lora_alpha: float
    alpha_pattern: Mapping[str, float] | None = None
    base_model_name_or_path: str | None = None
    modules_to_save: tuple[str, ...] | None = None
    use_rslora: bool = False

    def __post_init__(self) -> None:
        for name, alpha in {"lora_alpha": self.lora_alpha, **(self.alpha_pattern or {})}.items():
            check_pattern(name)
            check_float(f"lora_alpha of {name}", alpha, lambda value: True, "a number")


def save_peft(model: AdaptedModel, path: str | Path, cores: Cores | None = None) -> None:
    """Write the update of one sample's cores as a LoRA that `peft.PeftModel.from_pretrained` reads.

    It is for the network inside the backbone, `model.backbone.net`, as it was before it was adapted.

    Args:
        model: with adapted layers.
        path: the folder.
        cores: of one sample; None for a static method or constant cores.

    Raises:
        InputError: not exactly one sample's cores for a generated method, no LoRA of PEFT gives the update, the folder
            holds something else, or the disk refuses.
    """
    check_folder(path, (WEIGHTS,))
    refuse_context(model, "be saved as a LoRA")
    if not model.layers:
        raise InputError("The original backbone has no adapter to save: choose another method.")
    if cores is not None and len(cores) != 1:
        raise InputError(f"A LoRA holds one core, not {len(cores)}: choose one, as in cores[0].")
    tensors: dict[str, Tensor] = {}
    for name, layer in model.layers.items():
        A, B = _lora(layer, model.core_of(name, cores))
        tensors |= {f"{PREFIX}{name}{A_NAME}": A, f"{PREFIX}{name}{B_NAME}": B}
    for name, wrapper in model.saved_modules.items():
        tensors |= {f"{PREFIX}{name}.{key}": value for key, value in wrapper.copy.state_dict().items()}
    ranks = {name: len(tensors[f"{PREFIX}{name}{A_NAME}"]) for name in model.layers}
    most = max(ranks.values())
    others = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != most}  # PEFT looks for a suffix
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": model.backbone.name,
        "inference_mode": True,
        "r": most,
        "lora_alpha": most,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": "|".join(re.escape(name) for name in model.layers),
        "rank_pattern": others,
        "alpha_pattern": others,
        "modules_to_save": list(model.saved_modules) or None,
    }
    text = json.dumps(config, indent=1) + "\n"
    folder = expand(path)
    write_whole(tensor_file(folder / WEIGHTS, tensors), text_file(folder / CONFIG, text))


def _lora(layer: AdaptedLayer, core: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return A (M, I, *kernel) and B (O, M, *1) of a layer.

    Raises:
        InputError: PEFT has no such LoRA.
    """
    format, base = layer.adapter.format, layer.base
    behind = format.place is EMBEDDING
    if not isinstance(format, Factorised) or format.not_a_weight or behind:
        reason = format.not_a_weight or (
            "it stands behind the network" if behind else "it is not a product of two thin weights"
        )
        raise InputError(f"This adapter is no LoRA, since {reason}: save it with save().")
    if isinstance(base, nn.Conv2d) and (base.groups > 1 or set(base.dilation) != {1} or base.padding_mode != "zeros"):
        kind = "groups" if base.groups > 1 else "dilation or padding other than zeros"
        raise InputError(
            f"PEFT computes the LoRA of layer {layer.name!r} another way, as it has {kind}: leave it out with exclude."
        )
    factors = {name: factor.detach() for name, factor in layer.factors().items()}
    A, up = format.down(factors["A"]), format.up(factors["B"])
    B = (up if core is None else format.fold(up, core.detach().to(up))[0]).T
    return A, B.reshape(*B.shape, *[1] * (A.ndim - 2))


def is_peft(path: Path) -> bool:
    """Return whether a folder is one of PEFT."""
    return (path / CONFIG).is_file()


def load_peft(path: Path, backbone: nn.Module | None, *, download: bool = False) -> AdaptedModel:
    """Load a LoRA of PEFT as an adapter of method "lora", in evaluation mode.

    Args:
        path: the folder.
        backbone: that the LoRA was trained on; None loads the one that the folder names.
        download: fetch weights of timm that are not on this machine.

    Raises:
        InputError: the folder is damaged, not a LoRA, of a kind with other equations, or of another network.
    """
    config, tensors = _read(path)
    network = backbone if backbone is not None else config.base_model_name_or_path
    if network is None:
        raise InputError(f"{path} does not name its backbone: pass it, load(path, backbone=…).")
    pairs = _pairs(config, tensors, path)
    exact = {name: f"^{re.escape(name)}$" for name in pairs}
    saved = tuple(f"^{re.escape(name)}$" for name in config.modules_to_save or ())
    settings = AdapterConfig(
        "lora",
        rank=max(len(A) for A, _ in pairs.values()),
        rank_pattern={exact[name]: len(A) for name, (A, _) in pairs.items()},
        targets=tuple(exact.values()),
        modules_to_save=saved,
    )
    model = adapt(network, settings, download=download)
    with torch.no_grad():
        for name, layer in model.layers.items():
            _fill(layer, *pairs[name], path)
        for name, wrapper in model.saved_modules.items():
            _fill_copy(wrapper.copy, _below(tensors, f"{PREFIX}{name}."), name, path)
    return model


def _fill_copy(module: nn.Module, tensors: dict[str, Tensor], name: str, path: Path) -> None:
    """Give a module that is saved as a whole its values."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"The module {name!r} in {path} does not fit the backbone: pass its own.") from error


def _pairs(config: _Settings, tensors: dict[str, Tensor], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Return layer → A (M, I, *kernel), scaled, and B (O, M), of a rank that its smaller side allows."""
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    saved = tuple(f"{PREFIX}{name}." for name in config.modules_to_save or ())
    for key, tensor in tensors.items():
        partner = key.removesuffix(B_NAME) + A_NAME
        if not key.startswith(saved) and not key.endswith(A_NAME) and not (key.endswith(B_NAME) and partner in tensors):
            raise InputError(f"{path / WEIGHTS} has a tensor {key!r} that no LoRA has: load it in PEFT.")
        if not tensor.is_floating_point():
            raise InputError(f"In {path / WEIGHTS} the tensor {key!r} is {tensor.dtype}: save floating points.")
    for key in tensors:
        if not key.endswith(A_NAME):
            continue
        name = key.removeprefix(PREFIX).removesuffix(A_NAME)
        A, B = tensors[key], tensors.get(key.removesuffix(A_NAME) + B_NAME)
        if B is None or min(A.ndim, B.ndim) < 2 or B.shape[1] != len(A) or 0 in (A.numel(), B.numel()):
            raise InputError(f"{path / WEIGHTS} is damaged at layer {name!r}: save the adapter again.")
        A, B = A * _scale(config, name, len(A)), B.flatten(1)
        inputs, outputs = A[0].numel(), len(B)
        if len(A) > min(inputs, outputs):  # the same ΔW at the largest rank that means anything
            delta = B @ A.flatten(1)
            thin = (delta, torch.eye(outputs)) if outputs <= inputs else (torch.eye(inputs), delta)
            A, B = thin[0].to(A).view(-1, *A.shape[1:]), thin[1].to(B)
        pairs[name] = A, B
    if not pairs:
        raise InputError(f"{path / WEIGHTS} holds no LoRA: pass the folder that PEFT saved one to.")
    return pairs


def _fill(layer: AdaptedLayer, A: Tensor, B: Tensor, path: Path) -> None:
    """Give a layer's adapter the values of PEFT's."""
    if (len(B), *A.shape[1:]) != layer.weight.shape:
        raise InputError(f"The LoRA of layer {layer.name!r} in {path} does not fit the backbone: pass its own.")
    trained: Any = layer.adapter
    trained.A.copy_(torch.einsum("ri...->...ir", A))
    trained.B.copy_(B.T)


def _scale(config: _Settings, name: str, rank: int) -> float:
    """Return PEFT's factor on the update of a layer."""
    patterns = config.alpha_pattern or {}
    alpha = next((a for key, a in patterns.items() if matches(rf"^(.*\.)?({key})$", name)), config.lora_alpha)
    return alpha / (rank**0.5 if config.use_rslora else rank)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _read(path: Path) -> tuple[_Settings, dict[str, Tensor]]:
    try:
        config = parse_json((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path / CONFIG} cannot be read ({error}): save the adapter again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or "lora_alpha" not in config:
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise InputError(f"{path} is no LoRA of PEFT but {kind or 'something else'}: only LoRA can be loaded.")
    changed = [name for name in CHANGES if config.get(name)]
    if changed or config.get("bias", "none") != "none":
        raise InputError(
            f"{path} was made with {(changed or ['bias'])[0]}, which is another equation: load it in PEFT."
        )
    if not (path / WEIGHTS).is_file():
        raise InputError(f"{path} has no {WEIGHTS}: save it with PEFT's safe_serialization.")
    known = {field.name for field in fields(_Settings)}
    try:
        settings = from_plain(_Settings, {name: value for name, value in config.items() if name in known})
    except InputError as error:
        raise InputError(f"{path / CONFIG} is damaged. {error}") from error
    tensors, _ = read_tensors(path / WEIGHTS)
    check_finite(tensors, path / WEIGHTS)
    return settings, tensors
