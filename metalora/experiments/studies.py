"""Studies: named lists of comparisons, one behind every figure and table of docs/results.

A study is developed on seen tasks and validation images only, see `develop`. Its final run is scored on tasks and
images that no choice has seen; every such run is logged beside its results:

assets/studies/STUDY.yaml                   the question, and the settings of every part
assets/results/STUDY/PART/comparison.json   rows over seeds with their settings, written after every training
assets/results/STUDY/PART/comparison.md     the same as a table to read
assets/results/STUDY/PART/provenance.json   versions, revision, machine and command of the last training
assets/results/STUDY/final.jsonl            when the final run was started, with which version and settings
"""

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # where it was not compiled
    from yaml import SafeLoader  # type: ignore[assignment, unused-ignore]

from metalora.experiments.comparison import RESULTS, Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job_files import has_result, write_provenance
from metalora.experiments.results import FOLDER, adopt_results, as_jobs, load_comparison
from metalora.experiments.runner import JobDone, jobs_of, read_comparison, run_comparison
from metalora.experiments.table_writers import to_markdown
from metalora.suites.suite import Suite
from metalora.util.cluster import Cluster
from metalora.util.errors import InputError, choices
from metalora.util.files import write_text
from metalora.util.paths import ASSETS
from metalora.version import __version__

LOG = "final.jsonl"
TABLE = "comparison.md"
NAMES = ("primary", "mixer", "map", "breadth", "field", "contexts")  # the one that decides first


@dataclass(frozen=True)
class Study:
    """A named list of comparisons.

    Attributes:
        question: What it answers.
        parts: Comparisons by name, the ones that decide first.
    """

    question: str
    parts: dict[str, ComparisonConfig]


def load_study(file: Path) -> Study:
    """Load a study from YAML.

    Raises:
        InputError: a setting is unknown, or has a value that cannot be used.
    """
    values = yaml.load(file.read_text(encoding="utf-8"), Loader=SafeLoader)
    parts = {name: ComparisonConfig.from_dict(settings) for name, settings in values["parts"].items()}
    return Study(values["question"], parts)


STUDIES = {name: load_study(ASSETS / "studies" / f"{name}.yaml") for name in NAMES}


def find_study(name: str) -> Study:
    """Return the study called `name`.

    Raises:
        InputError: there is none; the message lists the names.
    """
    if name not in STUDIES:
        raise InputError(f"Unknown study {name!r}: use {choices(name, STUDIES)}.")
    return STUDIES[name]


def run_settings(
    config: ComparisonConfig, *, data: str, final: bool, seeds: int | None = None, download: bool = False
) -> ComparisonConfig:
    """Return a part's settings for a run.

    Args:
        config: the part.
        data: folder that has the data.
        final: score unseen tasks and test images, rather than hold out seen tasks and validation images.
        seeds: at most so many.
        download: fetch data that are not here.
    """
    suite = replace(config.suite, data=data, development=not final, download=download)
    kind, colon, path = suite.name.partition(":")
    if colon:
        suite = replace(suite, name=f"{kind}:{Path(data) / path}")
    return replace(config, suite=suite, seeds=min(config.seeds, seeds or config.seeds))


def run_part(
    config: ComparisonConfig,
    out: Path,
    work: Path,
    suite: Suite,
    notes: Sequence[str] = (),
    *,
    n_jobs: int | None = None,
    log_to: str | None = None,
    cluster: Cluster | None = None,
) -> Generator[JobDone, None, None]:
    """Run the unfinished jobs of a part; write `out`/comparison.json from existing rows, and after every training.

    Args:
        config: the part, see `run_settings`.
        out: folder of the results; trainings that an earlier run left there are neither repeated nor lost, those of
            more seeds included.
        work: folder of the single jobs.
        suite: the suite of the settings.
        notes: sentences for below the table.
        n_jobs: processes at a time, see `run_comparison`.
        log_to: tracker, see `run_comparison`.
        cluster: where jobs run in place of this machine.

    Raises:
        InputError: see `stored_results` and `run_comparison`.
    """
    kept = config
    if (stored := stored_results(config, out / RESULTS)) is not None:
        kept = replace(config, seeds=max(config.seeds, stored.config.seeds))
        adopt_results(work, as_jobs(stored))

    def write() -> None:
        write_results(read_comparison(kept, work, suite.primary, notes, partial=True), out)

    if any(has_result(work, job) for job in jobs_of(kept)):
        write()
    for job in run_comparison(config, work, n_jobs=n_jobs, suite=suite, log_to=log_to, cluster=cluster):
        if job.ran:
            write_provenance(config, out)
            write()
        yield job


def write_results(comparison: Comparison, out: Path) -> None:
    """Write rows and table; accuracies of single tasks only where the worst one is read, to save space."""
    tasks = comparison.tasks
    if len(tasks):
        tasks = tasks[(tasks["gallery"] == comparison.primary) & (tasks["k"] == comparison.config.ks[0])]
    small = replace(comparison, tasks=tasks, confusion=pd.DataFrame())
    write_text(out / RESULTS, json.dumps(small.to_dict()) + "\n")
    write_text(out / TABLE, to_markdown(small.table()))


def stored_results(config: ComparisonConfig, file: Path) -> Comparison | None:
    """Load what an earlier run left of a part in `file`; None: nothing.

    Raises:
        InputError: the file is damaged, or has trainings with other settings, which would be lost.
    """
    if not file.exists():
        return None
    stored = load_comparison(file)
    keys = {job.key for job in jobs_of(replace(config, seeds=max(config.seeds, stored.config.seeds)))}
    others = [job for job, _ in as_jobs(stored) if job.key not in keys]
    if others:
        raise InputError(
            f"{file} has trainings of other settings, {others[0].variants[0]} among them: choose another --out, or "
            "move it away."
        )
    return stored


def read_map(folder: Path) -> dict[str, Comparison]:
    """Load the finished parts of the study "map" below a folder, and the first one of "primary", for `gain_map`.

    Raises:
        InputError: a file is damaged.
    """
    files = {part: folder / "map" / part / RESULTS for part in STUDIES["map"].parts}
    files["budget-80k"] = folder / "primary" / "main" / RESULTS
    parts = {part: load_comparison(file) for part, file in files.items() if file.exists()}
    return {part: comparison for part, comparison in parts.items() if not comparison.missing}


def read_contexts(folder: Path) -> dict[str, Comparison]:
    """Load the parts of the study "contexts" that are below a folder, for `context_rows`.

    Raises:
        InputError: a file is damaged.
    """
    files = {part: folder / "contexts" / part / RESULTS for part in STUDIES["contexts"].parts}
    return {part: load_comparison(file) for part, file in files.items() if file.exists()}


def log_final(name: str, parts: dict[str, ComparisonConfig], folder: Path = FOLDER) -> None:
    """Add a line to the study's log: final tasks and images are about to be scored."""
    file = folder / name / LOG
    line: dict[str, Any] = {"date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "version": __version__}
    line["parts"] = {part: {"seeds": c.seeds, "steps": c.training.steps} for part, c in parts.items()}
    earlier = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, earlier + json.dumps(line) + "\n")
