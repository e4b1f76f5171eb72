"""`compare`: jobs, resuming, tuning, folders of an earlier version, and what is reported."""

import csv
import itertools
import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metalora.adapters.config import AdapterConfig
from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.job import run_job
from metalora.experiments.job_files import JOBS, OLD_JOBS, RunningJob, job_file, read_result, running_jobs
from metalora.experiments.runner import best_lrs, jobs_of, read_comparison, run_comparison
from metalora.models.adapt import adapt
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.training.loop import Progress
from metalora.training.plan import LEARNING_RATES, best_lr, try_learning_rates
from metalora.util.errors import InputError, LayersLeftOut
from metalora.util.files import write_text

QUICK = ComparisonConfig(
    suite=SuiteConfig(max_queries=30, image_size=8),
    backbones=("resnet20",),
    methods=("original", "lora", "metalora-tr"),
    training=TrainingConfig(steps=2, batch_size=32, device="cpu"),
    ks=(1, 3),
    rank=1,
)


def ticking(seconds):
    """A clock that goes so far between any two looks."""
    return itertools.count(step=seconds).__next__


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    events = list(run_comparison(QUICK, folder, n_jobs=1))
    return folder, events


def test_every_finished_job_is_reported_with_the_time_left(finished):
    _, events = finished
    assert [(event.done, event.total) for event in events] == [(1, 3), (2, 3), (3, 3)]
    assert events[-1].seconds_left == 0


def test_rows_are_complete_and_plain(finished):
    folder, _ = finished
    comparison = read_comparison(QUICK, folder, "pooled")
    comparison.write(folder)
    found = json.loads((folder / "comparison.json").read_text())
    assert len(found["rows"]) == 3 * 2 * 2 * 2 + 2 * 2  # methods, splits, galleries, K; and of the heads of two
    of_heads = [row for row in found["rows"] if row["gallery"] == "linear head"]
    assert {(row["method"], row["k"]) for row in of_heads} == {("lora", 0), ("metalora-tr", 0)}
    needed = {"method", "backbone", "suite", "task_split", "gallery", "set_size", "k", "accuracy", "std", "n_seeds"}
    needed |= {"static_parameters", "generator_parameters", "ms_per_step", "device"}
    assert all(needed <= row.keys() for row in found["rows"])
    assert {row["device"] for row in found["rows"]} == {"cpu"}
    assert all(0 <= row["accuracy"] <= 1 and row["n_seeds"] == 1 and row["std"] is None for row in found["rows"])
    assert {row["method"] for row in found["rows"]} == set(QUICK.methods)
    generator = {row["method"]: row["generator_parameters"] for row in found["rows"]}
    assert generator["lora"] == generator["original"] == 0 < generator["metalora-tr"]
    assert {path.name for path in folder.glob("comparison.*")} >= {
        "comparison.json",
        "comparison.csv",
        "comparison.md",
        "comparison.tex",
    }
    assert all(gain["star"] == "n too small" for gain in found["gains"])
    worst = {(row["method"], row["task_split"]): row["accuracy"] for row in found["worst"]}
    for (method, split), accuracy in worst.items():
        place = {"method": method, "task_split": split, "gallery": "pooled", "k": 1}
        assert accuracy == min(row["accuracy"] for row in found["tasks"] if place.items() <= row.items())
    assert len(worst) == 6 and len(found["worst_gains"]) == 2


def test_a_run_resumes_with_the_jobs_that_are_missing(finished, monkeypatch):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / JOBS).iterdir()}
    gone = next(path for path in before if path.name.startswith("lora"))
    content = gone.read_text()
    gone.unlink()
    events = list(run_comparison(QUICK, folder, n_jobs=1))
    assert sum(event.ran for event in events) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != gone)
    again = json.loads(gone.read_text())
    for one, other in zip(json.loads(content)["rows"], again["rows"], strict=True):
        assert {**one, "ms_per_step": 0} == {**other, "ms_per_step": 0}


