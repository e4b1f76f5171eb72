"""`train`, `embed` and `pretrain` in two processes on the CPU: results of one, files and messages once."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from calling import QUICK, SMALL, arrays, run
from launching import ROOT, finish, launch, start, wait_for
from PIL import Image
from safetensors.torch import load_file

import metalora
from metalora.runs.failures import SILENT
from metalora.runs.run_folder import open_run

pytest.importorskip("accelerate")

WEIGHTS = "adapter/adapter.safetensors"
LONG = [*SMALL, "--rank", "2", "--targets", "layer1.0", "--steps", "60"]


def steps(folder):
    """The steps of a run's log."""
    return [json.loads(line)["step"] for line in (folder / "events.jsonl").read_text().splitlines()]


def begun(folder, processes, count=3):
    """Wait until a run has some steps in its log and a checkpoint."""
    log = folder / "events.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= count, processes)


def close(one, other):
    torch.testing.assert_close(load_file(one), load_file(other), rtol=1e-4, atol=1e-5)


def test_train_has_the_result_of_one_process_and_writes_and_prints_it_once(trained, tmp_path):
    (code, said, errors), second = launch("train", tmp_path / "run", *QUICK, "--targets", "layer1.0")
    assert (code, *second) == (0, 0, "", ""), errors
    assert said.count("The adapter is") == 1 and errors.count("Training 2/2") == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in trained.iterdir()}
    assert steps(tmp_path / "run") == [1, 2]
    close(tmp_path / "run" / WEIGHTS, trained / WEIGHTS)
    assert open_run(tmp_path / "run").result == open_run(trained).result


def test_what_only_one_process_lacks_is_said_once_by_the_first(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    for i in range(40):
        file = tmp_path / "one/pictures" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (6 * i, 255 * (i % 2), 90)).save(file)
    folders = tmp_path / "one", tmp_path / "two"
    call = ["train", tmp_path / "run", *QUICK, "--suite", "folder:pictures"]
    (code, said, errors), second = launch(*call, folders=folders)
    assert (code, said, *second) == (2, "", 0, "", "")
    assert "Error: Process 2 of 2: There is no folder" in errors and errors.count("Error") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_both_processes_take_the_steps_and_the_learning_rate_that_the_first_one_decides(tmp_path):
    call = [*SMALL, "--rank", "2", "--targets", "layer1.0", "--minutes", "0.001"]
    (code, _, errors), second = launch("train", tmp_path / "run", *call)
    assert (code, *second) == (0, 0, "", ""), errors
    assert any(note.startswith("Learning rate") for note in open_run(tmp_path / "run").result["notes"])


