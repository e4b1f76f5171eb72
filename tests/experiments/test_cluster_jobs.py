"""A comparison on a cluster: the rows of one process, whatever becomes of a worker, and images that workers lack."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from calling import COMPARE, refused
from figures import record
from PIL import Image

from metalora.experiments import runner
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job_files import JOBS, running_jobs
from metalora.experiments.plan import measure_paces
from metalora.experiments.runner import jobs_of, read_comparison, run_comparison
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.util.cluster import SCHEDULER, Cluster
from metalora.util.errors import InputError

QUICK = ComparisonConfig(
    suite=SuiteConfig(max_queries=30, image_size=8),
    backbones=("resnet20",),
    methods=("original", "lora", "metalora-tr"),
    training=TrainingConfig(steps=2, batch_size=32, device="cpu"),
    ks=(1, 3),
    rank=1,
)
PATIENCE = 400  # seconds, on a machine that may be busy


@pytest.fixture
def cluster(scheduler):
    with Cluster(scheduler) as connected:
        yield connected


@pytest.fixture
def one_thread():
    """Torch computes with the threads of a worker, which decide the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A comparison on images of a folder, by a path that holds where the test runs, not where workers do."""
    for name in ("cat", "dog"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (8, 8), (12 * i, 0, 0)).save(tmp_path / "own" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return replace(QUICK, suite=SuiteConfig("folder:own", image_size=8), methods=("original",), ks=(1,))


def without_times(folder, config):
    found = read_comparison(config, folder, "pooled").to_dict()
    for row in found["rows"] + found["seeds"]:
        row.pop("ms_per_step")
    return found


def test_rows_of_a_cluster_are_those_of_one_process(cluster, tmp_path, one_thread):
    events = list(run_comparison(QUICK, tmp_path / "cluster", cluster=cluster))
    assert [(event.done, event.total, event.ran) for event in events] == [(i, 3, 1) for i in (1, 2, 3)]
    list(run_comparison(QUICK, tmp_path / "one", n_jobs=1))
    there, here = (without_times(tmp_path / where, QUICK) for where in ("cluster", "one"))
    differ = sum(one != other for one, other in zip(there["seeds"], here["seeds"], strict=True))
    record("cluster", rows=len(here["seeds"]), different=differ)
    assert there == here and differ == 0
    assert {file.suffix for file in (tmp_path / "cluster" / JOBS).iterdir()} == {".json"}
    again = list(run_comparison(QUICK, tmp_path / "cluster", cluster=cluster))
    assert not any(event.ran for event in again)


def test_a_pace_is_measured_on_every_worker(cluster):
    (job,) = (job for job in jobs_of(QUICK) if str(job.trained) == "lora")
    (pace,) = measure_paces([job], 2, cluster).values()
    assert 1e-4 < pace < 60


def test_workers_read_images_by_paths_that_hold_here_and_settings_keep_theirs(cluster, own, tmp_path):
    (event,) = run_comparison(own, tmp_path / "c", cluster=cluster)
    assert event.result["job"]["suite"]["name"] == "folder:own"
    assert read_comparison(own, tmp_path / "c", "pooled").rows["accuracy"].between(0, 1).all()


def test_a_worker_without_the_images_is_named_with_their_path(cluster, own, tmp_path):
    suite = load_suite(own.suite)
    shutil.move("own", "elsewhere")
    with pytest.raises(InputError, match=rf"^Worker tcp://[\d.:]+: .*{tmp_path / 'own'}"):
        list(run_comparison(own, tmp_path / "c", cluster=cluster, suite=suite))


def test_a_worker_with_other_images_is_refused(cluster, own, tmp_path):
    suite = load_suite(own.suite)
    (tmp_path / "own/dog/0.png").unlink()
    with pytest.raises(InputError, match=r"^Worker tcp://.*: The images of folder:.*own, or their labels, are others"):
        list(run_comparison(own, tmp_path / "c", cluster=cluster, suite=suite))


def test_workers_that_do_not_share_the_folder_send_results_alone(cluster, tmp_path, monkeypatch):
    elsewhere = contextlib.nullcontext(tmp_path / "no" / JOBS / "file")
    monkeypatch.setattr(runner, "probe", lambda folder: elsewhere)
    config = replace(QUICK, methods=("original",))
    with pytest.warns(UserWarning, match=f"Workers cannot write in {tmp_path / 'c'}: the training of one that dies"):
        list(run_comparison(config, tmp_path / "c", cluster=cluster))
    assert len(read_comparison(config, tmp_path / "c", "pooled").rows)
    assert not (tmp_path / "no").exists()


def test_a_comparison_that_is_left_frees_the_workers(cluster, tmp_path):
    long = replace(QUICK, methods=("lora",), seeds=2, training=replace(QUICK.training, steps=100_000))
    stopped = threading.Event()

    def leave():
        jobs = run_comparison(long, tmp_path / "long", cluster=cluster)
        with contextlib.closing(jobs), pytest.raises(KeyboardInterrupt):
            next(jobs)
        stopped.set()

    def interrupt(futures, seconds):  # as Ctrl-C does, once both are being trained
        if len(running_jobs(tmp_path / "long")) == 2:
            raise KeyboardInterrupt
        return wait(futures, seconds)

    wait, cluster.wait = cluster.wait, interrupt
    leave()
    cluster.wait = wait
    quick = replace(QUICK, methods=("original",), seeds=2)
    assert len(list(run_comparison(quick, tmp_path / "quick", cluster=cluster))) == 2
    checkpoints = list((tmp_path / "long" / JOBS).glob("*.safetensors"))
    assert len(checkpoints) == 2  # from which the same command resumes
    assert not running_jobs(tmp_path / "long")


@pytest.mark.slow
def test_a_killed_worker_loses_no_job_and_another_resumes_it(cluster, tmp_path, one_thread):
    config = replace(QUICK, methods=("lora",), seeds=2, training=replace(QUICK.training, steps=150))
    events = []
    thread = threading.Thread(
        target=lambda: events.extend(run_comparison(config, tmp_path / "c", cluster=cluster)), daemon=True
    )
    thread.start()
    end, folder = time.monotonic() + PATIENCE, tmp_path / "c" / JOBS
    while not list(folder.glob("[!.]*.safetensors")):
        assert time.monotonic() < end
        time.sleep(0.02)
    pid = next(iter(cluster.client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)
    thread.join(PATIENCE)
    assert len(events) == 2 and min(event.ran for event in events) < 1
    list(run_comparison(config, tmp_path / "one", n_jobs=1))
    assert without_times(tmp_path / "c", config) == without_times(tmp_path / "one", config)


def test_the_command_line_names_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.util.cluster.CONNECT_SECONDS", 0.2)
    words = [*COMPARE, "--method", "original", "--out", tmp_path / "c"]
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in refused(*words, "--scheduler", "tcp://127.0.0.1:1")
    monkeypatch.setenv(SCHEDULER, "tcp://127.0.0.1:2")
    assert "No Dask scheduler answers at tcp://127.0.0.1:2" in refused(*words)
    assert "No Dask scheduler answers" in refused("study", "primary", "--work", tmp_path / "w")
    assert not (tmp_path / "c").exists()


def test_the_command_line_trains_on_a_cluster(scheduler, tmp_path):
    from calling import run

    words = [*COMPARE, "--method", "lora", "--scheduler", scheduler, "--out", tmp_path / "c"]
    assert "lora" in run(*words).stdout
    (job,) = (tmp_path / "c" / JOBS).glob("*.json")
    assert json.loads(job.read_text())["rows"]
