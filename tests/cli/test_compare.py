"""`compare`: table, rows, and what an interruption keeps."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from calling import COMPARE, SMALL, refused, run
from PIL import Image

from metalora import cli
from metalora.cli.compare import comparison_settings
from metalora.experiments import job_files
from metalora.experiments.comparison import RESULTS
from metalora.experiments.findings import answer
from metalora.experiments.first_look import FIRST_LOOK, QUESTION
from metalora.experiments.results import load_comparison
from metalora.experiments.variants import DEFAULT
from metalora.util.errors import InputError
from metalora.util.files import read_state

ROW = {"method", "backbone", "suite", "task_split", "gallery", "set_size", "k", "accuracy", "std", "n_seeds"}
OUT = Path("results/digits-first-look")
ROW |= {"static_parameters", "generator_parameters", "ms_per_step"}


def test_compare_writes_table_and_rows_and_keeps_its_jobs(tmp_path):
    variants = ["--method", "original", "--method", "metalora-tr@8"]
    first = run(*COMPARE, *variants, "--out", tmp_path / "c", "--json", tmp_path / "c.json")
    assert "8 unlabelled images" in " ".join(first.stdout.split()) and str(tmp_path / "c") in first.stdout
    data = json.loads((tmp_path / "c.json").read_text())
    assert len(data["rows"]) == 2 * 2 * 2 * 2 + 2  # of a head, on seen and unseen tasks
    assert all(row.keys() >= ROW for row in data["rows"])
    assert data["rows"][0]["std"] is None and data["rows"][0]["ms_per_step"] is None
    assert {path.suffix for path in (tmp_path / "c").glob("comparison.*")} == {".csv", ".json", ".md", ".tex"}
    jobs = sorted((tmp_path / "c/jobs").iterdir())
    times = [job.stat().st_mtime_ns for job in jobs]
    run(*COMPARE, *variants, "--method", "lora", "--out", tmp_path / "c")
    assert [job.stat().st_mtime_ns for job in jobs] == times
    assert len(list((tmp_path / "c/jobs").iterdir())) == len(jobs) + 1


def test_one_training_is_shown_by_the_images_of_its_sets(tmp_path):
    rows = ["--method", "lora", "--method", "metalora-tr@contexts"]
    found = run(*COMPARE, *rows, "--out", tmp_path / "c", "--figure", tmp_path / "contexts.html")
    words = " ".join(found.stdout.split())
    assert "metalora-tr (trained with sets)" in words and "by the images of a set at use; 0: no image is read" in words
    assert "worst task, by the images of a set" in words
    assert "images of a set" in (tmp_path / "contexts.html").read_text()
    assert len(list((tmp_path / "c/jobs").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("given", "full", "first_look"),
    [
        ({}, False, True),
        ({"seeds": 3, "lr": 0.01, "k": [3], "image_size": 16}, False, True),
        ({}, True, False),
        ({"backbone": ["resnet20"]}, False, False),
        ({"steps": 64}, False, False),
        ({"suite": "cifar10"}, False, False),
    ],
)
def test_digits_get_a_first_look_where_nothing_is_chosen(given, full, first_look):
    is_first, config = comparison_settings(given, full=full)
    assert is_first is first_look
    assert config.methods == (FIRST_LOOK.methods if first_look else DEFAULT)
    assert config.backbones == (("resnet20",) if first_look or "backbone" in given else ("resnet20", "mixer_nano"))
    if first_look and given:  # options count in a first look, too
        assert (config.seeds, config.training.lr, config.ks, config.suite.image_size) == (3, 0.01, (3,), 16)
    elif first_look:
        assert config == FIRST_LOOK


def test_a_first_look_ends_with_what_it_found_and_how_sure_it_is(tmp_path, monkeypatch):
    def short(config, *_, choose_lr, **__):
        assert not choose_lr  # it is part of the first look
        return replace(config, training=replace(config.training, steps=2)), "Two steps."

    monkeypatch.setattr("metalora.experiments.plan.plan_comparison", short)
    monkeypatch.chdir(tmp_path)
    said = run("compare", *SMALL, "--seeds", "2", "--jobs", "1", "--json", "c.json").stdout
    data = json.loads((tmp_path / "c.json").read_text())
    assert said.splitlines()[-2:] == data["findings"] == answer(load_comparison(OUT / RESULTS), QUESTION)
    assert data["findings"][0].startswith("These rows do not show that generated cores fit")
    assert "The study behind this is primary/main" in said and "arXiv 2504.00460" not in said
    assert {row["method"] for row in data["rows"]} == set(FIRST_LOOK.methods)


def test_the_numbers_of_the_paper_are_printed_when_asked_for(tmp_path):
    words = [*COMPARE, "--method", "original", "--out", tmp_path / "c"]
    assert "67.04" not in run(*words).stdout
    said = run(*words, "--paper").stdout
    assert said.index("pooled gallery") < said.index("Table I of arXiv 2504.00460") < said.index("67.04")


def test_an_interrupted_comparison_says_what_it_keeps(tmp_path, monkeypatch):
    update = cli.messages.Bar.update

    def interrupt(bar, done, *rest, **words):
        update(bar, done, *rest, **words)
        if bar.title == "Training" and done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.messages.Bar, "update", interrupt)
    variants = ["--method", "original", "--method", "lora"]
    said = run(*COMPARE, *variants, "--out", tmp_path / "c", code=1).stderr
    assert "1 finished trainings are kept" in said
    assert len(list((tmp_path / "c/jobs").iterdir())) >= 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_training_that_runs_and_leaves(tmp_path, monkeypatch, number):
    write = job_files.write_text

    def write_and_kill(path, text):
        write(path, text)
        if path.suffix == job_files.STEPS:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(job_files, "write_text", write_and_kill)
        said = run(*COMPARE, "--method", "lora", "--out", tmp_path / "c", code=1).stderr.splitlines()[-1]
    assert said == "Stopped: 0 finished trainings are kept, those that ran are saved, and the same command resumes."
    (checkpoint,) = (tmp_path / "c/jobs").glob("[!.]*")
    assert read_state(checkpoint)["step"] == 1
    run(*COMPARE, "--method", "lora", "--out", tmp_path / "c")


@pytest.mark.parametrize("place", ["file/out", "file/a/out", "/proc/none"])
@pytest.mark.parametrize("option", ["--out", "--json"])
def test_where_nothing_can_be_written_is_shown_before_the_first_training(option, place, tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.experiments.resumable_job.run_job", lambda *_: 1 / 0)
    (tmp_path / "file").write_text("")
    out = [] if option == "--out" else ["--out", tmp_path / "c"]
    place = tmp_path / place if option == "--out" else tmp_path / place / "c.json"
    assert "Error: Cannot write in " in refused(*COMPARE, "--method", "lora", *out, option, place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_results_of_other_images_are_not_mixed(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (8, 8), (12 * i, 0, 0)).save(tmp_path / "own" / name / f"{i}.png")
    words = [*COMPARE, "--suite", f"folder:{tmp_path / 'own'}", "--k", "1", "--out", tmp_path / "c"]
    run(*words, "--method", "original")
    shutil.copytree(tmp_path / "own", tmp_path / "copy")  # the same pictures at another time
    shutil.rmtree(tmp_path / "own")
    shutil.move(tmp_path / "copy", tmp_path / "own")
    run(*words, "--method", "original")
    next((tmp_path / "own").rglob("*.png")).unlink()
    assert "have changed since the trainings" in refused(*words, "--method", "original")


def test_rows_of_a_study_are_not_written_over(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    assert "holds something else" in refused(*COMPARE, "--method", "original", "--out", tmp_path)
    assert (tmp_path / "comparison.json").read_text() == "{}"


def test_a_folder_is_no_file_for_json(tmp_path):
    said = refused(*COMPARE, "--method", "original", "--out", tmp_path / "c", "--json", tmp_path)
    assert f"--json {tmp_path} is a folder: name a file." in said
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_printed_whatever_becomes_of_the_files(tmp_path, monkeypatch):
    def full(*_):
        raise InputError("Cannot write c.json: No space left on device.")

    monkeypatch.setattr("metalora.cli.compare.write_json", full)
    found = run(*COMPARE, "--method", "original", "--out", tmp_path / "c", "--json", tmp_path / "c.json", code=2)
    assert "pooled gallery" in found.stdout and "No space left" in found.stderr


def test_a_damaged_result_or_checkpoint_is_named_and_what_to_do(tmp_path):
    call = [*COMPARE, "--method", "lora", "--out", tmp_path]
    run(*call)
    (result,) = (tmp_path / "jobs").glob("*.json")
    whole = result.read_text()
    for damaged in ("{}", "[]", "{", '{"rows": [], "tasks": [], "confusion": []}'):
        result.write_text(damaged)
        assert f"{result} is no" in (said := refused(*call)) and "delete it and run the comparison again." in said
    result.unlink()
    checkpoint = result.with_suffix(".safetensors")
    checkpoint.write_bytes(b"torn")
    said = refused(*call)
    assert str(checkpoint) in said and said.endswith("delete it to train from the beginning.")
    checkpoint.unlink()
    run(*call)
    assert result.read_text().partition('"ms_per_step"')[0] == whole.partition('"ms_per_step"')[0]


@pytest.mark.filterwarnings("default:torch.compile fails here:UserWarning")
def test_a_network_that_cannot_be_compiled_is_shown_once(tmp_path, monkeypatch):
    def broken(network, mode):
        def call(*_, **__):
            raise RuntimeError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    call = [*COMPARE, "--method", "lora", "--method", "metalora-tr", "--compile", "--out", tmp_path]
    note = "Note: torch.compile fails here (RuntimeError: no compiler here), so the network runs as it is."
    for _ in range(2):  # of trainings that are there already, the second time
        assert run(*call).stderr.splitlines().count(note) == 1