@pytest.mark.slow
def test_embed_has_the_rows_of_one_process(trained, tmp_path):
    call = ["embed", "--suite", "digits", *SMALL, "--adapter", trained / "adapter", "--set-size", "8", "--out"]
    run(*call, tmp_path / "one.npz")
    (code, said, errors), second = launch(*call, tmp_path / "two.npz")
    assert (code, *second) == (0, 0, "", ""), errors
    assert said.count("embeddings of 64 dimensions") == 1
    one, two = arrays(tmp_path / "one.npz"), arrays(tmp_path / "two.npz")
    assert (one["names"] == two["names"]).all()
    for name in ("embeddings", "codes"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_killed_training_resumes_with_the_dropout_that_it_would_have_had(tmp_path):
    call = [*LONG, "--dropout", "0.1"]
    assert [code for code, *_ in launch("train", tmp_path / "whole", *call)] == [0, 0]
    processes = start("train", tmp_path / "broken", *call)
    wait_for((tmp_path / "broken/checkpoint.safetensors").exists, processes)
    for process in processes:
        process.kill()
    finish(processes)
    (code, _, errors), _ = launch("train", tmp_path / "broken")
    assert code == 0, errors
    assert steps(tmp_path / "broken") == list(range(1, 61))
    assert (tmp_path / "broken" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run("train", folder, *LONG)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_both_after_the_same_step(whole, tmp_path, rank):
    processes = start("train", tmp_path / "run", *LONG)
    begun(tmp_path / "run", processes)
    for _ in range(2):  # as a launcher in a terminal does
        processes[rank].send_signal(signal.SIGTERM)
    (code, _, errors), second = finish(processes)
    done = steps(tmp_path / "run")[-1]
    assert (code, *second) == (1, 0, "", "") and done < 60
    assert errors.splitlines()[-1].startswith(f"Stopped after step {done} of 60; it is saved")
    assert open_run(tmp_path / "run").state == "stopped"
    run("train", tmp_path / "run")  # by one process
    assert steps(tmp_path / "run") == list(range(1, 61))
    close(tmp_path / "run" / WEIGHTS, whole / WEIGHTS)


@pytest.mark.slow
def test_the_end_of_one_process_is_the_reason_of_the_run(tmp_path):
    processes = start("train", tmp_path / "run", *LONG)
    begun(tmp_path / "run", processes)
    processes[1].kill()
    (code, _, errors), _ = finish(processes)
    reason = open_run(tmp_path / "run").reason
    assert code == 1 and reason is not None and reason.startswith("Another process is gone: it was killed")
    assert errors.splitlines()[-1] == reason != SILENT


@pytest.mark.slow
def test_an_error_in_one_process_is_the_reason_of_the_run_and_its_traceback_is_shown(tmp_path):
    (code, _, errors), (other, _, traceback) = launch(tmp_path / "run", *LONG, module="failing_together")
    assert code == 1 and other == 1
    reason = "Process 2 of 2 failed: the loss of step 3 fell off"
    assert open_run(tmp_path / "run").reason == reason == errors.splitlines()[-1]
    assert "Traceback" not in errors and traceback.endswith("RuntimeError: the loss of step 3 fell off\n")


@pytest.mark.slow
def test_pretrain_has_the_network_of_one_process(tmp_path):
    for split, count in (("train", 160), ("test", 4)):
        for name, level in (("dark", 40), ("light", 200)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (level + i % 20, level, level)).save(folder / f"{i:03}.png")
    common = ["pretrain", "resnet20", "--data", tmp_path / "data", "--epochs", "1", "--device", "cpu", "--out"]
    code, _, errors = launch(*common, tmp_path / "one", module="pretrained_on_few", count=1)[0]
    assert code == 0, errors
    (code, said, errors), second = launch(*common, tmp_path / "two", module="pretrained_on_few")
    assert (code, *second) == (0, 0, "", "") and said.count("test_accuracy") == 1, errors
    one, two = (load_file(tmp_path / name / "resnet20.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name].float(), value.float(), rtol=2e-3, atol=2e-3, msg=name)
    cards = [json.loads((tmp_path / name / "resnet20.json").read_text()) for name in ("one", "two")]
    assert cards[0] == cards[1]


def accelerated(*words):
    """Call the command line in two processes of `accelerate launch`."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    call = [*command, "-m", "metalora", *map(str, words)]
    return subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_accelerate_launch_trains(trained, tmp_path):
    done = accelerated("train", tmp_path / "run", *QUICK, "--targets", "layer1.0")
    assert done.returncode == 0 and done.stdout.count("The adapter is") == 1, done.stderr
    assert steps(tmp_path / "run") == [1, 2]
    close(tmp_path / "run" / WEIGHTS, trained / WEIGHTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["train", "RUN", *QUICK, "--backbone", "resnet21"], "Error: Unknown backbone 'resnet21'"),
        (["train", "RUN", "--stepps", "3"], "No such option"),
        (["compare", *QUICK, "--out", "RUN"], "Error: 2 processes were launched, but `compare` is for one"),
        (["train", "RUN", *QUICK, "--batch-size", "1"], "Error: A batch of 1 image is too small for 2 processes"),
    ],
)
def test_accelerate_launch_shows_a_refusal_once_and_ends(call, said, tmp_path):
    done = accelerated(*(tmp_path / "run" if word == "RUN" else word for word in call))
    assert done.returncode != 0 and done.stderr.count(said) == 1, done.stderr
    assert "exitcode  : 2" in done.stderr.replace("exitcode: 2", "exitcode  : 2")
    assert not metalora.runs.run_folder.holds_run(tmp_path / "run") or open_run(tmp_path / "run").state == "failed"
