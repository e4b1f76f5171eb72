"""`compare` that is stopped or killed: what is saved, what is resumed, what is removed, and what its folder says."""

import itertools
import json
from dataclasses import replace

import joblib
import pytest
import torch

from metalora.experiments import job_files, resumable_job
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job import run_job
from metalora.experiments.job_files import JOBS, PROVENANCE, STOP, job_file, read_result, request_stop
from metalora.experiments.runner import jobs_of, run_comparison
from metalora.suites.config import SuiteConfig
from metalora.training import loop
from metalora.training.config import TrainingConfig
from metalora.util.files import part_of, read_state, write_text

QUICK = ComparisonConfig(
    suite=SuiteConfig(max_queries=30, image_size=8),
    backbones=("resnet20",),
    methods=("original", "lora", "metalora-tr"),
    training=TrainingConfig(steps=3, batch_size=32, device="cpu"),
    ks=(1, 3),
    rank=1,
)
PARTS = replace(
    QUICK, methods=("lora", "lora@4-inverted"), trial_steps=2, training=replace(QUICK.training, keep_best=True)
)


def rows(result):
    return [{name: value for name, value in row.items() if name != "ms_per_step"} for row in result["rows"]]


def results(config, folder):
    return [rows(read_result(folder, job)) for job in jobs_of(config)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    list(run_comparison(QUICK, folder, n_jobs=1))
    return results(QUICK, folder)


def test_jobs_that_are_asked_to_stop_save_and_are_resumed(whole, tmp_path, monkeypatch):
    def write_and_stop(path, text):
        write_text(path, text)
        if path.suffix == job_files.STEPS:
            request_stop(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(job_files, "write_text", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            list(run_comparison(QUICK, tmp_path, n_jobs=1))
    (checkpoint,) = (tmp_path / JOBS).iterdir()  # neither a request nor progress
    assert read_state(checkpoint)["step"] == 1
    assert [done.ran < 1 for done in run_comparison(QUICK, tmp_path, n_jobs=1)].count(True) == 1
    assert results(QUICK, tmp_path) == whole
    assert {path.suffix for path in (tmp_path / JOBS).iterdir()} == {".json"}


def test_a_request_of_an_earlier_comparison_stops_none(tmp_path):
    quick = replace(QUICK, methods=("original",))
    (tmp_path / JOBS).mkdir()
    request_stop(tmp_path)
    assert len(list(run_comparison(quick, tmp_path, n_jobs=1))) == 1
    assert not (tmp_path / JOBS / STOP).exists()


def test_what_killed_processes_left_is_removed(tmp_path):
    quick = replace(QUICK, methods=("original",))
    (job,) = jobs_of(quick)
    list(run_comparison(quick, tmp_path, n_jobs=1))
    left = job_file(tmp_path, job).with_suffix(".safetensors"), tmp_path / JOBS / ".x.json.abc.tmp"
    for file in (*left, part_of(left[0], "lr-0.003")):
        file.touch()
    list(run_comparison(quick, tmp_path, n_jobs=1))
    assert list((tmp_path / JOBS).iterdir()) == [job_file(tmp_path, job)]


@pytest.mark.parametrize("stop", [4, 6, 8, 12])  # in a trial, at their end, in the training, in the reader
def test_every_part_of_a_job_is_resumed(stop, tmp_path, monkeypatch):
    (job,) = jobs_of(PARTS)
    ticks = itertools.count(0, 60)
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(ticks))  # every step is saved
    seen = []

    def interrupt(event):
        seen.append(event.step)
        if len(seen) == stop:
            raise KeyboardInterrupt

    expected = run_job(job)
    with pytest.raises(KeyboardInterrupt):
        run_job(job, tmp_path / "job.safetensors", interrupt)
    steps = 3 * 2 + 3 + 3
    again = []
    assert rows(run_job(job, tmp_path / "job.safetensors", again.append)) == rows(expected)
    assert {event.steps for event in again} == {steps} and again[-1].step == steps
    new = [event.step for event in again if event.step > seen[-1]]
    assert list(dict.fromkeys(new)) == list(range(seen[-1] + 1, steps + 1))


def test_a_resumed_comparison_takes_as_many_threads_as_before(tmp_path, monkeypatch):
    seen = []

    def note(job, checkpoint, progress):
        seen.append((job.key, torch.get_num_threads()))
        return {"rows": []}

    before = torch.get_num_threads()
    torch.set_num_threads(8)
    monkeypatch.setattr(resumable_job, "run_job", note)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    try:
        *first, last = jobs_of(QUICK)
        for job in first:  # and so one process is left, where there were three
            write_text(job_file(tmp_path, job), json.dumps({"rows": [{}], "tasks": [], "confusion": []}))
        list(run_comparison(QUICK, tmp_path, n_jobs=3))
        assert seen == [(last.key, 2)] and torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)


def test_the_folder_says_what_made_the_results(tmp_path):
    quick = replace(QUICK, methods=("original",), seeds=2)
    list(run_comparison(quick, tmp_path, n_jobs=1))
    said = json.loads((tmp_path / PROVENANCE).read_text())
    assert said["seeds"] == [0, 1] and said["device"] == "cpu"
    assert {"versions", "revision", "machine", "command"} <= said.keys()
    assert ComparisonConfig.from_dict(said["settings"]) == quick


def test_a_tracker_gets_a_run_for_every_training(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    list(run_comparison(QUICK, tmp_path, n_jobs=1, log_to="tensorboard"))
    logs = {
        path.name: accumulator.EventAccumulator(str(path)).Reload() for path in (tmp_path / "tensorboard").iterdir()
    }
    assert logs.keys() == {job.key for job in jobs_of(QUICK) if job.trained.is_trained}
    assert all([event.step for event in log.Scalars("loss")] == [1, 2, 3] for log in logs.values())
