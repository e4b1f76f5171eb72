"""Results of comparisons to look at: the bundled ones, a visitor's own, and the paper's for reference.

assets/results/NAME/comparison.json         as `python -m metalora compare --out …` writes it
assets/results/STUDY/PART/comparison.json   as `python -m metalora study STUDY --final` does; called STUDY/PART

A visitor's own comparison goes on from what is bundled: trainings of the same settings are taken over, not run again.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.experiments.comparison import FORMAT_VERSION, RESULTS, Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job import JobConfig
from metalora.experiments.runner import job_file, jobs_of, read_comparison, with_lr
from metalora.experiments.variants import CONTROLS, DEFAULT, parse_variant
from metalora.models.backbones import ASSETS, BUNDLED
from metalora.suites.config import SuiteConfig
from metalora.util.checks import check_int
from metalora.util.errors import InputError, choices
from metalora.util.files import write_text
from metalora.util.renamed import upgrade_row

FOLDER = ASSETS / "results"
VARIANTS = (*DEFAULT, *CONTROLS)
MOST_SEEDS, MOST_STEPS = 10, 1000  # of a comparison that somebody runs from the app
PRIMARY = "pooled"  # of the suites that can be run from the app

_ROW = frozenset({"method", "backbone", "seed"})
_PLACE = frozenset({"task_split", "gallery", "k"})
# What rows, accuracies of single tasks, confusions and trials of a comparison have.
_COLUMNS = (_ROW | _PLACE | {"accuracy", "lr"}, _ROW | _PLACE | {"accuracy"}, _ROW | _PLACE, _ROW | {"lr"})


def bundled_results() -> list[str]:
    """Names of the bundled results: comparisons, then parts of studies."""
    names = (file.parent.relative_to(FOLDER).as_posix() for file in FOLDER.rglob(RESULTS))
    return sorted(names, key=lambda name: ("/" in name, name))


@functools.cache  # 12 MB in all; a running comparison looks at them every second
def load_bundled(name: str) -> Comparison:
    """A bundled result.

    Raises:
        InputError: there is none of that name.
    """
    known = bundled_results()
    if name not in known:
        raise InputError(f"There are no bundled results {name!r}: use {choices(str(name), known)}.")
    return load_comparison(FOLDER / name / RESULTS)


def set_sizes() -> list[str]:
    """Sizes of the sets that rows of bundled results are used with, "1" and "all" among them."""
    found = {
        str(parse_variant(name).set_size or "all")
        for key in bundled_results()
        for name in load_bundled(key).config.methods
    }
    return sorted(found, key=lambda size: float("inf") if size == "all" else int(size))


def of_set_size(comparison: Comparison, size: str) -> Comparison:
    """The rows that are used with sets of `size` ("1", "8", …, "all"), beside those of static methods without sets.

    Raises:
        InputError: this is no size.
    """
    if size != "all" and not (isinstance(size, str) and size.isdigit() and int(size)):
        raise InputError(f"{size!r} is no size of a set: use a number or all.")
    wanted = None if size == "all" else int(size)
    names = [
        row.name for row in comparison.config.variants if row.set_size == wanted or (row.static and row.set_size == 1)
    ]
    rows, tasks = (f[f["method"].isin(names)] if len(f) else f for f in (comparison.rows, comparison.tasks))
    config = replace(comparison.config, methods=tuple(names), controls=False)
    # Stars are of the whole family of rows, however many of them are shown.
    sets = comparison.set_gains
    stored = {"gains": comparison.gains, "set_gains": None if sets is None else sets[sets["method"].isin(names)]}
    return replace(comparison, config=config, rows=rows, tasks=tasks, stored=stored)


def compare_rows(name: str = "digits-default") -> list[dict[str, Any]]:
    """Rows of a bundled comparison: k-NN accuracy of each method on seen and unseen tasks, with its budget.

    Args:
        name: of the results, such as "digits-default".

    Returns:
        A dict per method, backbone, split ("seen", "unseen"), gallery ("pooled", "within") and k: "accuracy" (0 to 1,
        mean over seeds), "std" (None for one seed), "n_seeds", "static_parameters", "generator_parameters",
        "ms_per_step" and more.

    Raises:
        InputError: there are no results of that name.
    """
    return load_bundled(name).to_dict()["rows"]


def load_comparison(file: Path) -> Comparison:
    """A comparison.json; one without accuracies of single tasks or confusions has empty frames there.

    Raises:
        InputError: the file is missing, or is no comparison.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version = found.get("format_version", 1)
        if version not in (1, FORMAT_VERSION):
            raise ValueError(f"it has format version {version}, this metalora reads {FORMAT_VERSION}")

        def frame(name: str) -> pd.DataFrame:
            rows = found.get(name, [])
            return pd.DataFrame([upgrade_row(row) for row in rows] if version == 1 else list(rows))

        frames = [frame(name) for name in ("seeds", "tasks", "confusion", "trials")]
        for one, columns in zip(frames, _COLUMNS, strict=True):
            if len(one) and (lacking := columns - set(one.columns)):
                raise ValueError(f"a row lacks {sorted(lacking)[0]}")
        config, primary, notes = ComparisonConfig.from_dict(found["config"]), found["primary"], found["notes"]
        stored = {name: frame(name) for name in ("gains", "set_gains") if found.get(name)}
        return Comparison(config, *frames, primary, tuple(notes), int(found.get("missing", 0)), stored)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        words = str(error).removesuffix(".")
        raise InputError(f"{file} is no result of a comparison ({words}): delete it and run it again.") from error


