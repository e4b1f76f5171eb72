"""Which layers of a network are adapted, and at what rank."""

import math
import re
import warnings
from dataclasses import dataclass, field

from timm.layers import Conv2dSame
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import TR, largest_family, largest_rank
from metalora.adapters.methods import method
from metalora.util.errors import InputError, LayersLeftOut, choices

# These read their linears' weights instead of calling them: an adapter there would do nothing.
READ_NOT_CALLED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
STEM = "it belongs to the stem"


@dataclass(frozen=True)
class Selection:
    """ranks: layer name → rank; left_out: layer name → why it is not adapted."""

    ranks: dict[str, int]
    left_out: dict[str, str] = field(default_factory=dict)


def select_layers(net: nn.Module, config: AdapterConfig, stem: str | None = None) -> Selection:
    """Choose the adapted layers of `net`.

    Args:
        stem: name of the stage up to which layers stay unadapted, because cores are read from it.

    Raises:
        InputError: a pattern that matches nothing or a layer that cannot be adapted, a rank above a
            layer's largest, or nothing left to adapt.
    """
    candidates, unfit = _candidates(net)
    if not candidates and not unfit:
        raise InputError(f"{type(net).__name__} has no Conv2d or Linear layer to adapt.")
    chosen = _matching(config, candidates, unfit)
    left_out = {name: reason for name, reason in unfit.items() if config.targets is None}
    if stem is not None:
        shallow = _up_to(net, stem)
        named = [name for name in chosen if name in shallow]
        if config.targets is not None and named:
            raise InputError(f"Layer {named[0]!r} belongs to the stem, which stays unadapted: use extractor self.")
        left_out |= dict.fromkeys(named, STEM)
        chosen = [name for name in chosen if name not in shallow]
    ranks = {}
    for name in chosen:
        rank = _rank(name, config)
        largest = _largest(candidates[name], config, asked=_pattern(name, config) is not None)
        if rank <= largest:
            ranks[name] = rank
        elif config.targets is not None or rank != config.rank:
            raise InputError(_too_large(rank, largest, name, config, asked=_pattern(name, config) is not None))
        else:
            left_out[name] = f"rank {rank} exceeds its largest, {largest}"
    if not ranks:
        raise InputError(_nothing_left({name: _largest(candidates[name], config) for name in chosen}, config))
    _warn(left_out)
    return Selection(ranks, left_out)


def _candidates(net: nn.Module) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Layers that can be adapted, and layers of the right kind that cannot, with the reason."""
    fit, unfit = {}, {}
    inside = tuple(
        f"{name}." if name else "" for name, module in net.named_modules() if isinstance(module, READ_NOT_CALLED)
    )
    for name, module in net.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        kind = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
        if inside and name.startswith(inside):
            unfit[name] = "its weight is read by the attention around it, not called"
        elif type(module).forward not in (kind.forward, Conv2dSame.forward) or "weight" not in module._parameters:
            unfit[name] = f"{type(module).__name__} computes with its weight in a way of its own"
        elif isinstance(module.weight, nn.UninitializedParameter):
            unfit[name] = "its size is not known yet (run the backbone once)"
        elif not name:
            raise InputError(f"The backbone is a single {kind.__name__}: wrap it in nn.Sequential.")
        else:
            fit[name] = module
    return fit, unfit


def _matching(config: AdapterConfig, candidates: dict[str, nn.Module], unfit: dict[str, str]) -> list[str]:
    every = [*candidates, *unfit]
    for pattern in (*(config.targets or ()), *config.exclude, *config.rank_pattern):
        if not any(re.search(pattern, name) for name in every):
            raise InputError(f"The pattern {pattern!r} matches no layer: there are {choices(pattern, every)}.")
    patterns = config.targets if config.targets is not None else ("",)
    chosen = [
        name
        for name in every
        if any(re.search(p, name) for p in patterns) and not any(re.search(p, name) for p in config.exclude)
    ]
    if config.targets is not None:
        for name in chosen:
            if name in unfit:
                raise InputError(f"Layer {name!r} cannot be adapted, {unfit[name]}: leave it out with exclude.")
    return [name for name in chosen if name in candidates]


def _up_to(net: nn.Module, stem: str) -> set[str]:
    """Names of modules that are defined before the end of stage `stem`."""
    names = [name for name, _ in net.named_modules()]
    last = max(i for i, name in enumerate(names) if name == stem or name.startswith(f"{stem}."))
    return set(names[: last + 1])


def _pattern(name: str, config: AdapterConfig) -> str | None:
    return next((pattern for pattern in config.rank_pattern if re.search(pattern, name)), None)


def _rank(name: str, config: AdapterConfig) -> int:
    return config.rank_pattern.get(_pattern(name, config), config.rank)


def layer_sides(layer: nn.Module) -> tuple[int, int]:
    """The two sides of a layer's weight as a matrix: (I·K·K, O)."""
    outputs, *inputs = layer.weight.shape
    return math.prod(inputs), outputs


def _largest(layer: nn.Module, config: AdapterConfig, *, asked: bool = False) -> int:
    """The largest rank of a layer; where a pattern asks for its rank, of what all cores together reach."""
    bound = largest_family if asked else largest_rank
    return bound(method(config.method).format, *layer_sides(layer))


def _too_large(rank: int, largest: int, name: str, config: AdapterConfig, *, asked: bool = False) -> str:
    if method(config.method).format is TR and asked:
        return f"Rank {rank} has cores of {rank}² numbers, more than the weight of {name} has. Use {largest} or less."
    if method(config.method).format is TR:
        return f"Rank {rank} needs a width of {rank}², over the smaller side of {name}. Use {largest} or less."
    return f"Rank {rank} exceeds the smaller side, {largest}, of {name}. Use {largest} or less."


def _nothing_left(largest: dict[str, int], config: AdapterConfig) -> str:
    """Why no layer is adapted, given the largest rank of each that was chosen."""
    if not largest:
        return "No layer is left to adapt: widen the targets."
    widest = max(largest, key=largest.__getitem__)  # of no layer is the rank as large as that
    return _too_large(config.rank, largest[widest], widest, config)


def _warn(left_out: dict[str, str]) -> None:
    for reason in sorted(set(left_out.values()) - {STEM}):  # the stem was asked for
        names = [name for name, why in left_out.items() if why == reason]
        warnings.warn(f"Not adapted, since {reason}: {', '.join(names)}.", LayersLeftOut, stacklevel=4)
