"""Run folders that version 0.1.0 of the project wrote: opened, shown, resumed."""

import json
import shutil
from pathlib import Path

import pytest

import metalora
from metalora.runs.execute import execute
from metalora.runs.run_folder import open_run
from metalora.runs.run_log import last_event, read_events
from metalora.runs.status import run_status
from metalora.training.loop import Progress

FOLDER = Path(__file__).parents[1] / "data" / "run-version-1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Copies of a finished run and of the same run, stopped after the first of its two steps."""
    return Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("runs"), dirs_exist_ok=True))


def test_a_finished_run_shows_its_settings_its_result_and_its_steps(runs):
    run = open_run(runs / "finished")
    assert (run.state, run.config.training.batch_size, run.config.suite.max_train_images) == ("finished", 8, 3)
    assert {row["task_split"] for row in run.result["rows"]} == {"seen", "unseen"}
    assert {"loss", "validation", "lr_adapters", "lr_mapping"} <= set(read_events(run.path).columns)
    assert Progress(**last_event(run.path)).lrs["adapters"] == 0
    assert run_status(run.path).state == "finished"
    assert metalora.load(run.adapter).config == run.config.adapter
    assert list(execute(run)) == []


def test_a_stopped_run_is_resumed_to_the_result_of_the_finished_one(runs):
    run = open_run(runs / "stopped")
    assert (run.state, run_status(run.path).step) == ("stopped", 1)
    assert [event.step for event in execute(run)] == [2]
    finished = open_run(runs / "finished")
    assert json.loads((run.path / "run.json").read_text())["format_version"] == 2
    # Version 1 did not measure the original network.
    rows = [{key: value for key, value in row.items() if key != "original"} for row in run.result["rows"]]
    assert rows == finished.result["rows"] and all("original" in row for row in run.result["rows"])
    losses = [read_events(each.path).loss.tolist() for each in (run, finished)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
