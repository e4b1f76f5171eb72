"""MetaLoRA: low-rank adapters whose core is generated for each image (arXiv 2504.00460)."""

from metalora.backbones import Backbone, load_backbone
from metalora.config import AdapterConfig
from metalora.cores import Cores
from metalora.errors import InputError
from metalora.evaluation.embedding import Protocol, embed
from metalora.methods import METHODS
from metalora.model import AdaptedModel, adapt
from metalora.storage import load
from metalora.suites import load_suite
from metalora.training import TrainingConfig, fit
from metalora.version import __version__

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
