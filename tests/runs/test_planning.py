"""Runs whose steps and learning rate are planned: what is decided is decided once."""

import contextlib
import json

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.runs import planning
from metalora.runs.execute import execute
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import create_run, open_run
from metalora.suites.config import SuiteConfig
from metalora.training import loop
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

CONFIG = RunConfig(
    suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
    adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
    training=TrainingConfig(batch_size=8, device="cpu"),
    minutes=1.0,
    tune=True,
)
STEPS = 24  # at a pace of 100 seconds, the fewest


@pytest.fixture
def pace(monkeypatch):
    """Sets the seconds that a step takes."""

    def set_pace(seconds):
        monkeypatch.setattr(planning, "seconds_per_step", lambda *_: seconds)

    set_pace(100.0)
    return set_pace


def outcome(run):
    return (run.adapter / "adapter.safetensors").read_bytes(), run.result


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = create_run(tmp_path_factory.mktemp("whole") / "run", CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "seconds_per_step", lambda *_: 100.0)
        list(execute(run))
    return run


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(12, id="in the second trial", marks=pytest.mark.slow),
        pytest.param(24, id="at the end of the third"),
        pytest.param(32, id="in the training", marks=pytest.mark.slow),
    ],
)
def test_a_planned_run_that_is_killed_keeps_its_plan(stop, whole, tmp_path, pace, monkeypatch):
    ticks = iter(range(0, 10**6, 60))
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(ticks))  # every step is saved
    run = create_run(tmp_path / "run", CONFIG)
    with contextlib.closing(execute(run)) as events:
        seen = [next(events).step for _ in range(stop)]
    pace(0.01)  # the machine is less busy now
    again = create_run(run.path, CONFIG)
    steps = [event.step for event in execute(again)]
    assert open_run(run.path).config.training.steps == STEPS
    assert outcome(again) == outcome(whole)
    assert again.result["notes"][0].startswith(f"{STEPS} steps, ") and "Learning rate" in again.result["notes"][1]
    assert len(seen) + len(steps) <= 3 * 8 + 1 + STEPS + 3  # a step before the first, and the last of each trial again
    assert not list(run.path.glob("*.safetensors"))


def test_a_damaged_plan_is_named(tmp_path, pace):
    run = create_run(tmp_path / "run", CONFIG)
    with contextlib.closing(execute(run)) as events:
        next(events)
    assert json.loads((run.path / "plan.json").read_text())["steps"] == STEPS
    (run.path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan\.json cannot be read .* delete it to plan the run again"):
        list(execute(open_run(run.path)))
