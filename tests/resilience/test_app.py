"""The app killed while runs train: they go on, are found again, and queued ones are kept."""

import json
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
from killing import ROOT, wait_for

from metalora.adapters.config import AdapterConfig
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import EVENTS, LOG, RunState, open_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig

CONFIG = RunConfig(
    suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
    adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
    training=TrainingConfig(steps=3, batch_size=8, device="cpu"),
)
QUEUE = """
import sys, time
from metalora.runs.queue import RunQueue
from metalora.runs.workspace import Workspace
queue = RunQueue(Workspace(sys.argv[1]))
time.sleep(600)
"""


@pytest.fixture
def queued(tmp_path):
    """A workspace, and the folders of two queued runs in it, a long one first."""
    workspace = Workspace(tmp_path / "workspace")
    visitor, folders = workspace.new_visitor(), []
    for steps in (400, 3):
        run = workspace.prepare_run(visitor, replace(CONFIG, training=replace(CONFIG.training, steps=steps)))
        folders.append(workspace.run_folder(visitor, run))
        open_run(folders[-1]).enqueue()
    return workspace, folders


def steps(folder):
    file = folder / EVENTS
    whole = [line for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []
    return [json.loads(line)["step"] for line in whole]


@pytest.mark.slow
def test_an_app_that_is_killed_loses_no_run(queued, serve, tmp_path):
    workspace, (long, short) = queued
    app, _ = serve(workspace.root, tmp_path / "app.log")
    wait_for(lambda: len(steps(long)) >= 3)
    worker = psutil.Process(json.loads((long / "run.json").read_text())["worker"]["pid"])
    app.kill()
    app.wait(60)
    done = len(steps(long))
    wait_for(lambda: len(steps(long)) > done)  # it goes on without an app
    assert open_run(long).state is RunState.RUNNING and open_run(short).state is RunState.QUEUED
    app, _ = serve(workspace.root, tmp_path / "again.log")
    wait_for(lambda: open_run(short).state is RunState.FINISHED)
    assert open_run(long).state is RunState.FINISHED and not worker.is_running()
    assert steps(long) == list(range(1, 401)) and steps(short) == [1, 2, 3]
    app.terminate()
    app.wait(60)


@pytest.mark.slow
def test_a_queue_that_is_killed_while_a_worker_starts_loses_no_run_and_trains_one_at_a_time(queued):
    workspace, (long, short) = queued
    killed = subprocess.Popen([sys.executable, "-c", QUEUE, str(workspace.root)], cwd=ROOT)
    wait_for((long / LOG).exists)
    killed.kill()
    killed.wait(60)
    assert open_run(long).state is RunState.QUEUED  # its worker imports torch
    queue = RunQueue(workspace)
    wait_for(lambda: open_run(short).state is not RunState.QUEUED)
    assert open_run(long).state is RunState.FINISHED
    wait_for(lambda: open_run(short).state is RunState.FINISHED)
    assert steps(long) == list(range(1, 401)) and steps(short) == [1, 2, 3]
    queue.close()
