"""Several adapters of one backbone, by name."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.layers import AdaptedLayer
from metalora.models.adapt import adapt
from metalora.models.adapted_model import AdaptedModel
from metalora.models.backbones import Backbone, load_backbone, wrap
from metalora.models.loading import load
from metalora.models.shared_tensors import SharedTensors
from metalora.util.errors import InputError, choices


class NamedAdapters(Mapping[str, AdaptedModel]):
    """Name → adapted model, all of one backbone, whose weights are in memory once.

    Each is a model of its own, with its method, rank and mapping net: it is called, trained, folded, exported and saved
    as if it were alone. None is the active one, so nothing is switched, and threads can use several at a time.

    Args:
        backbone: as in `adapt`; a module is copied, once.
        download: fetch weights of timm that are not on this machine.

    Raises:
        InputError: unknown backbone, or one that is adapted already.
    """

    def __init__(self, backbone: str | nn.Module, *, download: bool = False):
        if isinstance(backbone, str):
            own: nn.Module = load_backbone(backbone, download=download)
        elif any(isinstance(module, AdaptedLayer) for module in backbone.modules()):
            raise InputError("This model is adapted already: give the backbone that it was made from.")
        else:
            own = copy.deepcopy(backbone)
        self._backbone = own if isinstance(own, Backbone) else wrap(own)
        self._backbone.shared = True
        self._models: dict[str, AdaptedModel] = {}

    def add(
        self, name: str, config: AdapterConfig | None = None, *, example: Tensor | Mapping[str, Any] | None = None
    ) -> AdaptedModel:
        """Adapt the backbone once more.

        Args:
            name: of the adapter.
            config: as in `adapt`.
            example: as in `adapt`.

        Raises:
            InputError: as `adapt`, or there is such a name.
        """
        self._must_be_new(name)
        self._models[name] = adapt(self._backbone, config, example=example)
        return self._models[name]

    def load(self, name: str, path: str | Path, *, extractor: nn.Module | None = None) -> AdaptedModel:
        """Load an adapter that was saved by `adapters[name].save(path)`, or by itself, for the same backbone.

        Args:
            name: of the adapter.
            path: as in `metalora.load`.
            extractor: as in `metalora.load`.

        Raises:
            InputError: as `metalora.load`, or there is such a name.
        """
        self._must_be_new(name)
        self._models[name] = load(path, self._backbone, extractor=extractor)
        return self._models[name]

    def delete(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            InputError: there is no such name.
        """
        _ = self[name]
        del self._models[name]

    def to(self, *args: Any, **kwargs: Any) -> "NamedAdapters":
        """Move or cast all together, as `torch.nn.Module.to` does; one alone would take the shared weights along."""
        _Together([self._backbone, *self._models.values()]).to(*args, **kwargs)
        return self

    def __getitem__(self, name: str) -> AdaptedModel:
        if name not in self._models:
            there = f"there are {choices(name, list(self._models))}" if self._models else "there is none yet"
            raise InputError(f"There is no adapter {name!r}: {there}.")
        return self._models[name]

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def _must_be_new(self, name: str) -> None:
        if name in self._models:
            raise InputError(f"There is an adapter {name!r} already: choose another name, or delete that one.")


class _Together(SharedTensors, nn.ModuleList):
    """Models that share tensors."""
