"""A run's folder: made, stopped, resumed, finished, refused."""

import contextlib
import errno
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import metalora
from metalora import cli
from metalora.adapters.config import AdapterConfig
from metalora.evaluation.accuracy import accuracy, embed_splits, measure
from metalora.runs.execute import execute
from metalora.runs.failures import FULL_DISK, KILLED, NO_MEMORY, SILENT, reason_of, reason_of_exit
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, create_run, open_run
from metalora.runs.run_log import read_events
from metalora.runs.status import run_status
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.processes import process
from metalora.util.provenance import command

CONFIG = RunConfig(
    suite=SuiteConfig(image_size=8, max_queries=40),
    adapter=AdapterConfig("metalora-tr", rank=2, dropout=0.1, targets=("layer1.0",)),
    training=TrainingConfig(steps=4, batch_size=16, device="cpu"),
)


def settings(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    events = list(execute(create_run(folder, CONFIG)))
    assert [event.step for event in events] == [1, 2, 3, 4]
    return folder


def test_a_run_says_which_gate_its_cores_got(tmp_path):
    config = replace(CONFIG, training=replace(CONFIG.training, steps=1, lr=1e-9, fit_gate=True))
    run = create_run(tmp_path / "gated", config)
    list(execute(run))  # so short a training changes nothing, and of equal gates the smallest is taken
    assert run.result["notes"][0].startswith("Gate 0: by validation, cores of their own do not pay")
    assert not metalora.load(run.adapter).mapping.head.weight.any()


def test_a_run_that_cannot_name_its_factors_is_refused_before_it_has_a_folder():
    with pytest.raises(InputError, match=r"\(2, 2\) values, digits has \(2, 2, 3\)"):
        RunConfig(adapter=AdapterConfig(factors=(2, 2)))
    assert RunConfig(adapter=AdapterConfig(factors=(2, 2, 3))).adapter.factors == (2, 2, 3)
    assert RunConfig().with_factor_code().adapter.factors == (2, 2, 3)
    with pytest.raises(InputError, match="combine no named factors"):
        RunConfig(suite=SuiteConfig("cifar10")).with_factor_code()


def test_a_run_goes_on_from_an_adapter_that_names_other_factors_and_says_so(tmp_path):
    pictures = tmp_path / "pictures"
    for i in range(40):
        file = pictures / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (6 * i, 255 * (i % 2), 90)).save(file)
    adapter = AdapterConfig(rank=2, targets=("layer1.0",), factors=(2, 2, 3))
    training = TrainingConfig(steps=1, batch_size=8, device="cpu")
    quick = SuiteConfig(max_queries=20, image_size=8)
    first = create_run(tmp_path / "first", RunConfig(suite=quick, adapter=adapter, training=training))
    list(execute(first))
    own = replace(quick, name=f"folder:{pictures}")
    start = str(tmp_path / "first" / "adapter")
    again = create_run(
        tmp_path / "again", RunConfig(suite=own, adapter=adapter, training=training, ks=(1,), start=start)
    )
    list(execute(again))
    assert any("predicts factors that this suite lacks" in note for note in again.result["notes"])


def test_a_finished_run_has_what_a_person_expects(finished):
    files = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert files == {"adapter", "events.jsonl", "result.json", "run.json"}
    said = settings(finished)
    assert (said["status"], said["seed"]) == ("finished", 0)
    assert {"metalora", "torch", "timm", "python"} <= said["versions"].keys()
    assert said["machine"]["cores"] >= said["machine"]["threads"] >= 1 and said["device"] == "cpu"
    assert said["command"] == command() and "revision" in said
    assert RunConfig.from_dict(said["settings"]) == CONFIG
    lines = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"metrics", "lrs", "images_per_second", "seconds_left"} <= lines[0].keys()
    result = open_run(finished).result
    assert {(row["task_split"], row["gallery"], row["k"]) for row in result["rows"]} == {
        (task_split, gallery, k)
        for task_split in ("seen", "unseen")
        for gallery in ("pooled", "within")
        for k in (5, 10)
    }
    assert lines[-1]["metrics"]["validation"] == result["validation"]
    model, suite = metalora.load(finished / "adapter"), load_suite(CONFIG.suite)
    with model.disabled():  # the baseline is measured on the same queries
        features = embed_splits(model, suite, CONFIG.embed_config)
        expected = [accuracy(labels, queries) for _, queries, labels in measure(suite, features, CONFIG.ks)]
    assert [row["original"] for row in result["rows"]] == expected
    assert metalora.load(finished / "adapter").config == CONFIG.adapter


def test_a_finished_run_does_nothing_more(finished):
    run = create_run(finished, CONFIG)
    assert run.state == "finished"
    assert list(execute(run)) == []


