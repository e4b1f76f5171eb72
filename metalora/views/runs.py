"""A visitor's runs, side by side: what was trained, how it stands, what it gained over the original backbone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from metalora.adapters.methods import method
from metalora.experiments.table import format_percent
from metalora.plots.training_curves import validation_curves
from metalora.runs.run_folder import RunFolder, open_run
from metalora.runs.run_log import read_events
from metalora.runs.status import RunStatus
from metalora.util.errors import InputError
from metalora.views.app_state import AppState, suite_title

COLUMNS = ("run", "data", "method", "rank", "steps", "state", "validation %", "seen %", "unseen %", "gain")
K = 5  # of the accuracies in one line, where a run has it
GAIN = "Gain in points over the original network, on unseen tasks where there are any."


@dataclass(frozen=True)
class Accuracies:
    """What a finished run reached on the seen or the unseen tasks.

    Attributes:
        accuracy: with the adapter, a fraction.
        original: of the original backbone, on the same queries; None: an older run, which did not measure it.
        k: of k-NN.
        gallery: "pooled" or "within".
    """

    accuracy: float
    original: float | None
    k: int
    gallery: str

    @property
    def gain(self) -> float | None:
        """How much higher the accuracy is than the original backbone's."""
        return None if self.original is None else self.accuracy - self.original


def headline(result: dict[str, Any]) -> dict[str, Accuracies]:
    """Return the accuracies that stand for a result: "seen" and, where measured, "unseen", on the primary gallery."""
    rows = [row for row in result["rows"] if row["gallery"] == result["primary"]]
    ks = sorted({row["k"] for row in rows})
    k = K if K in ks else ks[-1]
    return {
        row["task_split"]: Accuracies(row["accuracy"], row.get("original"), k, row["gallery"])
        for row in rows
        if row["k"] == k
    }


def result_line(result: dict[str, Any]) -> str:
    """Return the accuracies of a result in a sentence, with those of the original backbone beside them."""
    parts, best = [], headline(result)
    for split, found in best.items():
        text = f"{split} tasks {format_percent(found.accuracy)} %"
        if found.original is not None and found.gain is not None:
            text += f" (original network {format_percent(found.original)} %, gain {_points(found.gain)} points)"
        parts.append(text)
    first = next(iter(best.values()))
    gallery = "all tasks" if first.gallery == "pooled" else "the same task"
    unknown = "" if first.original is not None else " The original network was not measured in this run."
    words = "; ".join(parts)
    return f"{words[0].upper()}{words[1:]}. Accuracy of k-NN, K = {first.k}, in a gallery of {gallery}.{unknown}"


def result_table(result: dict[str, Any]) -> pd.DataFrame:
    """Return all accuracies of a result as text, in per cent, with the original backbone's where it was measured."""
    rows = pd.DataFrame(result["rows"])
    table = rows[["task_split", "gallery", "k"]].set_axis(["tasks", "gallery", "K"], axis=1)
    table["accuracy in %"] = rows["accuracy"].map(format_percent)
    if "original" in rows:
        table["original in %"] = rows["original"].map(format_percent)
        table["gain in points"] = (rows["accuracy"] - rows["original"]).map(_points)
    return table


def run_result(app_state: AppState, visitor: str, run: str) -> dict[str, Any]:
    """Return what a visitor's finished run measured.

    Raises:
        InputError: there is no such run of this visitor.
    """
    return open_run(app_state.workspace.run_folder(visitor, run)).result


def list_runs(app_state: AppState, visitor: str) -> list[dict[str, Any]]:
    """Return a visitor's runs, newest first: {"run": id, "cells": texts in the order of `COLUMNS`}."""
    return [
        {"run": run, "cells": _cells(app_state, visitor, run, title)} for run, title in app_state.runs(visitor).items()
    ]


def _cells(app_state: AppState, visitor: str, run: str, title: str) -> list[str]:
    try:
        folder, status = open_run(app_state.workspace.run_folder(visitor, run)), app_state.backend.status(visitor, run)
    except InputError:  # damaged, as its title says
        return [title, *["–"] * (len(COLUMNS) - 1)]
    config, finished = folder.config, status.state == "finished"
    result = folder.result if finished else None
    best = headline(result) if result else {}
    last = best.get("unseen") or best.get("seen")
    return [
        folder.name or _when(run),
        suite_title(config.suite.name),
        method(config.adapter.method).title,
        str(config.adapter.rank),
        str(config.training.steps),
        _state(status),
        _percent(result["validation"] if result else _last_validation(folder)),
        *(_percent(best[split].accuracy if split in best else None) for split in ("seen", "unseen")),
        "–" if last is None or last.gain is None else _points(last.gain),
    ]


def _when(run: str) -> str:
    return f"{datetime.strptime(run[:15], '%Y%m%d-%H%M%S'):%d %b %H:%M:%S}"


def _state(status: RunStatus) -> str:
    return f"{status.state} at step {status.step}" if status.state in ("stopped", "failed") else str(status.state)


def _last_validation(folder: RunFolder) -> float | None:
    measured = read_events(folder.path)["validation"].dropna()
    return None if measured.empty else float(measured.iloc[-1])


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else format_percent(fraction)


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}".replace("-", "−")


def compare_curves(app_state: AppState, visitor: str, runs: Iterable[str]) -> go.Figure:
    """Plot the validation curves of some of a visitor's runs in one figure.

    Raises:
        InputError: one of them is no run of this visitor.
    """
    titles, curves = app_state.runs(visitor), []
    for run in runs:
        folder = open_run(app_state.workspace.run_folder(visitor, run))
        curves.append((titles[run], folder.config.adapter.method, read_events(folder.path)))
    return validation_curves(curves)
