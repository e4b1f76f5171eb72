"""A visitor's own results, as the Compare tab shows them: comparisons that they ran, and finished runs."""

import functools
import json
import math
from pathlib import Path
from typing import Any

from metalora.experiments.comparison import Comparison
from metalora.experiments.conclusion import format_gain
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job_files import JOBS
from metalora.experiments.results import own_comparison, own_configs
from metalora.experiments.short_table import Entry, ShortRow
from metalora.experiments.table import NOT_APPLICABLE, SPLITS, format_percent
from metalora.plots.palette import method_colour
from metalora.runs.run_folder import RunState, open_run
from metalora.suites.registry import SUITES
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.compare import Overview, Source
from metalora.views.compare_table import short_html

TICKED, RUNS, OWN = "ticked", "runs", "own:"  # names of results; of the last follow the suite and a key
MEASURED = (
    "k-NN accuracy at the smallest K, on the gallery that is read first; the original network on the same images."
)
RUNS_GROUP = "One seed each, beside the original network"
NO_RUNS = "No run of yours is finished yet: start one in Train."
NOT_MEASURED = "original not measured"


def own_menu(app_state: AppState, visitor: str) -> list[tuple[str, str]]:
    """Return a visitor's results as (title, name): finished runs, comparisons that were run, and rows to be run."""
    menu = [("Finished runs, beside the original network", RUNS)]
    for suite in (name for name in SUITES if not name.endswith(":")):
        configs = own_configs(app_state.workspace.comparison_folder(visitor, suite))
        menu += [(own_title(config), f"{OWN}{suite}:{key}") for key, config in configs.items()]
    return [*menu, ("Rows ticked below", TICKED)]


def own_title(config: ComparisonConfig) -> str:
    """Describe a visitor's comparison: what is compared, on which backbones, with how many seeds and steps."""
    seeds = f"{config.seeds} seed{'s' if config.seeds > 1 else ''}"
    rows = f"{len(config.variants)} row{'s' if len(config.variants) > 1 else ''}"
    where = " and ".join(config.backbones)
    return f"Own comparison on {config.suite.name}, {rows} ({where}, {seeds}, {config.training.steps:,} steps)"


def own_source(config: ComparisonConfig, folder: Path) -> Source:
    """Return a visitor's comparison as results to show."""
    return Source(None, own_title(config), read_own(config, folder), folder)


def find_own(app_state: AppState, visitor: str, name: str) -> tuple[ComparisonConfig, Path]:
    """Return settings and folder of a comparison by its name in `own_menu`.

    Raises:
        InputError: this visitor has none of that name.
    """
    suite, _, key = name.removeprefix(OWN).partition(":")
    folder = app_state.workspace.comparison_folder(visitor, suite)
    configs = own_configs(folder)
    if key not in configs:
        raise InputError("There is no such comparison of yours: choose one of the list.")
    return configs[key], folder


def read_own(config: ComparisonConfig, folder: Path) -> Comparison:
    """Read a visitor's comparison; what was computed of it is kept until a training ends."""
    files = sorted((folder / JOBS).glob("[!.]*.json"))
    stamp = tuple((file.name, file.stat().st_mtime_ns) for file in files)
    return _read(json.dumps(config.to_dict(), sort_keys=True), folder, stamp)


@functools.lru_cache(16)
def _read(settings: str, folder: Path, stamp: tuple[tuple[str, int], ...]) -> Comparison:
    """Read a comparison; `stamp` tells of new results."""
    return own_comparison(ComparisonConfig.from_dict(json.loads(settings)), folder)


def run_rows(app_state: AppState, visitor: str) -> list[ShortRow]:
    """Return a visitor's finished runs, newest first: accuracies, beside those of the original network, and gains.

    They are those of the gallery that is read first, at the smallest K.
    """
    rows = (_run_row(app_state, visitor, run, title) for run, title in app_state.runs(visitor).items())
    return [row for row in rows if row]


def _run_row(app_state: AppState, visitor: str, run: str, title: str) -> ShortRow | None:
    try:
        folder = open_run(app_state.workspace.run_folder(visitor, run))
    except InputError:  # a damaged one, which Train explains
        return None
    if folder.state is not RunState.FINISHED:
        return None
    result = folder.result
    rows = [row for row in result["rows"] if row["gallery"] == result["primary"]]
    k = min(row["k"] for row in rows)
    here = {row["task_split"]: row for row in rows if row["k"] == k}
    name = f"{result['method']}, K = {k}, {result['primary']} gallery"
    accuracies = {split: _accuracy(here.get(split)) for split in SPLITS}
    return ShortRow(name, title, RUNS_GROUP, accuracies, {split: _gain(here.get(split)) for split in SPLITS})


def _accuracy(row: dict[str, Any] | None) -> Entry:
    if row is None:
        return Entry(NOT_APPLICABLE)
    original = row.get("original")
    remark = NOT_MEASURED if original is None else f"original {format_percent(original)}"
    return Entry(format_percent(row["accuracy"]), remark, value=row["accuracy"])


def _gain(row: dict[str, Any] | None) -> Entry:
    if row is None:
        return Entry(NOT_APPLICABLE)
    if row.get("original") is None:
        return Entry(NOT_MEASURED)
    gain = row["accuracy"] - row["original"]
    return Entry(format_gain(gain), "one seed", value=gain)


def runs_overview(app_state: AppState, visitor: str, words: str) -> Overview:
    """Return the first sight of a visitor's finished runs: how many gained, and a table.

    Args:
        app_state: of the app.
        visitor: their token.
        words: of which the titles of the runs that are shown have every one.

    Raises:
        InputError: no run has these words.
    """
    rows, wanted = run_rows(app_state, visitor), words.lower().split()
    if not rows:
        return Overview(NO_RUNS, "", "", None, "")
    shown = [row for row in rows if all(word in f"{row.title} {row.name}".lower() for word in wanted)]
    if not shown:
        raise InputError(f"No run has {words.strip()!r} in its name: clear the filter.")
    colours = {row.name: method_colour(row.name.partition(",")[0]) for row in shown}
    table = short_html(shown, caption="Your finished runs", opponent="the original network", colours=colours)
    return Overview(_count(shown), "", table, None, MEASURED)


def _count(rows: list[ShortRow]) -> str:
    """Say how many runs are above the original network on unseen tasks, or on seen ones where there are no others."""
    last = [row.gains["unseen" if row.gains["unseen"].text != NOT_APPLICABLE else "seen"] for row in rows]
    gains = [entry.value for entry in last if not math.isnan(entry.value)]
    if not gains:
        return "The original network was not measured with these runs, so nothing can be said of a gain."
    above = sum(gain > 0 for gain in gains)
    runs = f"run{'s' if len(gains) > 1 else ''}"
    return f"{above} of {len(gains)} {runs} beat the original network; one seed each is too few to be sure."
