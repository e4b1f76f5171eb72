"""MetaLoRA: low-rank adapters whose core is generated for each image (arXiv 2504.00460)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metalora.util.errors import InputError
from metalora.version import __version__

if TYPE_CHECKING:
    from metalora.adapters.config import AdapterConfig
    from metalora.adapters.cores import Cores
    from metalora.adapters.methods import METHODS
    from metalora.evaluation.embedding import EmbedConfig, embed
    from metalora.models.adapt import adapt
    from metalora.models.adapted_model import AdaptedModel
    from metalora.models.backbones import Backbone, load_backbone
    from metalora.models.loading import load
    from metalora.suites import load_suite
    from metalora.training.config import TrainingConfig
    from metalora.training.fit import fit

__all__ = [
    "METHODS",
    "AdaptedModel",
    "AdapterConfig",
    "Backbone",
    "Cores",
    "EmbedConfig",
    "InputError",
    "TrainingConfig",
    "__version__",
    "adapt",
    "embed",
    "fit",
    "load",
    "load_backbone",
    "load_suite",
]

# Imported at first use, since they bring torch and timm along, which `python -m metalora --help` does not need.
_HOMES = {
    "models.adapt": ("adapt",),
    "models.backbones": ("Backbone", "load_backbone"),
    "adapters.config": ("AdapterConfig",),
    "adapters.cores": ("Cores",),
    "evaluation.embedding": ("EmbedConfig", "embed"),
    "adapters.methods": ("METHODS",),
    "models.adapted_model": ("AdaptedModel",),
    "models.loading": ("load",),
    "suites.load": ("load_suite",),
    "training.config": ("TrainingConfig",),
    "training.fit": ("fit",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