def test_an_interrupted_job_resumes_from_its_checkpoint(finished, tmp_path, monkeypatch):
    job = next(job for job in jobs_of(QUICK) if str(job.trained) == "metalora-tr")
    seen = []

    def interrupt(event):
        seen.append(event.step)
        raise KeyboardInterrupt

    monkeypatch.setattr("metalora.training.loop.time.monotonic", ticking(60))  # every step is due for a checkpoint
    checkpoint = tmp_path / "job.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run_job(job, checkpoint, interrupt)
    assert seen == [1] and checkpoint.exists()
    found = run_job(job, checkpoint, lambda event: seen.append(event.step))
    assert seen == [1, 2]
    whole = json.loads(job_file(finished[0], job).read_text())
    for one, other in zip(whole["rows"], found["rows"], strict=True):
        assert {**one, "ms_per_step": 0} == {**other, "ms_per_step": 0}


def test_running_jobs_report_their_progress_and_leave_only_their_result(tmp_path, monkeypatch):
    seen = []

    def report_and_end(job, checkpoint, progress):
        write_text(checkpoint, "")
        progress(Progress(2, 4, {}, {}, 1.0, 1.0))  # a checkpoint had the first step
        seen.extend(running_jobs(tmp_path))
        return {"rows": []}

    monkeypatch.setattr("metalora.experiments.resumable_job.run_job", report_and_end)
    stale = tmp_path / JOBS / f"{jobs_of(QUICK)[0].key}.steps"
    write_text(stale, "of a process that was killed")
    assert [event.ran for event in run_comparison(QUICK, tmp_path, n_jobs=1)] == [0.75] * 3
    assert seen[0] == RunningJob("lora on resnet20, seed 0, lr 0.003", 0.5, resumed_at=0.25) and len(seen) == 3
    assert {file.suffix for file in (tmp_path / JOBS).iterdir()} == {".json"}
    assert not running_jobs(tmp_path)


def test_a_folder_that_is_lost_meanwhile_is_an_input_error(tmp_path, monkeypatch):
    def lose(job, checkpoint, progress):
        (tmp_path / JOBS).write_text("in the way")
        progress(Progress(1, 4, {}, {}, 1.0, 1.0))

    monkeypatch.setattr("metalora.experiments.resumable_job.run_job", lose)
    with pytest.raises(InputError, match="Cannot write"):
        list(run_comparison(QUICK, tmp_path, n_jobs=1))


def test_warnings_of_jobs_are_issued_once_apart_from_layers_left_out(tmp_path, monkeypatch):
    def warn(job, checkpoint, progress):
        warnings.warn("It is not compiled.", stacklevel=1)
        warnings.warn("Not adapted.", LayersLeftOut, stacklevel=1)
        return {"rows": []}

    monkeypatch.setattr("metalora.experiments.resumable_job.run_job", warn)
    with pytest.warns(UserWarning) as caught:
        assert len(list(run_comparison(QUICK, tmp_path, n_jobs=1))) == 3
    assert [str(warning.message) for warning in caught] == ["It is not compiled."]


def test_two_processes_give_the_results_of_one(finished, tmp_path):
    folder, _ = finished
    config = replace(QUICK, methods=("original", "metalora-tr"))
    list(run_comparison(config, tmp_path, n_jobs=2))
    one, other = (read_comparison(config, where, "pooled").rows for where in (folder, tmp_path))
    keys = ["method", "task_split", "gallery", "k"]
    drop = [*keys, "ms_per_step"]
    one, other = (frame.sort_values(keys).reset_index(drop=True) for frame in (one, other))
    assert one[keys].equals(other[keys])
    assert (one["accuracy"] - other["accuracy"]).abs().max() < 1e-9
    assert one.drop(columns=drop).equals(other.drop(columns=drop))


def test_tuning_tries_every_learning_rate_and_takes_the_best_on_validation(tmp_path):
    config = replace(QUICK, methods=("original", "lora"), tune=True)
    events = list(run_comparison(config, tmp_path, n_jobs=1))
    assert len(events) == events[-1].total == 3 + 2
    comparison = read_comparison(config, tmp_path, "pooled")
    assert sorted(comparison.trials["lr"]) == sorted(LEARNING_RATES)
    best = comparison.trials.loc[comparison.trials["validation"].idxmax(), "lr"]
    assert set(comparison.rows.loc[comparison.rows["method"] == "lora", "lr"]) == {best}


def test_the_best_learning_rate_is_chosen_for_each_backbone_and_method():
    trials = [
        {"rows": [{"backbone": b, "method": m, "lr": r, "seed": 0, "validation": v}]}
        for b, m, r, v in [
            ("x", "lora", 1e-3, 0.5),
            ("x", "lora", 3e-3, 0.7),
            ("y", "lora", 1e-3, 0.9),
            ("y", "lora", 3e-3, 0.8),
        ]
    ]
    assert best_lrs(trials) == {("x", "lora"): 3e-3, ("y", "lora"): 1e-3}


