"""Old spellings of settings, columns and rows, which are still read.

They go with the next release. Files of format version 1 use them, and so may people who call the command line.
"""

import re
from collections.abc import Mapping
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
COLUMNS = {"rate": "lr", "split": "task_split"}
OPTIONS = {f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}" for old, new in SETTINGS.items()}


def upgrade_settings(values: Any) -> Any:
    """Rename old keys of nested settings, as JSON gives them."""
    if isinstance(values, Mapping):
        return {SETTINGS.get(key, key): upgrade_settings(value) for key, value in values.items()}
    return [upgrade_settings(value) for value in values] if isinstance(values, list) else values


def upgrade_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Rename old columns, and the names of rows, in a row of results."""
    row = {COLUMNS.get(key, key): value for key, value in row.items()}
    names = {key: upgrade_name(row[key]) for key in ("method", "against") if isinstance(row.get(key), str)}
    return row | names


def upgrade_name(name: str) -> str:
    """The name of a row of a comparison as it is spelled now."""
    name = re.sub(r"-named(?=-|@|$)", "-factors", name)
    return re.sub(r"(@(?:all|\d+))-(undone|renormalised)$", lambda m: f"{m[1]}-{USES[m[2]]}", name)


USES = {"undone": "inverted", "renormalised": "bn-adapted"}
