"""Of all processes that want to train a run one does, and the others say so in a sentence."""

import json
import subprocess
import sys
import time

import pytest
from calling import QUICK

from metalora.adapters.config import AdapterConfig
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import create_run, open_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError

PATIENCE = 240  # seconds: processes import torch on a machine that may be busy
BUSY = "is being trained already: wait for its end, or stop it."


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def train(tmp_path):
    """train(folder, …) is `metalora train --run FOLDER …` in a process of its own, which is killed at the end."""
    started = []

    def start(folder, *options):
        command = [sys.executable, "-m", "metalora", "train", "--run", str(folder), *options]
        log = tmp_path / f"log-{len(started)}.txt"
        with log.open("wb") as file:
            started.append(subprocess.Popen(command, stdout=file, stderr=file))
        started[-1].log = log
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE)


def last_words(process):
    return process.log.read_text().splitlines()[-1]


def steps(folder):
    events = folder / "events.jsonl"
    return [json.loads(line)["step"] for line in events.read_text().splitlines()] if events.exists() else []


def short(steps):
    return RunConfig(
        suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
        adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
        training=TrainingConfig(steps=steps, batch_size=8, device="cpu"),
    )


def test_of_two_trainings_of_one_folder_one_trains_also_after_the_other_was_killed(tmp_path, train):
    folder = tmp_path / "run"
    options = [*QUICK, "--steps", "100000", "--targets", "layer1.0"]
    both = [train(folder, *options) for _ in range(2)]
    wait_for(lambda: any(process.poll() is not None for process in both))
    loser, winner = sorted(both, key=lambda process: process.poll() is None)
    assert loser.returncode == 2 and winner.poll() is None
    assert last_words(loser) == f"Error: The run run {BUSY}"
    wait_for(lambda: steps(folder))
    winner.kill()  # which leaves the file of its lock
    winner.wait(PATIENCE)
    assert open_run(folder).state == "died"
    again = train(folder)
    wait_for(lambda: open_run(folder).state == "running")
    open_run(folder).request_stop()
    assert again.wait(PATIENCE) == 1
    assert f"metalora train {folder}` resumes it" in last_words(again)
    assert steps(folder) == list(range(1, steps(folder)[-1] + 1))


def test_of_two_apps_on_one_workspace_one_trains_a_run(tmp_path):
    workspace = Workspace(tmp_path)
    visitor = workspace.new_visitor()
    run = workspace.prepare_run(visitor, short(3))
    folder = workspace.run_folder(visitor, run)
    apps = [RunQueue(Workspace(tmp_path)) for _ in range(2)]
    try:
        for app in apps:
            app.submit(visitor, run)
        wait_for(lambda: not any(app._active or app._waiting for app in apps))
        assert [app.status(visitor, run).state for app in apps] == ["finished", "finished"]
        assert steps(folder) == [1, 2, 3]
    finally:
        for app in apps:
            app.close(stop_runs=True)


def test_an_app_and_the_command_line_hear_of_each_other(tmp_path, train):
    workspace = Workspace(tmp_path)
    visitor = workspace.new_visitor()
    run = workspace.prepare_run(visitor, short(100000))
    folder = workspace.run_folder(visitor, run)
    app, trained = RunQueue(workspace), train(folder)
    try:
        wait_for(lambda: steps(folder))
        with pytest.raises(InputError, match=BUSY):
            app.submit(visitor, run)
        with pytest.raises(InputError, match="This run is not over: stop it first"):
            workspace.delete_run(visitor, run)
        assert app.status(visitor, run).state == "running"
        assert app.stop(visitor, run).state == "stopping"
        assert trained.wait(PATIENCE) == 1
        assert app.status(visitor, run).state == "stopped"
        workspace.delete_run(visitor, run)
        assert not folder.exists()
    finally:
        app.close(stop_runs=True)


def test_a_run_that_is_locked_keeps_its_state(tmp_path):
    create_run(tmp_path / "run", short(1)).enqueue()
    queued = open_run(tmp_path / "run")
    with queued.locked():
        with pytest.raises(InputError, match=BUSY):
            open_run(tmp_path / "run").enqueue()
        with pytest.raises(InputError, match=BUSY), open_run(tmp_path / "run").locked():
            pass
    assert open_run(tmp_path / "run").state == "queued"