def test_a_missing_result_is_named(finished):
    folder, _ = finished
    with pytest.raises(InputError, match="lacks the job lora-resnet20-0"):
        read_comparison(replace(QUICK, ks=(1,), methods=("lora",)), folder, "pooled")


def test_present_results_are_read_and_missing_ones_counted(finished):
    folder, _ = finished
    more = replace(QUICK, methods=(*QUICK.methods, "multi-lora"), backbones=("resnet20", "mixer_nano"), seeds=2)
    found = read_comparison(more, folder, "pooled", partial=True)
    assert found.missing == 4 * 2 * 2 - 3 and found.gains is None
    assert set(found.rows["method"]) == set(QUICK.methods)
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in found.table().rows}
    assert texts["multi-lora"] == ["not run"] * 20 and texts["lora"][12:] == ["not run"] * 8
    assert "not run" not in texts["lora"][:12] and "Stars need" in " ".join(found.table().notes)
    assert read_comparison(QUICK, folder, "pooled", partial=True).missing == 0


def test_nothing_is_there_before_the_first_cell(tmp_path):
    found = read_comparison(QUICK, tmp_path, "pooled", partial=True)
    assert found.missing == 3 and found.summary.empty and found.gains is None
    assert {cell.text for row in found.table().rows for cell in row[1:]} == {"not run"}


def test_known_results_need_no_file(finished, tmp_path):
    folder, _ = finished
    jobs = QUICK.jobs(0, QUICK.training.lr)
    known = {job.key: json.loads((folder / JOBS / f"{job.key}.json").read_text()) for job in jobs}
    assert (
        read_comparison(QUICK, tmp_path, "pooled", known=known).table()
        == read_comparison(QUICK, folder, "pooled").table()
    )


def test_a_suite_without_unseen_tasks_has_no_columns_for_them(finished):
    folder, _ = finished
    whole = read_comparison(QUICK, folder, "pooled")
    seen = replace(whole, rows=whole.rows[whole.rows["task_split"] == "seen"])
    assert [heading for heading in seen.table().header if "K=" in heading] == ["resnet20 seen K=1", "resnet20 seen K=3"]


def test_original_has_no_time_per_step(finished):
    folder, _ = finished
    rows = read_comparison(QUICK, folder, "pooled").rows
    assert all(math.isnan(time) for time in rows.loc[rows["method"] == "original", "ms_per_step"])


def test_rows_with_sets_are_compared_with_static_rows_with_sets_of_the_same_size(tmp_path):
    rows = ("lora", "lora@4", "lora@4-routed", "metalora-tr", "metalora-tr@4", "metalora-tr@all")  # alone in its size
    config = replace(QUICK, methods=rows, seeds=2)
    list(run_comparison(config, tmp_path, n_jobs=1))
    comparison = read_comparison(config, tmp_path, "pooled")
    assert set(comparison.set_gains["method"]) == {"metalora-tr@4"}
    (against,) = set(comparison.set_gains["against"])
    assert against in ("lora@4", "lora@4-routed")
    assert set(comparison.gains["against"]) == {"lora"}
    rows = comparison.rows[(comparison.rows["k"] == 1) & (comparison.rows["gallery"] == "pooled")]
    seen = rows[rows["task_split"] == "seen"].pivot(index="seed", columns="method", values="accuracy")
    wanted = (seen["metalora-tr@4"] - seen[against]).mean()
    found = comparison.set_gains.set_index("task_split").loc["seen", "gain"]
    assert found == pytest.approx(wanted)
    (said,) = [note for note in comparison.table().notes if f"over {against}" in note]
    assert f"metalora-tr@4 seen {100 * wanted:+.1f} (" in said and "metalora-tr@4 unseen " in said
    assert any(note.startswith("metalora-tr@4: 4 unlabelled images") for note in comparison.table().notes)
    assert read_comparison(QUICK, tmp_path, "pooled", partial=True).set_gains is None