@pytest.mark.parametrize("how", ["closed", "interrupted", "killed"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(finished, tmp_path, how):
    run = create_run(tmp_path / "run", CONFIG)
    with contextlib.closing(execute(run)) as events:
        next(events), next(events)
        if how == "interrupted":
            with pytest.raises(KeyboardInterrupt):
                events.throw(KeyboardInterrupt)
    assert settings(run.path)["status"] == "stopped"
    assert (run.path / "checkpoint.safetensors").is_file()
    assert metalora.load(run.path / "adapter").config == CONFIG.adapter  # to look at, though it is not finished
    if how == "killed":  # it had logged a step more than it saved, and half of another
        with (run.path / "events.jsonl").open("a") as log:
            log.write('{"step": 3, "metrics": {}}\n{"step": 4, "me')
    torch.manual_seed(99)
    assert [event.step for event in execute(open_run(run.path))] == [3, 4]
    for name in ("adapter/adapter.safetensors", "result.json"):
        assert (run.path / name).read_bytes() == (finished / name).read_bytes()
    steps = [json.loads(line)["step"] for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    assert not (run.path / "checkpoint.safetensors").exists()


def test_the_log_of_a_resumed_run_keeps_the_validation_before_its_first_step(tmp_path):
    run = create_run(tmp_path / "run", replace(CONFIG, training=replace(CONFIG.training, validate_every=2)))
    with contextlib.closing(execute(run)) as events:
        assert [next(events).step for _ in range(3)] == [0, 1, 2]
    list(execute(open_run(run.path)))
    events = read_events(run.path)
    assert events["step"].tolist() == [0, 1, 2, 3, 4]
    assert events["validation"].notna().tolist() == [True, False, True, False, True]
    assert events["original"].notna().tolist() == [True, False, False, False, False]


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        create_run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_of_other_settings_is_refused_and_named(finished):
    with pytest.raises(InputError, match=r"other settings \(training.lr 0.003, now 0.01\)"):
        create_run(finished, replace(CONFIG, training=replace(CONFIG.training, lr=0.01)))


@pytest.mark.parametrize(
    "change",
    [
        {"suite": replace(CONFIG.suite, download=True, data="./elsewhere")},
        {"training": replace(CONFIG.training, device="auto", compile=True, validate_every=2)},
        {"training": replace(CONFIG.training, identity_core_prob_sets=0.9, teacher_forcing_ratio=0.1)},
        {"adapter": replace(CONFIG.adapter, alpha=2.0, head_init_std=0.03)},
    ],
)
def test_settings_without_effect_make_no_other_run(finished, change):
    run = create_run(finished, replace(CONFIG, **change))
    assert run.state == "finished" and run.config == replace(CONFIG, **change)


def test_folders_of_images_are_the_same_however_they_are_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = (replace(CONFIG, suite=SuiteConfig(f"folder:{path}")) for path in ("images", tmp_path / "images"))
    assert one.identity == other.identity


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
    with pytest.raises(InputError, match=said) as told:
        open_run(tmp_path)
    assert tmp_path.name in str(told.value) and str(tmp_path.parent) not in str(told.value)  # a server's own business


def test_settings_that_cannot_be_opened_are_told_without_their_place(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\): delete the run") as told:
        open_run(tmp_path)
    assert str(tmp_path.parent) not in str(told.value)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"adapter": AdapterConfig("original")}, "nothing to train"),
        ({"ks": (100000,)}, "too large: the gallery"),
        ({"backbone": "resnet2000"}, "Unknown backbone"),
        ({"suite": SuiteConfig("nothing")}, "Unknown suite"),
        ({"training": TrainingConfig(device="cuda:99")}, "device"),
    ],
)
def test_what_cannot_work_leaves_no_folder(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        list(execute(create_run(tmp_path / "run", replace(CONFIG, **change))))
    assert not (tmp_path / "run").exists()


def test_a_run_that_failed_may_be_replaced(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise InputError("The loss is not finite at step 1: lower the learning rate (now 0.9).")
        yield

    with monkeypatch.context() as patch:
        patch.setattr("metalora.runs.execute.fit", broken)
        with pytest.raises(InputError, match="not finite"):
            list(execute(create_run(tmp_path / "run", CONFIG)))
    assert settings(tmp_path / "run")["status"] == "failed"
    assert "not finite" in settings(tmp_path / "run")["reason"]
    other = replace(CONFIG, training=replace(CONFIG.training, steps=1, lr=0.01))
    assert len(list(execute(create_run(tmp_path / "run", other)))) == 1
    assert open_run(tmp_path / "run").state == "finished"


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalora.util.files.tempfile.mkstemp", full)
    with pytest.raises(InputError, match="free some space"):
        list(execute(create_run(tmp_path / "run", CONFIG)))


def test_a_queued_run_holds_its_settings_and_starts_from_them(tmp_path):
    config = replace(CONFIG, training=replace(CONFIG.training, steps=1))
    create_run(tmp_path / "run", config).enqueue()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", ".lock"}
    run = open_run(tmp_path / "run")
    assert (run.state, run.config) == ("queued", config)
    assert len(list(execute(run))) == 1 and run.state == "finished"
    with pytest.raises(InputError, match="is finished"):
        run.enqueue()


def test_a_queued_run_that_cannot_work_is_recorded(tmp_path):
    create_run(tmp_path / "run", replace(CONFIG, backbone="resnet2000")).enqueue()
    with pytest.raises(InputError):
        list(execute(open_run(tmp_path / "run")))
    run = open_run(tmp_path / "run")
    assert run.state == "failed" and "Unknown backbone" in run.reason


def test_a_run_being_trained_is_not_trained_twice(tmp_path):
    create_run(tmp_path / "run", CONFIG).record(RunState.RUNNING)
    assert settings(tmp_path / "run")["worker"] == process()
    with pytest.raises(InputError, match="being trained already"):
        list(execute(open_run(tmp_path / "run")))


def test_two_processes_do_not_train_one_run(tmp_path):
    first, second = (create_run(tmp_path / "run", CONFIG) for _ in range(2))
    events = execute(first)
    next(events)
    with pytest.raises(InputError, match="being trained already"):
        next(execute(second))
    events.close()
    assert open_run(tmp_path / "run").state == "stopped"
    with pytest.raises(InputError, match="meanwhile"):
        next(execute(second))
    assert [event.step for event in execute(open_run(tmp_path / "run"))] == [2, 3, 4]


def ended_process():
    """What was known of a process that has ended, and of one whose number another one has now."""
    code = "import json; from metalora.util.processes import process; print(json.dumps(process()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    this = process()
    return [json.loads(done.stdout), {**this, "started": this["started"] - 60}, {**this, "started": "8160"}, None]


def test_a_run_whose_worker_is_gone_does_not_run(tmp_path):
    for worker in ended_process():
        run = create_run(tmp_path / "run", CONFIG)
        run.record(RunState.RUNNING)
        content = settings(run.path) | {"worker": worker}
        (run.path / "run.json").write_text(json.dumps(content))
        run = open_run(run.path)
        assert (run.state, run.reason) == ("died", SILENT)
        assert run_status(run.path).state == "failed"
        run.request_stop()
        assert (run_status(run.path).state, run_status(run.path).reason) == ("stopped", None)
        with pytest.raises(InputError, match="other settings"):  # what it has trained is not thrown away
            create_run(run.path, replace(CONFIG, ks=(5,)))
        run.record(RunState.FAILED, "A reason.")
        assert not run.stop_requested


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), NO_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB."), NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), NO_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), FULL_DISK),
        (InputError("The loss is not finite."), "The loss is not finite."),
        (KeyError(), "KeyError"),
    ],
)
def test_reasons(error, reason):
    assert reason_of(error) == reason


