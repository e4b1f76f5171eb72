"""Results of comparisons: the bundled ones, and a visitor's own.

assets/results/NAME/comparison.json         as `python -m metalora compare --out …` writes it
assets/results/STUDY/PART/comparison.json   as `python -m metalora study STUDY --final` does; called STUDY/PART

A visitor's own comparison continues from what is bundled: trainings of the same settings are taken over, not repeated.
"""

import functools
import hashlib
import json
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from metalora.experiments.comparison import FORMAT_VERSION, RESULTS, Comparison, to_records
from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.job_files import has_result, job_file
from metalora.experiments.runner import jobs_of, read_comparison, with_lr
from metalora.experiments.variants import CONTROLS, DEFAULT
from metalora.models.bundled_networks import BUNDLED
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.checks import check_int
from metalora.util.errors import InputError, choices
from metalora.util.files import parse_json, write_text
from metalora.util.paths import ASSETS
from metalora.util.renamed import upgrade_row

FOLDER = ASSETS / "results"
VARIANTS = (*DEFAULT, *CONTROLS)
MAX_SEEDS, MAX_STEPS = 10, 1000  # of a comparison that is run from the app
SETTINGS = "settings"  # folder of the settings of comparisons that were run
PRIMARY = "pooled"  # of the suites that can be run from the app

_ROW = frozenset({"method", "backbone", "seed"})
_PLACE = frozenset({"task_split", "gallery", "k"})
# What rows, accuracies of single tasks, confusions and trials of a comparison have.
_COLUMNS = (_ROW | _PLACE | {"accuracy", "lr"}, _ROW | _PLACE | {"accuracy"}, _ROW | _PLACE, _ROW | {"lr"})


def bundled_results() -> list[str]:
    """Return the names of the bundled results: comparisons, then parts of studies."""
    names = (file.parent.relative_to(FOLDER).as_posix() for file in FOLDER.rglob(RESULTS))
    return sorted(names, key=lambda name: ("/" in name, name))


@functools.cache  # 12 MB in all, which a running comparison reads every second
def load_bundled(name: str) -> Comparison:
    """Load a bundled result.

    Raises:
        InputError: there is none of that name.
    """
    names = bundled_results()
    if name not in names:
        raise InputError(f"There are no bundled results {name!r}: use {choices(str(name), names)}.")
    return load_comparison(FOLDER / name / RESULTS)


def compare_rows(name: str = "digits-default") -> list[dict[str, Any]]:
    """Return the rows of a bundled comparison: accuracy of each method on seen and unseen tasks, with its budget.

    Args:
        name: of the results, such as "digits-default".

    Returns:
        A dict per method, backbone, task_split ("seen", "unseen"), gallery ("pooled", "within", or "linear head" with
        k = 0: the classifier that was trained along) and k: "accuracy" (0 to 1, mean over seeds), "std" (None for one
        seed), "n_seeds", "static_parameters", "generator_parameters", "ms_per_step" and more.

    Raises:
        InputError: there are no results of that name.
    """
    return load_bundled(name).to_dict()["rows"]


def load_comparison(file: Path) -> Comparison:
    """Load a comparison.json; one without accuracies of single tasks or confusions gets empty frames for them.

    Raises:
        InputError: the file is missing, or does not have a comparison.
    """
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
        version = values.get("format_version", 1)
        if version not in (1, FORMAT_VERSION):
            raise ValueError(f"it has format version {version}, this metalora reads {FORMAT_VERSION}")

        def frame(name: str) -> pd.DataFrame:
            rows = values.get(name, [])
            return pd.DataFrame([upgrade_row(row) for row in rows] if version == 1 else list(rows))

        frames = [frame(name) for name in ("seeds", "tasks", "confusion", "trials")]
        for table, columns in zip(frames, _COLUMNS, strict=True):
            if len(table) and (lacking := columns - set(table.columns)):
                raise ValueError(f"a row lacks {sorted(lacking)[0]}")
        config, primary, notes = ComparisonConfig.from_dict(values["config"]), values["primary"], values["notes"]
        stored = {name: frame(name) for name in ("gains", "set_gains", "worst_gains") if values.get(name)}
        rows, tasks, confusion, trials = frames
        return Comparison(
            config, rows, tasks, confusion, trials, primary, tuple(notes), int(values.get("missing", 0)), stored
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).removesuffix(".")
        raise InputError(f"{file} is no result of a comparison ({reason}): delete it and run it again.") from error