def own_config(backbones: list[str], methods: list[str], seeds: int, steps: int) -> ComparisonConfig:
    """Settings of a comparison on the digits that a visitor may run.

    Raises:
        InputError: nothing is chosen, it is not known, or it is too much.
    """
    strange = [name for name in backbones if name not in BUNDLED]
    if strange:
        raise InputError(f"{strange[0]!r} is no bundled backbone: use {choices(strange[0], BUNDLED)}.")
    check_int("seeds", seeds, 1, MOST_SEEDS)
    check_int("steps", steps, 1, MOST_STEPS)
    ordered = [name for name in VARIANTS if name in methods] + [name for name in methods if name not in VARIANTS]
    base = ComparisonConfig()
    return replace(
        base,
        suite=SuiteConfig("digits"),
        backbones=tuple(name for name in BUNDLED if name in backbones),
        methods=tuple(ordered),
        seeds=seeds,
        training=replace(base.training, steps=steps),
    )


def own_comparison(config: ComparisonConfig, folder: Path) -> Comparison:
    """What there is of a visitor's comparison: trainings that ran in `folder`, and those that are bundled."""
    known = bundled_jobs(config)
    count = "One training of these is" if len(known) == 1 else f"{len(known)} trainings of these are"
    words = f"{count} bundled: time per step was measured on another machine."
    return read_comparison(config, folder, PRIMARY, [words] if known else [], partial=True, known=known)


def bundled_jobs(config: ComparisonConfig) -> dict[str, dict[str, Any]]:
    """Bundled results of cells of `config`, by their keys."""
    wanted = {job.key for job in jobs_of(config)}
    same = [found for found in map(load_bundled, bundled_results()) if found.config.suite == config.suite]
    return {job.key: result for found in same for job, result in as_jobs(found) if job.key in wanted}


def missing_jobs(config: ComparisonConfig, folder: Path) -> list[JobConfig]:
    """Cells of `config` that are neither in `folder` nor bundled."""
    known = bundled_jobs(config)
    return [job for job in jobs_of(config) if job.key not in known and not job_file(folder, job).exists()]


def adopt_bundled(config: ComparisonConfig, folder: Path) -> None:
    """Put bundled results of cells of `config` into `folder`, so that they need not run again."""
    known = bundled_jobs(config)
    for job in jobs_of(config):
        if job.key in known and not job_file(folder, job).exists():
            write_text(job_file(folder, job), json.dumps(known[job.key]) + "\n")


def as_jobs(comparison: Comparison) -> Iterator[tuple[JobConfig, dict[str, Any]]]:
    """The cells that a comparison amounts to, as `run_job` returns them."""
    frames = {name: getattr(comparison, name) for name in ("rows", "tasks", "confusion")}
    for job in jobs_of(comparison.config):
        own = {name: _of_job(frame, job) for name, frame in frames.items()}
        if {row["method"] for row in own["rows"]} == set(job.variants):
            chosen = with_lr(job, {(job.backbone, job.variants[0]): own["rows"][0]["lr"]})
            yield chosen, {"job": chosen.to_dict(), **own}


def _of_job(frame: pd.DataFrame, job: JobConfig) -> list[dict[str, Any]]:
    if frame.empty:
        return []
    here = frame["method"].isin(job.variants) & (frame["backbone"] == job.backbone)
    here &= frame["seed"] == job.training.seed
    return json.loads(frame[here].to_json(orient="records", double_precision=10))