def test_reasons_of_workers_that_left_none(tmp_path, monkeypatch):
    assert reason_of_exit(-9, "", tmp_path) == KILLED
    assert "Segmentation fault" in reason_of_exit(-11, "Error: old", tmp_path)
    assert reason_of_exit(2, "Training 1/2\nError: Wrong.\n", tmp_path) == "Wrong."
    assert "exit code 1" in reason_of_exit(1, "Traceback", tmp_path)
    assert reason_of_exit(None, "", tmp_path) == SILENT
    monkeypatch.setattr("metalora.runs.failures.shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    assert reason_of_exit(1, "Traceback", tmp_path) == FULL_DISK


def test_a_disk_that_fills_up_fails_the_run_with_its_own_words(tmp_path, monkeypatch):
    events = execute(create_run(tmp_path / "run", CONFIG))
    next(events)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("metalora.util.files.tempfile.mkstemp", full)
    with pytest.raises(InputError, match="free some space"):
        list(events)


def test_the_command_line_hears_the_word_to_stop_and_goes_on(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    run.enqueue()
    run.request_stop()  # while its worker is still starting
    call = ["train", "--run", str(run.path)]
    done = CliRunner().invoke(cli.app, call)
    assert done.exit_code == 1 and "Stopped after step 1 of 4" in done.stderr
    assert open_run(run.path).state == "stopped" and not run.stop_requested
    open_run(run.path).enqueue()
    assert CliRunner().invoke(cli.app, call).exit_code == 0
    assert open_run(run.path).state == "finished"


def test_the_command_line_refuses_a_run_that_is_trained_elsewhere(tmp_path):
    create_run(tmp_path / "run", CONFIG).record(RunState.RUNNING)
    done = CliRunner().invoke(cli.app, ["train", "--run", str(tmp_path / "run")])
    assert (done.exit_code, done.stderr) == (
        2,
        "Error: The run run is being trained already: wait for its end, or stop it.\n",
    )


@pytest.mark.parametrize(("ks", "said"), [((), "There is no K"), ((5, 0), "K is 0"), ((1.5,), r"K is 1\.5")])
def test_what_is_no_k_is_refused(ks, said):
    with pytest.raises(InputError, match=said):
        RunConfig(ks=ks)


@pytest.mark.parametrize("reason", [KILLED, SILENT])
def test_a_run_whose_worker_is_gone_says_that_it_can_be_resumed(reason):
    assert "killed" in reason and "Resume goes on from the last checkpoint" in reason
