"""Runs side by side: their accuracies beside the original backbone's, their curves in one figure."""

import json

import pytest

from metalora.plots.curve_data import KINDS
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, open_run
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.runs import COLUMNS, compare_curves, headline, list_runs, result_line, result_table, run_result

SPLITS = {"seen": (0.9, 0.6), "unseen": (0.75, 0.8)}  # accuracy and that of the original


def result(*, baseline=True, ks=(5, 10)):
    rows = [
        {"task_split": split, "gallery": gallery, "k": k, "accuracy": accuracy - (k > 5) / 10}
        | ({"original": original} if baseline else {})
        for split, (accuracy, original) in SPLITS.items()
        for gallery in ("pooled", "within")
        for k in ks
    ]
    return {"primary": "pooled", "validation": 0.5, "rows": rows, "notes": []}


@pytest.fixture
def app_state(tmp_path):
    return AppState(tmp_path, lambda workspace: RunQueue(workspace, workers=0))


def make_run(app_state, visitor, measured=None):
    run = app_state.workspace.prepare_run(visitor, RunConfig())
    folder = app_state.workspace.run_folder(visitor, run)
    events = [{"validation": 0.4, "original": 0.3}, {"loss": 1.0, "accuracy": 0.2}, {"loss": 0.9, "validation": 0.45}]
    lines = [
        {"step": i, "steps": 64, "metrics": metrics, "lrs": {}, "images_per_second": 1.0, "seconds_left": 5.0}
        for i, metrics in enumerate(events)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if measured:
        (folder / "result.json").write_text(json.dumps(measured))
    open_run(folder).record(RunState.FINISHED if measured else RunState.STOPPED)
    return run


def test_a_result_is_said_in_one_line_with_its_baseline():
    line = result_line(result())
    assert line.startswith("Seen tasks 90.0 % (original network 60.0 %, gain +30.0 points); unseen tasks 75.0 %")
    assert "gain −5.0 points" in line and "K = 5, in a gallery of all tasks" in line
    assert headline(result(ks=(1, 3)))["seen"].k == 3
    table = result_table(result())
    assert list(table.columns) == ["tasks", "gallery", "K", "accuracy in %", "original in %", "gain in points"]
    assert table.iloc[0].tolist() == ["seen", "pooled", 5, "90.0", "60.0", "+30.0"]


def test_a_result_of_before_shows_without_a_baseline():
    assert "original network was not measured in this run" in result_line(result(baseline=False))
    assert list(result_table(result(baseline=False)).columns) == ["tasks", "gallery", "K", "accuracy in %"]
    assert headline(result(baseline=False))["seen"].gain is None


def test_runs_are_listed_with_what_they_reached(app_state):
    visitor = app_state.ensure_visitor(None)
    stopped, finished = make_run(app_state, visitor), make_run(app_state, visitor, result())
    app_state.workspace.rename_run(visitor, finished, "<b>best</b>")
    rows = {row["run"]: dict(zip(COLUMNS, row["cells"], strict=True)) for row in list_runs(app_state, visitor)}
    assert list(rows) == [finished, stopped]
    best, other = rows[finished], rows[stopped]
    assert (best["run"], best["state"], best["gain"]) == ("<b>best</b>", "finished", "−5.0")
    assert (best["validation %"], best["seen %"], best["unseen %"]) == ("50.0", "90.0", "75.0")
    assert (other["state"], other["validation %"], other["gain"]) == ("stopped at step 2", "45.0", "–")
    assert app_state.runs(visitor)[finished] == "<b>best</b>"
    assert app_state.runs(visitor)[stopped].startswith("Meta-LoRA TR, rank 4, 64 steps, digits, resnet20, ")
    (app_state.workspace.run_folder(visitor, stopped) / "run.json").write_text("{")
    damaged = list_runs(app_state, visitor)[1]["cells"]
    assert damaged[0].endswith("cannot be read") and len(damaged) == len(COLUMNS)


def test_validation_curves_lie_over_each_other_and_no_other_visitor_sees_them(app_state):
    visitor, other = app_state.ensure_visitor(None), app_state.ensure_visitor(None)
    runs = [make_run(app_state, visitor) for _ in range(2)]
    app_state.workspace.rename_run(visitor, runs[0], "<i>one</i>")
    figure = compare_curves(app_state, visitor, runs)
    assert [list(trace.y) for trace in figure.data] == [[40, 45], [40, 45]]
    assert figure.data[0].x[0] == 0 and figure.data[0].name == "&lt;i&gt;one&lt;/i&gt;"
    assert (
        figure.data[0].line.color == figure.data[1].line.color and figure.data[0].line.dash != figure.data[1].line.dash
    )
    assert KINDS["original"] not in {trace.name for trace in figure.data} and len(figure.layout.shapes) == 1
    for ask in (lambda: compare_curves(app_state, other, runs), lambda: run_result(app_state, other, runs[0])):
        with pytest.raises(InputError, match="no such run of yours"):
            ask()
