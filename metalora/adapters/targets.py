"""Which layers of a network are adapted, and at what rank."""

import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

from timm.layers import Conv2dSame
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.formats import format_class
from metalora.adapters.layers import Base
from metalora.util.errors import InputError, LayersLeftOut, choices

# These read their linears' weights instead of calling them: an adapter there would do nothing.
READ_NOT_CALLED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
STEM = "it belongs to the stem"


@dataclass(frozen=True)
class Selection:
    """The layers that are adapted.

    Attributes:
        ranks: layer name → rank.
        left_out: layer name → why it is not adapted.
    """

    ranks: dict[str, int]
    left_out: dict[str, str] = field(default_factory=dict)


def select_layers(net: nn.Module, config: AdapterConfig, stem: str | None = None) -> Selection:
    """Choose the adapted layers of `net`.

    Args:
        net: the backbone.
        config: the adapter's settings.
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
        in_stem = [name for name in chosen if name in shallow]
        if config.targets is not None and in_stem:
            raise InputError(f"Layer {in_stem[0]!r} belongs to the stem, which stays unadapted: use extractor self.")
        left_out |= dict.fromkeys(in_stem, STEM)
        chosen = [name for name in chosen if name not in shallow]
    ranks = {}
    for name in chosen:
        rank, by_pattern = _rank(name, config)
        max_rank = _max_rank(candidates[name], config, by_pattern=by_pattern)
        if rank <= max_rank:
            ranks[name] = rank
        elif config.targets is not None or rank != config.rank:
            raise InputError(_too_large(rank, max_rank, name, config, by_pattern=by_pattern))
        else:
            left_out[name] = f"rank {rank} exceeds its largest, {max_rank}"
    if not ranks:
        raise InputError(_nothing_left({name: _max_rank(candidates[name], config) for name in chosen}, config))
    _warn(left_out)
    return Selection(ranks, left_out)


def stem_of(net: nn.Module, stem: str | None) -> set[str]:
    """Return the names of the modules of the stem; none where there is no stem."""
    return set() if stem is None else _up_to(net, stem)


def leave_out(selection: Selection, copied: Iterable[str], stem: set[str]) -> Selection:
    """Leave out layers of modules that are trained as a whole.

    Raises:
        InputError: such a module belongs to the stem, whose output cores are read from.
    """
    reasons: dict[str, str] = {}
    for outer in copied:
        if outer in stem:
            raise InputError(f"Module {outer!r} belongs to the stem, which stays frozen: use extractor self.")
        inside = [name for name in selection.ranks if name == outer or name.startswith(f"{outer}.")]
        reasons |= dict.fromkeys(inside, "it is trained as a whole")
    ranks = {name: rank for name, rank in selection.ranks.items() if name not in reasons}
    if selection.ranks and not ranks:
        raise InputError("No layer is left to adapt beside modules_to_save: use method original for these alone.")
    return Selection(ranks, selection.left_out | reasons)


def _candidates(net: nn.Module) -> tuple[dict[str, Base], dict[str, str]]:
    """Return the layers that can be adapted, and those of the right kind that cannot, with the reason."""
    fit: dict[str, Base] = {}
    unfit: dict[str, str] = {}
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


def _matching(config: AdapterConfig, candidates: dict[str, Base], unfit: dict[str, str]) -> list[str]:
    """Return the candidates that targets and exclude choose."""
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
    """Return the names of modules that are defined before the end of stage `stem`."""
    names = [name for name, _ in net.named_modules()]
    last = max(i for i, name in enumerate(names) if name == stem or name.startswith(f"{stem}."))
    return set(names[: last + 1])


def _rank(name: str, config: AdapterConfig) -> tuple[int, bool]:
    """Return the rank of a layer, and whether a pattern sets it."""
    ranks = (rank for pattern, rank in config.rank_pattern.items() if re.search(pattern, name))
    rank = next(ranks, None)
    return (config.rank, False) if rank is None else (rank, True)


def layer_sides(layer: Base) -> tuple[int, int]:
    """Return the two sides of a layer's weight as a matrix: (I·K·K, O)."""
    outputs, *inputs = layer.weight.shape
    return math.prod(inputs), outputs


def _max_rank(layer: Base, config: AdapterConfig, *, by_pattern: bool = False) -> int:
    return format_class(config.method).max_rank(*layer_sides(layer), by_pattern=by_pattern)


def _too_large(rank: int, max_rank: int, name: str, config: AdapterConfig, *, by_pattern: bool = False) -> str:
    reason = format_class(config.method).rank_error(rank, name, by_pattern=by_pattern)
    return f"Rank {rank} {reason}: use {max_rank} or less."


def _nothing_left(max_ranks: dict[str, int], config: AdapterConfig) -> str:
    """Say why no layer is adapted, given the largest rank of each that was chosen."""
    if not max_ranks:
        return "No layer is left to adapt: widen the targets."
    name = max(max_ranks, key=max_ranks.__getitem__)  # the rank is too large even for this layer
    return _too_large(config.rank, max_ranks[name], name, config)


def _warn(left_out: dict[str, str]) -> None:
    for reason in sorted(set(left_out.values()) - {STEM}):  # the stem was asked for
        names = [name for name, why in left_out.items() if why == reason]
        warnings.warn(f"Not adapted, since {reason}: {', '.join(names)}.", LayersLeftOut, stacklevel=4)
