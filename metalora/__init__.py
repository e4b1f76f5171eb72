"""MetaLoRA: low-rank adapters whose core is generated for each image (arXiv 2504.00460)."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from metalora.util.errors import InputError
from metalora.util.renamed import UNTIL, find_old_modules
from metalora.version import __version__

if TYPE_CHECKING:
    from metalora.adapters.config import AdapterConfig
    from metalora.adapters.core_table import CoreTable
    from metalora.adapters.cores import Cores
    from metalora.adapters.methods import METHODS
    from metalora.evaluation.config import EmbedConfig
    from metalora.evaluation.embedding import embed
    from metalora.models.adapt import adapt
    from metalora.models.adapted_model import AdaptedModel
    from metalora.models.backbones import Backbone, load_backbone
    from metalora.models.hub import load_from_hub, push_to_hub
    from metalora.models.loading import load
    from metalora.models.named_adapters import NamedAdapters
    from metalora.models.peft_format import save_peft
    from metalora.suites.load import load_suite
    from metalora.training.config import TrainingConfig
    from metalora.training.fit import fit

__all__ = [
    "METHODS",
    "AdaptedModel",
    "AdapterConfig",
    "Backbone",
    "CoreTable",
    "Cores",
    "EmbedConfig",
    "InputError",
    "NamedAdapters",
    "TrainingConfig",
    "__version__",
    "adapt",
    "embed",
    "fit",
    "load",
    "load_backbone",
    "load_from_hub",
    "load_suite",
    "push_to_hub",
    "save_peft",
]

# Imported at first use, since most of them import torch and timm, which `metalora --help` does not need.
_MODULES = {
    "adapters.config": ("AdapterConfig",),
    "adapters.core_table": ("CoreTable",),
    "adapters.cores": ("Cores",),
    "adapters.methods": ("METHODS",),
    "evaluation.config": ("EmbedConfig",),
    "evaluation.embedding": ("embed",),
    "models.adapt": ("adapt",),
    "models.adapted_model": ("AdaptedModel",),
    "models.backbones": ("Backbone", "load_backbone"),
    "models.hub": ("load_from_hub", "push_to_hub"),
    "models.loading": ("load",),
    "models.named_adapters": ("NamedAdapters",),
    "models.peft_format": ("save_peft",),
    "suites.load": ("load_suite",),
    "training.config": ("TrainingConfig",),
    "training.fit": ("fit",),
}

find_old_modules()


def __getattr__(name: str) -> Any:
    if name == "Protocol":
        warnings.warn(f"metalora.Protocol is called EmbedConfig now; {UNTIL}", DeprecationWarning, stacklevel=2)
        name = "EmbedConfig"
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
