"""How a run stands."""

import json

import pytest

from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunFolder, RunState
from metalora.runs.status import RunStatus, run_status


@pytest.mark.parametrize(
    ("state", "step", "fraction"),
    [
        ("new", 0, None),
        ("queued", 0, None),
        ("running", 0, None),
        ("running", 10, 0.25),
        ("stopping", 11, 0.275),
        ("stopped", 20, 0.5),
        ("failed", 30, 0.75),
        ("finished", 40, None),
    ],
)
def test_the_share_that_is_done_is_told_where_something_is_left(state, step, fraction):
    assert RunStatus("run", state, step=step, steps=40).fraction == fraction


@pytest.mark.parametrize(
    ("state", "left"), [(RunState.QUEUED, 82.0), (RunState.RUNNING, 82.0), (RunState.STOPPED, None)]
)
def test_a_run_that_is_resumed_knows_the_time_left_before_its_next_step(tmp_path, state, left):
    RunFolder(tmp_path, RunConfig()).record(state)
    event = {"step": 12, "steps": 64, "metrics": {}, "lrs": {}, "images_per_second": 9.0, "seconds_left": 82.0}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n")
    status = run_status(tmp_path)
    assert (status.step, status.seconds_left) == (12, left)
