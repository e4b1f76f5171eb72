"""MetaLoRA: low-rank adapters whose core is generated for each image (arXiv 2504.00460)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metalora.errors import InputError
from metalora.version import __version__

if TYPE_CHECKING:
    from metalora.adapting import adapt
    from metalora.backbones import Backbone, load_backbone
    from metalora.config import AdapterConfig
    from metalora.cores import Cores
    from metalora.evaluation.embedding import Protocol, embed
    from metalora.methods import METHODS
    from metalora.model import AdaptedModel
    from metalora.storage import load
    from metalora.suites import load_suite
    from metalora.training import TrainingConfig, fit

__all__ = [
    "METHODS",
    "AdaptedModel",
    "AdapterConfig",
    "Backbone",
    "Cores",
    "InputError",
    "Protocol",
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
    "adapting": ("adapt",),
    "backbones": ("Backbone", "load_backbone"),
    "config": ("AdapterConfig",),
    "cores": ("Cores",),
    "evaluation.embedding": ("Protocol", "embed"),
    "methods": ("METHODS",),
    "model": ("AdaptedModel",),
    "storage": ("load",),
    "suites": ("load_suite",),
    "training": ("TrainingConfig", "fit"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
