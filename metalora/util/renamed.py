"""Old names of settings, options, columns, rows and modules, and settings that are gone, which are still read.

Files of format version 1 hold them. The names of options and modules go with release 0.3.
"""

import re
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SETTINGS = {
    "batch": "batch_size",
    "clip": "max_grad_norm",
    "mapping_rate": "mapping_lr_scale",
    "name_factors": "factor_loss_weight",
    "neutral": "identity_core_prob",
    "neutral_sets": "identity_core_prob_sets",
    "radius": "code_norm_limit",
    "rate": "lr",
    "spread": "head_init_std",
    "told": "teacher_forcing_ratio",
    "train_pictures": "max_train_images",
}
# Settings of before, and the value that changes nothing.
GONE = {"code_batchnorm": False, "distillation_weight": 0.0, "extractor_rank": 0}
COLUMNS = {"rate": "lr", "split": "task_split"}
OPTIONS = {f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}" for old, new in SETTINGS.items()}
MODULES = {
    "adapting": "models.adapt",
    "backbones": "models.backbones",
    "bench": "experiments.bench",
    "budget": "models.budget",
    "config": "adapters.config",
    "cores": "adapters.cores",
    "device": "util.device",
    "errors": "util.errors",
    "evaluation.cells": "experiments.job",
    "evaluation.comparison": "experiments.comparison",
    "evaluation.renormalised": "evaluation.batchnorm_adaptation",
    "evaluation.running": "experiments.runner",
    "evaluation.scoring": "evaluation.accuracy",
    "evaluation.statistics": "experiments.statistics",
    "evaluation.table_writers": "experiments.table_writers",
    "evaluation.tables": "experiments.table",
    "evaluation.undoing": "experiments.inversion",
    "extractor": "models.extractors",
    "formats": "adapters.formats",
    "layers": "adapters.layers",
    "mapping": "models.mapping_net",
    "methods": "adapters.methods",
    "model": "models.adapted_model",
    "objective": "training.objective",
    "pretraining": "training.pretraining",
    "states": "util.files",
    "suites.base": "suites.suite",
    "suites.shifts": "suites.transforms",
    "suites.tasks": "suites.task_lists",
    "targets": "adapters.targets",
}
UNTIL = "the old name goes with 0.3."


def upgrade_settings(values: Any) -> Any:
    """Rename old keys of nested settings, as JSON gives them, and leave out those that are gone and changed nothing.

    The patterns of a rank pattern are no keys.
    """
    if isinstance(values, Mapping):
        return {
            SETTINGS.get(key, key): value if key == "rank_pattern" else upgrade_settings(value)
            for key, value in values.items()
            if key not in GONE or value != GONE[key]
        }
    return [upgrade_settings(value) for value in values] if isinstance(values, list) else values


def upgrade_options(words: Sequence[str], known: Collection[str]) -> tuple[list[str], list[str]]:
    """Rename old options among the words of a command line.

    Args:
        words: "--option", "--option=value" or values.
        known: Options of the verb.

    Returns:
        The words, and one sentence for each old name.
    """
    notes = []

    def rename(word: str) -> str:
        old, equals, value = word.partition("=")
        new = OPTIONS.get(old)
        if new not in known or old in known:
            return word
        notes.append(f"{old} is called {new} now; {UNTIL}")
        return f"{new}{equals}{value}"

    return [rename(word) for word in words], list(dict.fromkeys(notes))


def upgrade_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Rename old columns, and the names of rows, in a row of results."""
    row = {COLUMNS.get(key, key): value for key, value in row.items()}
    names = {key: upgrade_name(row[key]) for key in ("method", "against") if isinstance(row.get(key), str)}
    return row | names


def upgrade_name(name: str) -> str:
    """Return the name of a row of a comparison as it is spelled now."""
    name = re.sub(r"-named(?=-|@|$)", "-factors", name)
    return re.sub(r"(@(?:all|\d+))-(undone|renormalised)$", lambda m: f"{m[1]}-{USES[m[2]]}", name)


USES = {"undone": "inverted", "renormalised": "bn-adapted"}


class _OldModule(Loader):
    """Loads the module that replaced an old one."""

    def __init__(self, new: str):
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # importing set it to that of the old name


class OldModules(MetaPathFinder):
    """Finds modules of `metalora` by their names of before."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return how to import an old module, with a warning; None for every other name."""
        package, _, name = fullname.partition(".")
        if package != "metalora" or name not in MODULES:
            return None
        new = f"metalora.{MODULES[name]}"
        warnings.warn(f"{fullname} is called {new} now; {UNTIL}", DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, _OldModule(new))


def find_old_modules() -> None:
    """Let `import` find modules by their names of before."""
    sys.meta_path.append(OldModules())
