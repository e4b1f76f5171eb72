"""Runs on a cluster: their results, stops, deaths of workers, and the queue of an app in front of them."""

import contextlib
import json
import os
import signal
import time

import pytest
import torch

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.runs import cluster_run
from metalora.runs.cluster_run import execute_on_cluster, runs_at_a_time
from metalora.runs.execute import execute
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, create_run, open_run
from metalora.runs.run_log import read_events, read_log
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.cluster import SCHEDULER, Cluster
from metalora.util.errors import InputError
from metalora.util.processes import is_alive

PATIENCE = 400  # seconds, on a machine that may be busy
LONG = 100_000


def config(steps=3, **settings):
    return RunConfig(
        suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
        adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
        training=TrainingConfig(steps=steps, batch_size=8, device="cpu"),
        **settings,
    )


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def cluster(scheduler, monkeypatch):
    monkeypatch.setattr(cluster_run, "POLL_SECONDS", 0.1)
    with Cluster(scheduler) as connected:
        yield connected


def worker_of(folder):
    return json.loads((folder / "run.json").read_text())["worker"]


def test_a_run_on_a_cluster_ends_as_one_of_this_process(cluster, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have
    here, there = (create_run(tmp_path / name, config()) for name in ("here", "there"))
    list(execute(here))
    torch.set_num_threads(before)
    steps = execute_on_cluster(there, cluster)
    assert next(steps).step >= 1
    with contextlib.suppress(FileNotFoundError):  # it has ended already
        assert is_alive(worker_of(there.path)) and worker_of(there.path)["pid"] == os.getpid()
    list(steps)
    assert there.state is RunState.FINISHED and there.skipped == ()
    assert there.result == here.result and not there.checkpoint.exists()
    assert read_events(there.path).step.tolist() == [1, 2, 3]
    assert list(execute_on_cluster(there, cluster)) == []


def test_a_run_is_stopped_with_what_it_has_trained_and_resumes(cluster, tmp_path):
    run = create_run(tmp_path / "run", config(LONG))
    with contextlib.closing(execute_on_cluster(run, cluster)) as steps:
        assert next(steps).steps == LONG
        assert open_run(run.path).state is RunState.RUNNING
    assert run.state is RunState.STOPPED and run.checkpoint.exists() and not run.stop_requested
    assert metalora.load(run.adapter).config == config().adapter
    done = int(read_events(run.path).step.iloc[-1])
    again = open_run(run.path)
    for event in execute_on_cluster(again, cluster):
        if event.step > done:
            again.request_stop()  # as another process may
    assert again.state is RunState.STOPPED
    steps = read_events(run.path).step.tolist()
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > done


def press_ctrl_c(*_):
    raise KeyboardInterrupt


def test_a_run_that_waits_for_a_worker_is_stopped_at_once(local_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_run, "POLL_SECONDS", 0.1)
    with (
        local_cluster(n_workers=0) as address,
        pytest.warns(UserWarning, match="no worker yet"),
        Cluster(address) as cluster,
    ):
        monkeypatch.setattr(cluster, "wait", press_ctrl_c)
        run = create_run(tmp_path / "run", config())
        with pytest.raises(KeyboardInterrupt):
            next(execute_on_cluster(run, cluster))
        assert open_run(run.path).state is RunState.STOPPED
        until(lambda: not cluster.client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


def test_an_error_of_a_worker_is_the_reason_of_the_run(cluster, tmp_path):
    (tmp_path / "images").mkdir()
    bad = RunConfig(suite=SuiteConfig(f"folder:{tmp_path / 'images'}"), training=TrainingConfig(steps=2, device="cpu"))
    run = create_run(tmp_path / "run", bad)
    with pytest.raises(InputError, match=r"^Worker tcp://"):
        list(execute_on_cluster(run, cluster))
    found = open_run(run.path)
    assert found.state is RunState.FAILED and "images" in found.reason


def test_folders_that_workers_do_not_share_are_refused(scheduler, cluster, tmp_path, monkeypatch):
    monkeypatch.setenv(SCHEDULER, "")
    assert runs_at_a_time(tmp_path) == 1
    monkeypatch.setenv(SCHEDULER, scheduler)
    assert runs_at_a_time(tmp_path) == 2
    monkeypatch.setattr("metalora.util.cluster.probe", lambda folder: contextlib.nullcontext(folder / "elsewhere"))
    run = create_run(tmp_path / "run", config())
    for use in (lambda: runs_at_a_time(tmp_path), lambda: list(execute_on_cluster(run, cluster))):
        with pytest.raises(InputError, match=f"cannot write in {tmp_path}.*: choose a folder that all workers share"):
            use()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_resumed_by_another(cluster, tmp_path):
    run = create_run(tmp_path / "run", config(LONG))
    killed = 0
    with contextlib.closing(execute_on_cluster(run, cluster)) as steps:
        for event in steps:
            if run.checkpoint.exists() and not killed:
                (killed,) = (
                    pid
                    for address, pid in cluster.client.run(os.getpid).items()
                    if cluster.client.processing()[address]
                )
                os.kill(killed, signal.SIGKILL)
                at = event.step
            elif killed and event.step > at + 5:
                break
    assert run.state is RunState.STOPPED
    steps = read_events(run.path).step.tolist()
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_the_queue_of_an_app_trains_on_the_cluster(scheduler, tmp_path, monkeypatch):
    monkeypatch.setenv(SCHEDULER, scheduler)
    workspace = Workspace(tmp_path / "workspace")
    queue = RunQueue(workspace, workers=runs_at_a_time(workspace.root))
    visitor = workspace.new_visitor()
    long, killed, short = (workspace.prepare_run(visitor, config(steps)) for steps in (LONG, LONG, 3))
    for run in (long, killed, short):
        queue.submit(visitor, run)
    until(lambda: all(queue.status(visitor, run).step for run in (long, killed)))
    assert queue.status(visitor, short).queue_position == 1

    queue.close()  # the app ends, its runs do not
    queue = RunQueue(workspace, workers=runs_at_a_time(workspace.root))
    step = queue.status(visitor, long).step
    until(lambda: queue.status(visitor, long).step > step)
    queue.stop(visitor, long)
    until(lambda: queue.status(visitor, long).state == "stopped")
    folder = workspace.run_folder(visitor, long)
    assert metalora.load(folder / "adapter").config == config().adapter, read_log(folder)

    os.kill(worker_of(workspace.run_folder(visitor, killed))["pid"], signal.SIGKILL)  # what follows the worker
    until(lambda: queue.status(visitor, short).state == "finished")
    until(lambda: not queue.status(visitor, killed).state.active)
    assert queue.status(visitor, killed).state in ("failed", "stopped")
    queue.resume(visitor, killed)
    until(lambda: queue.status(visitor, killed).state == "running")
    queue.close(stop_runs=True)
    until(lambda: open_run(workspace.run_folder(visitor, killed)).state is RunState.STOPPED)


@pytest.mark.parametrize("part", [None, "suite", "adapter", "training"])
@pytest.mark.parametrize("name", ["scheduler", "cluster"])
def test_no_setting_of_a_run_names_a_cluster(part, name):
    values = config().to_dict()
    (values if part is None else values[part])[name] = "tcp://127.0.0.1:1"
    with pytest.raises(InputError, match=f"Unknown setting '{name}'"):
        RunConfig.from_dict(values)