def own_config(backbones: list[str], methods: list[str], seeds: int, steps: int) -> ComparisonConfig:
    """Return the settings of a visitor's own comparison, on the digits.

    Raises:
        InputError: nothing is chosen, a name is unknown, or a number is too large.
    """
    unknown = [name for name in backbones if name not in BUNDLED]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no bundled backbone: use {choices(unknown[0], BUNDLED)}.")
    check_int("seeds", seeds, 1, MAX_SEEDS)
    check_int("steps", steps, 1, MAX_STEPS)
    return ComparisonConfig(
        suite=SuiteConfig("digits"),
        backbones=tuple(name for name in BUNDLED if name in backbones),
        methods=tuple(sorted(methods, key=lambda name: VARIANTS.index(name) if name in VARIANTS else len(VARIANTS))),
        seeds=seeds,
        training=TrainingConfig(steps=steps),
    )


def own_comparison(config: ComparisonConfig, folder: Path) -> Comparison:
    """Read what there is of a visitor's comparison: trainings that ran in `folder`, and bundled ones."""
    bundled = bundled_jobs(config)
    count = "One training of these is" if len(bundled) == 1 else f"{len(bundled)} trainings of these are"
    note = f"{count} bundled: time per step was measured on another machine."
    return read_comparison(config, folder, PRIMARY, [note] if bundled else [], partial=True, known=bundled)


def remember_config(config: ComparisonConfig, folder: Path) -> None:
    """Write the settings of a visitor's comparison beside its trainings, for `own_configs`.

    Raises:
        InputError: the disk refuses.
    """
    text = json.dumps(config.to_dict(), sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    write_text(folder / SETTINGS / f"{name}.json", text + "\n")


def own_configs(folder: Path) -> dict[str, ComparisonConfig]:
    """Return the comparisons that were run in `folder`, by the names of their files, the last one first.

    Raises:
        InputError: a file is damaged.
    """
    configs = {}
    for file in sorted((folder / SETTINGS).glob("[!.]*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            configs[file.stem] = ComparisonConfig.from_dict(parse_json(file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file} has no settings of a comparison: delete it and run the comparison again."
            ) from error
    return configs


def bundled_jobs(config: ComparisonConfig) -> dict[str, dict[str, Any]]:
    """Return the bundled results of jobs of `config`, by their keys. They are shared, so leave them as they are."""
    return _bundled_jobs(json.dumps(config.to_dict(), sort_keys=True))


@functools.lru_cache(16)
def _bundled_jobs(settings: str) -> dict[str, dict[str, Any]]:
    config = ComparisonConfig.from_dict(json.loads(settings))
    keys = {job.key for job in jobs_of(config)}
    comparisons = map(load_bundled, bundled_results())
    same_suite = [comparison for comparison in comparisons if comparison.config.suite.name == config.suite.name]
    return {job.key: result for comparison in same_suite for job, result in as_jobs(comparison, keys)}


def missing_jobs(config: ComparisonConfig, folder: Path) -> list[JobConfig]:
    """Return the jobs of `config` whose results are neither in `folder` nor bundled."""
    bundled = bundled_jobs(config)
    return [job for job in jobs_of(config) if job.key not in bundled and not has_result(folder, job)]


def adopt_bundled(config: ComparisonConfig, folder: Path) -> None:
    """Copy bundled results of jobs of `config` into `folder`, so that they need not run again."""
    bundled = bundled_jobs(config)
    adopt_results(folder, [(job, bundled[job.key]) for job in jobs_of(config) if job.key in bundled])


def adopt_results(folder: Path, results: Iterable[tuple[JobConfig, dict[str, Any]]]) -> None:
    """Write results that `folder` lacks."""
    for job, result in results:
        if not has_result(folder, job):
            write_text(job_file(folder, job), json.dumps(result) + "\n")


def as_jobs(comparison: Comparison, keys: Container[str] | None = None) -> Iterator[tuple[JobConfig, dict[str, Any]]]:
    """Split a comparison into its jobs and their results, as `run_job` returns them.

    Args:
        comparison: the results; jobs that are missing are left out.
        keys: of the jobs to yield; None: all.
    """
    for job in jobs_of(comparison.config):
        rows = _of_job(comparison.rows, job)
        if set(rows["method"]) != set(map(str, job.variants)):
            continue
        job = with_lr(job, {(job.backbone, str(job.variants[0])): float(rows["lr"].iloc[0])})
        if keys is None or job.key in keys:
            frames = {
                "rows": rows,
                "tasks": _of_job(comparison.tasks, job),
                "confusion": _of_job(comparison.confusion, job),
            }
            plain = {name: to_records(frame) for name, frame in frames.items()}
            yield job, {"job": job.to_dict(), **plain}


def _of_job(frame: pd.DataFrame, job: JobConfig) -> pd.DataFrame:
    if frame.empty:
        return pd.DataFrame(columns=["method"])
    seed, methods = job.training.seed, list(map(str, job.variants))
    return frame[frame["method"].isin(methods) & (frame["backbone"] == job.backbone) & (frame["seed"] == seed)]
