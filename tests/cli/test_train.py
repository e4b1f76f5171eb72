"""`train`: a run that can be loaded, stopped and resumed."""

import json
import os
import signal

import pytest
from calling import QUICK, SMALL, refused, run

import metalora
import metalora.runs.run_folder
from metalora import cli


def test_train_writes_a_run_that_can_be_loaded(trained):
    result = json.loads((trained.parent / "train.json").read_text())
    assert len(result["rows"]) == 8 and 0 <= result["validation"] <= 1
    assert metalora.load(trained / "adapter").config.targets == ("layer1.0",)


def test_a_run_starts_from_the_adapter_of_another(trained, tmp_path):
    run("train", tmp_path / "on", "--start", trained / "adapter", *SMALL, "--steps", "1")
    assert metalora.load(tmp_path / "on/adapter").config.targets == ("layer1.0",)
    said = refused("train", tmp_path / "other", "--start", trained / "adapter", *SMALL, "--steps", "1", "--rank", "3")
    assert "was made with rank 2, not 3" in said and not (tmp_path / "other").exists()


def test_a_finished_run_says_so(trained):
    assert "finished" in run("train", trained).output
    assert "finished" in run("train", "--run", trained, *QUICK, "--targets", "layer1.0").output


def test_an_interrupted_run_says_how_to_resume_it(tmp_path, trained, monkeypatch):
    update = cli.messages.Bar.update

    def interrupt(bar, done, *rest, **words):
        update(bar, done, *rest, **words)
        if bar.title == "Training" and done == 1 and "pictures" not in rest[1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli.messages.Bar, "update", interrupt)
        said = run("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", code=1).stderr.splitlines()[-1]
    assert said.startswith("Stopped after step 1 of 2") and f"metalora train {tmp_path / 'run'}" in said
    run("train", tmp_path / "run")
    weights = "adapter/adapter.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (trained / weights).read_bytes()


def test_a_signal_while_a_stopped_run_is_saved_is_held_back(tmp_path, monkeypatch):
    save = metalora.AdaptedModel.save

    def late(model, path):
        os.kill(os.getpid(), signal.SIGINT)
        save(model, path)

    monkeypatch.setattr(metalora.AdaptedModel, "save", late)
    monkeypatch.setattr(metalora.runs.run_folder.RunFolder, "stop_requested", True)
    said = run("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", code=1).stderr.splitlines()[-1]
    assert said.startswith("Stopped after step 1 of 2; it is saved")
    assert metalora.load(tmp_path / "run/adapter").config.targets == ("layer1.0",)


def test_sigterm_saves_and_leaves(tmp_path, monkeypatch):
    update = cli.messages.Bar.update

    def terminate(bar, done, *rest, **words):
        update(bar, done, *rest, **words)
        if bar.title == "Training" and done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cli.messages.Bar, "update", terminate)
    said = run("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", code=1).stderr.splitlines()[-1]
    assert said.startswith("Stopped after step 1 of 2; it is saved")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_tracker_gets_every_step(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", "--log-to", "tensorboard")
    log = accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "run")).Reload()
    assert [event.step for event in log.Scalars("loss")] == [1, 2]


def test_an_unknown_tracker_leaves_nothing(tmp_path):
    said = refused("train", tmp_path / "run", *QUICK, "--targets", "layer1.0", "--log-to", "paper")
    assert "Unknown tracker 'paper': use tensorboard, trackio, wandb." in said
    assert not (tmp_path / "run").exists()