OLD = Path(__file__).parents[1] / "data" / "comparison-of-version-1"  # written by `compare` before jobs had their name
OF_OLD = ComparisonConfig(
    suite=SuiteConfig(max_queries=20, image_size=8, data="moved"),
    backbones=("resnet20",),
    methods=("lora@4-inverted", "metalora-tr-factors@4"),
    training=TrainingConfig(steps=2, batch_size=8),  # on whatever device
    ks=(1,),
)


def test_results_of_an_earlier_version_are_found_and_read_with_the_names_of_now(tmp_path):
    shutil.copytree(OLD, tmp_path / "old")
    assert [event.ran for event in run_comparison(OF_OLD, tmp_path / "old", n_jobs=1)] == [0, 0]
    table = read_comparison(OF_OLD, tmp_path / "old", "pooled").table()
    with (OLD / "comparison.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    worst = [i for i, heading in enumerate(table.header) if heading.endswith("worst task")]
    texts = [[cell.text for i, cell in enumerate(row) if i not in worst] for row in table.rows]
    assert len(worst) == 2 and [row[1:] for row in texts] == [row[1:] for row in rows]
    assert [row[0].text for row in table.rows] == list(OF_OLD.methods)
    for job in jobs_of(OF_OLD):
        result = read_result(tmp_path / "old", job)
        assert {"task_split", "lr", "method"} <= result["rows"][0].keys()
        assert JobConfig.from_dict(result["job"]).key == job.key


def test_new_jobs_beside_results_of_an_earlier_version_go_to_their_own_folder(tmp_path, monkeypatch):
    shutil.copytree(OLD, tmp_path / "old")
    (tmp_path / "old" / OLD_JOBS / "damaged.json").write_text("{")
    monkeypatch.setattr("metalora.experiments.resumable_job.run_job", lambda job, *_: {"rows": []})
    config = replace(OF_OLD, methods=("original", *OF_OLD.methods))
    list(_ for _ in itertools.islice(run_comparison(config, tmp_path / "old", n_jobs=1), 3))
    assert [file.name for file in (tmp_path / "old" / JOBS).iterdir()] == [f"{jobs_of(config)[0].key}.json"]


def test_results_of_other_images_are_refused(tmp_path):
    quick = replace(QUICK, methods=("original",))
    list(run_comparison(quick, tmp_path, n_jobs=1))
    suite = load_suite(quick.suite)
    relabelled = replace(suite, annotations="other labels")
    with pytest.raises(InputError, match=r"images of digits, or their labels, have changed"):
        next(run_comparison(quick, tmp_path, n_jobs=1, suite=relabelled))
    assert not next(run_comparison(quick, tmp_path, n_jobs=1, suite=suite)).ran


def test_every_training_takes_the_best_of_short_trials_of_learning_rates(tmp_path, monkeypatch):
    tried = []
    accuracies = iter((0.2, 0.5, 0.3))

    def scripted(model, suite, config, steps, features=None, checkpoint=None):
        tried.append(steps)
        return dict(zip(LEARNING_RATES, accuracies, strict=True))
        yield

    monkeypatch.setattr("metalora.experiments.job.try_learning_rates", scripted)
    config = replace(QUICK, methods=("original", "lora"), trial_steps=1)
    list(run_comparison(config, tmp_path, n_jobs=1))
    rows = read_comparison(config, tmp_path, "pooled").rows
    assert tried == [1]
    assert rows[rows["method"] == "lora"]["lr"].unique().tolist() == [LEARNING_RATES[1]]


def test_progress_counts_trials_and_training_together():
    (job,) = (job for job in jobs_of(replace(QUICK, methods=("lora",), trial_steps=2)) if job.backbone == "resnet20")
    events = []
    run_job(job, progress=events.append)
    steps = 3 * 2 + job.training.steps
    assert [event.step for event in events] == list(range(1, steps + 1)) and {e.steps for e in events} == {steps}


def test_trials_leave_the_model_as_it_is():
    suite = load_suite(QUICK.suite)
    model = adapt("resnet20", AdapterConfig("lora", rank=1))
    before = {name: tensor.clone() for name, tensor in model.trained.state_dict().items()}
    events = list(try_learning_rates(model, suite, QUICK.training, 2))
    assert [(event.step, event.steps) for event in events] == [(step, 6) for step in range(1, 7)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.trained.state_dict().items())


def test_the_best_learning_rate_is_the_lowest_of_equal_ones():
    assert best_lr({1e-2: 0.5, 1e-3: 0.5, 1e-4: 0.4}) == 1e-3
