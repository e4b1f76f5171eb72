"""`compare`: methods × backbones × seeds, and one table."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.messages import leave, write_json
from metalora.cli.options import (
    COMPARISON,
    OUTPUT,
    SUITE_OPTIONS,
    TRAINING_OPTIONS,
    Flag,
    Many,
    Number,
    Option,
    Text,
    Whole,
    settings,
    suite_settings,
    verb,
    without,
)
from metalora.cli.progress import check, follow

OPTIONS = {
    "method": Option(Many, "Row of the table, such as lora or metalora-tr@8; repeatable.", COMPARISON),
    "controls": Option(Flag, "Add the control rows.", COMPARISON, names=("--controls",)),
    "backbone": Option(Many, "Bundled backbone or timm name; repeatable.", COMPARISON, "backbones"),
    "seeds": Option(Whole, "Random seeds to average over; stars need 6.", COMPARISON),
    "k": Option(list[int] | None, "K of k-NN; repeatable.", COMPARISON, "ks"),
    "rank": Option(Whole, "R of Meta-LoRA TR; LoRA and CP get R².", COMPARISON),
    "rank_pattern": Option(Many, "REGEX=R of Meta-LoRA TR in layers of that name; repeatable.", COMPARISON),
    "hidden": Option(Whole, "Width of the mapping net.", COMPARISON),
    "head_init_std": Option(Number, "Of free codes: deviation of the mapping net's last weights at first.", COMPARISON),
    "code_norm_limit": Option(Number, "Length that a free code stays below; 0: any.", COMPARISON),
    "extractor": Option(Text, "What cores are read from: self, stem, or a backbone's name.", COMPARISON),
    "targets": Option(Many, "Regular expression over layer names to adapt; repeatable. Left out: all.", COMPARISON),
    "tune": Option(Flag, "Choose every method's learning rate on validation images.", COMPARISON, names=("--tune",)),
}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    # A row's name says its set size, and the seeds are counted from 0.
    training = without(TRAINING_OPTIONS, "set_size", "seed", "validate_every")
    verb(app, "compare", compare, OPTIONS, SUITE_OPTIONS, training, OUTPUT)


def compare(
    out: Annotated[Path | None, typer.Option(help="Folder of the results; left out: results/SUITE.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time; left out: one per core on a CPU.")] = None,
    **given: Any,
) -> None:
    """Compare methods on a suite: k-NN accuracy on seen and unseen tasks, with budgets.

    What is finished is kept under --out, and the same command goes on with what is missing.
    """
    from metalora.experiments.runner import JOBS, count_jobs, read_comparison, run_comparison
    from metalora.models.saving import check_folder
    from metalora.util.errors import InputError

    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}: use 1 or more.")
    config = comparison_settings(given)
    folder = out or Path("results") / re.sub(r"[^\w.-]+", "-", config.suite.name).strip("-")
    check_folder(folder, owned=(JOBS,))
    suite, notes = check("Reading pictures", config)
    done = 0
    try:
        for job in follow("Training", run_comparison(config, folder, n_jobs=jobs), folder, count_jobs(config)):
            done = job.done
    except KeyboardInterrupt as error:
        raise leave(f"Stopped: {done} finished trainings are kept, the same command goes on.", 1) from error
    _tell(read_comparison(config, folder, suite.primary, notes), folder, given.get("json"))


def comparison_settings(given: dict[str, Any]) -> Any:
    """The `ComparisonConfig` of the options that were given."""
    from metalora.experiments.config import ComparisonConfig
    from metalora.training.config import TrainingConfig

    plural = {"method": "methods", "backbone": "backbones", "k": "ks"}
    values = {plural.get(name, name): value for name, value in given.items()}
    base = ComparisonConfig().training
    training = replace(base, **{key: value for key, value in given.items() if key in TrainingConfig.__annotations__})
    return settings(ComparisonConfig, values, suite=suite_settings(given), training=training)


def _tell(comparison: Any, folder: Path, json: Path | None) -> None:
    from rich.console import Console

    from metalora.experiments.table_writers import to_terminal

    to_terminal(comparison.table(), Console())  # first: what it took so long to find is seen, whatever the disk does
    comparison.write(folder)
    write_json(json, comparison.to_dict())
    typer.echo(f"The table as CSV, Markdown and LaTeX, and all numbers as JSON, are in {folder}.")
