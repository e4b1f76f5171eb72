"""A run's folder: made, stopped, resumed, finished, refused."""

import contextlib
import json
from dataclasses import replace

import pytest
import torch

import metalora
from metalora import runs
from metalora.config import AdapterConfig
from metalora.errors import InputError
from metalora.evaluation.cells import SuiteConfig
from metalora.runs import RunConfig, create_run, open_run
from metalora.training import TrainingConfig

CONFIG = RunConfig(
    suite=SuiteConfig(image_size=8, max_queries=40),
    adapter=AdapterConfig("metalora-tr", rank=2, dropout=0.1, targets=("layer1.0",)),
    training=TrainingConfig(steps=4, batch=16, device="cpu"),
)


def settings(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    events = list(create_run(folder, CONFIG).execute())
    assert [event.step for event in events] == [1, 2, 3, 4]
    return folder


def test_a_finished_run_has_what_a_person_expects(finished):
    assert sorted(path.name for path in finished.iterdir()) == ["adapter", "events.jsonl", "result.json", "run.json"]
    said = settings(finished)
    assert (said["status"], said["seed"]) == ("finished", 0)
    assert {"metalora", "torch", "timm", "python"} <= said["versions"].keys()
    assert RunConfig.from_dict(said["settings"]) == CONFIG
    lines = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"metrics", "rates", "images_per_second", "seconds_left"} <= lines[0].keys()
    result = open_run(finished).result
    assert {(row["split"], row["gallery"], row["k"]) for row in result["rows"]} == {
        (split, gallery, k) for split in ("seen", "unseen") for gallery in ("pooled", "within") for k in (5, 10)
    }
    assert lines[-1]["metrics"]["validation"] == result["validation"]
    assert metalora.load(finished / "adapter").config == CONFIG.adapter


def test_a_finished_run_does_nothing_more(finished):
    run = create_run(finished, CONFIG)
    assert run.finished
    assert list(run.execute()) == []


@pytest.mark.parametrize("how", ["closed", "interrupted", "killed"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(finished, tmp_path, how):
    run = create_run(tmp_path / "run", CONFIG)
    with contextlib.closing(run.execute()) as events:
        next(events), next(events)
        if how == "interrupted":
            with pytest.raises(KeyboardInterrupt):
                events.throw(KeyboardInterrupt)
    assert settings(run.folder)["status"] == "stopped"
    assert (run.folder / "checkpoint.safetensors").is_file()
    if how == "killed":  # it had logged a step more than it saved, and half of another
        with (run.folder / "events.jsonl").open("a") as log:
            log.write('{"step": 3, "metrics": {}}\n{"step": 4, "me')
    torch.manual_seed(99)
    assert [event.step for event in open_run(run.folder).execute()] == [3, 4]
    for name in ("adapter/adapter.safetensors", "result.json"):
        assert (run.folder / name).read_bytes() == (finished / name).read_bytes()
    steps = [json.loads(line)["step"] for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    assert not (run.folder / "checkpoint.safetensors").exists()


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        create_run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_of_other_settings_is_refused_and_named(finished):
    with pytest.raises(InputError, match=r"other settings \(training.rate 0.003, now 0.01\)"):
        create_run(finished, replace(CONFIG, training=replace(CONFIG.training, rate=0.01)))


def test_leave_to_download_is_no_other_setting(finished):
    assert create_run(finished, replace(CONFIG, suite=replace(CONFIG.suite, download=True))).finished


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format_version": 99}', "format version 99"),
        ('{"format_version": 1, "settings": {}}', "lacks settings"),
        ("[1]", "cannot be read"),
        ("{", "cannot be read"),
    ],
)
def test_a_damaged_folder_is_told(tmp_path, content, said):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=said):
        open_run(tmp_path)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapter": AdapterConfig("original")}, "nothing to train"),
        ({"ks": (100000,)}, "larger than the gallery"),
        ({"backbone": "resnet2000"}, "Unknown backbone"),
        ({"suite": SuiteConfig("nothing")}, "Unknown suite"),
        ({"training": TrainingConfig(device="cuda:99")}, "device"),
    ],
)
def test_what_cannot_work_leaves_no_folder(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        list(create_run(tmp_path / "run", replace(CONFIG, **change)).execute())
    assert not (tmp_path / "run").exists()


def test_a_run_that_failed_may_be_replaced(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise InputError("The loss is not finite at step 1: lower the learning rate (now 0.9).")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(runs, "fit", broken)
        with pytest.raises(InputError, match="not finite"):
            list(create_run(tmp_path / "run", CONFIG).execute())
    assert settings(tmp_path / "run")["status"] == "failed"
    assert "not finite" in settings(tmp_path / "run")["reason"]
    other = replace(CONFIG, training=replace(CONFIG.training, steps=1, rate=0.01))
    assert len(list(create_run(tmp_path / "run", other).execute())) == 1
    assert open_run(tmp_path / "run").finished


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalora.states.tempfile.mkstemp", full)
    with pytest.raises(InputError, match="free some space"):
        list(create_run(tmp_path / "run", CONFIG).execute())
