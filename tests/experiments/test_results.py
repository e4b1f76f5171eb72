"""Results to look at: bundled ones, a visitor's own that goes on from them, and the paper's."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from metalora.experiments.comparison import RESULTS, Comparison
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job_files import job_file
from metalora.experiments.paper_table import paper_table
from metalora.experiments.results import (
    FOLDER,
    MAX_SEEDS,
    adopt_bundled,
    as_jobs,
    bundled_results,
    compare_rows,
    jobs_of,
    load_bundled,
    load_comparison,
    missing_jobs,
    own_comparison,
    own_config,
)
from metalora.experiments.runner import read_comparison, run_comparison
from metalora.experiments.table import NOT_RUN, SPLITS
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.views.compare import NO_TASKS, NOTHING, heatmap, scatter

STEPS = TrainingConfig().steps
QUICK = ComparisonConfig(
    suite=SuiteConfig(max_queries=30, image_size=8),
    backbones=("resnet20",),
    methods=("original", "lora"),
    training=TrainingConfig(steps=2, batch_size=32, device="cpu"),
    ks=(1, 3),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    list(run_comparison(QUICK, folder, n_jobs=1))
    comparison = read_comparison(QUICK, folder, "pooled", ["A note."])
    comparison.write(folder)
    return folder, comparison


def words(figure):
    return [note.text for note in figure.layout.annotations]


def test_a_comparison_comes_back_from_its_file(written):
    folder, comparison = written
    again = load_comparison(folder / "comparison.json")
    assert again.config == QUICK and again.notes == ("A note.",)
    assert again.table() == comparison.table()
    assert len(again.tasks) == len(comparison.tasks) and len(again.confusion) == len(comparison.confusion)


def test_a_file_without_single_tasks_is_read_and_says_so(written, tmp_path):
    found = json.loads((written[0] / "comparison.json").read_text())
    for name in ("tasks", "confusion"):
        del found[name]
    (tmp_path / "old.json").write_text(json.dumps(found))
    old = load_comparison(tmp_path / "old.json")
    now, then = written[1].table(), old.table()
    assert set(now.columns) - set(then.columns) == {("resnet20", f"{split} worst task") for split in SPLITS}
    assert [heading for heading in now.columns if heading in then.columns] == then.columns
    assert heatmap(old, "resnet20", "unseen", "pooled", 1) == (None, NO_TASKS)


def test_the_heatmap_says_which_single_tasks_were_kept(written):
    _, whole = written
    tasks = whole.tasks[(whole.tasks["gallery"] == "within") & (whole.tasks["k"] == 1)]
    study = replace(whole, tasks=tasks)
    figure, left_out = heatmap(study, "resnet20", "unseen", "pooled", 1)
    assert figure is None and "kept for the within gallery at K = 1 only" in left_out
    assert heatmap(study, "resnet20", "unseen", "within", 3)[0] is None
    assert list(heatmap(study, "resnet20", "unseen", "within", 1)[0].data[0].y) == ["Original", "LoRA"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": {"what": 1}, "primary": "", "notes": []}'])
def test_a_file_that_is_no_result_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="delete it and run it again"):
        load_comparison(tmp_path / "x.json")
    with pytest.raises(InputError):
        load_comparison(tmp_path / "none.json")


@pytest.mark.parametrize(
    "damage",
    [
        *({name: None} for name in ("seeds", "tasks", "notes", "missing", "config")),
        {"seeds": [1, 2]},
        {"tasks": [{"a": 1}]},
        {"gains": 1},
    ],
    ids=str,
)
def test_a_damaged_result_is_refused(written, tmp_path, damage):
    folder, _ = written
    whole = json.loads((folder / "comparison.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps(whole | damage))
    with pytest.raises(InputError, match=r"x\.json is no result of a comparison"):
        load_comparison(tmp_path / "x.json")


def test_rows_without_their_learning_rate_are_refused(written, tmp_path):
    folder, _ = written
    whole = json.loads((folder / "comparison.json").read_text())
    for row in whole["seeds"]:
        del row["lr"]
    (tmp_path / "x.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match="a row lacks lr"):
        load_comparison(tmp_path / "x.json")


def test_jobs_come_back_from_results(written):
    folder, _ = written
    again = load_comparison(folder / "comparison.json")
    jobs = dict((job.key, result) for job, result in as_jobs(again))
    assert list(jobs) == [job.key for job in jobs_of(QUICK)]
    for job in jobs_of(QUICK):
        kept, back = json.loads(job_file(folder, job).read_text()), jobs[job.key]
        assert back["job"] == kept["job"]
        for name in ("rows", "tasks"):
            assert [row["accuracy"] for row in back[name]] == pytest.approx([row["accuracy"] for row in kept[name]])


def test_bundled_results_are_complete():
    assert "digits-default" in bundled_results()
    for name in bundled_results():
        comparison = load_bundled(name)
        is_complete = not any(cell.text == NOT_RUN for row in comparison.table().rows for cell in row)
        assert is_complete or comparison.missing
    with pytest.raises(InputError, match="use cifar10, digits-all, digits-default"):
        load_bundled("../x")


@pytest.mark.parametrize("name", ["cifar10", "digits-default", "primary/main", "breadth/rules"])
def test_bundled_results_have_figures(name):
    comparison = load_bundled(name)
    assert scatter(comparison, "resnet20", "unseen", "pooled", 5).data
    figure, reason = heatmap(comparison, "resnet20", "unseen", "pooled", 5)
    assert figure is not None or reason


def test_gains_of_bundled_results_are_stored_and_not_computed(monkeypatch):
    monkeypatch.setattr("metalora.experiments.comparison.compare_to_static", lambda *_, **__: 1 / 0)
    for name in bundled_results():
        if load_bundled(name).config.seeds > 1 and not load_bundled(name).missing:
            load_bundled(name).table()


def test_results_of_version_1_are_read_with_the_names_of_now():
    old = load_comparison(Path(__file__).parents[1] / "data" / "comparison-version-1.json")
    now = load_bundled("mixer/one")
    assert json.loads((FOLDER / "mixer/one" / RESULTS).read_text())["format_version"] == 2
    assert old.config == now.config and old.table() == now.table()
    for name in ("rows", "tasks", "confusion", "gains", "summary"):
        pd.testing.assert_frame_equal(getattr(old, name), getattr(now, name))


def test_results_of_a_later_version_are_refused(written, tmp_path):
    values = json.loads((written[0] / RESULTS).read_text())
    (tmp_path / "x.json").write_text(json.dumps(values | {"format_version": 3}))
    with pytest.raises(InputError, match="format version 3"):
        load_comparison(tmp_path / "x.json")


def test_rows_of_the_endpoint_are_those_of_the_file():
    rows = compare_rows("digits-default")
    kept = json.loads((FOLDER / "digits-default" / RESULTS).read_text())["rows"]
    assert json.dumps(rows) and len(rows) == len(kept)
    assert [row["accuracy"] for row in rows] == pytest.approx([row["accuracy"] for row in kept])
    assert {"method", "backbone", "task_split", "gallery", "k", "std", "n_seeds", "static_parameters"} <= rows[0].keys()


def test_a_visitors_comparison_continues_from_bundled_results(tmp_path):
    config = own_config(["resnet20"], ["metalora-tr-constant", "original", "lora"], 1, STEPS)
    assert config.methods == ("original", "lora", "metalora-tr-constant")
    assert [str(job.trained) for job in missing_jobs(config, tmp_path)] == ["metalora-tr-constant"]
    own = own_comparison(config, tmp_path)
    assert not list(tmp_path.iterdir())  # a look writes nothing
    assert own.missing == 1 and own.gains is None
    assert "2 trainings of these are bundled" in own.table().notes[-1]
    alone = own_comparison(replace(config, methods=("lora",)), tmp_path)
    assert alone.table().notes[-1].startswith("One training of these is bundled")
    texts = [[cell.text for cell in row] for row in own.table().rows]
    assert texts[2] == ["metalora-tr-constant", *[NOT_RUN] * 10]
    bundled = {row[0].text: [cell.text for cell in row[:5]] for row in load_bundled("digits-default").table().rows}
    assert texts[0][:5] == bundled["original"] and texts[1][:5] == bundled["lora"]
    adopt_bundled(config, tmp_path)
    assert len(list((tmp_path / "jobs").iterdir())) == 2
    fewer_steps = replace(config, training=replace(config.training, steps=9))
    assert len(missing_jobs(fewer_steps, tmp_path)) == 2  # the original backbone is not trained


def test_nothing_run_is_said_in_words(tmp_path):
    config = own_config(["mixer_nano"], ["metalora-cp-constant"], 2, 7)
    own = own_comparison(config, tmp_path)
    assert own.missing == 2
    assert [cell.text for cell in own.table().rows[0][1:]] == [NOT_RUN] * 8
    assert words(scatter(own, "mixer_nano", "unseen", "pooled", 5)) == [NOTHING]
    assert heatmap(own, "mixer_nano", "unseen", "pooled", 5) == (None, NOTHING)


def test_rows_that_ran_without_single_tasks_are_left_out_by_name(written):
    _, whole = written
    tasks = whole.tasks[whole.tasks["method"] == "lora"]
    config = replace(QUICK, methods=("original", "lora", "multi-lora"))
    mixed = Comparison(config, whole.rows, tasks, whole.confusion, whole.trials, "pooled", missing=1)
    figure, left_out = heatmap(mixed, "resnet20", "unseen", "pooled", 1)
    assert left_out.endswith(": original.") and list(figure.data[0].y) == ["LoRA", "Multi-LoRA"]
    assert "not among these results" in heatmap(mixed, "mixer_nano", "unseen", "pooled", 1)[1]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ((["resnet99"], ["lora"], 1, STEPS), "no bundled backbone"),
        (([], ["lora"], 1, STEPS), "at least one"),
        ((["resnet20"], [], 1, STEPS), "at least one"),
        ((["resnet20"], ["<b>"], 1, STEPS), "Unknown method"),
        ((["resnet20"], ["lora"], MAX_SEEDS + 1, STEPS), "seeds is"),
        ((["resnet20"], ["lora"], None, STEPS), "seeds is"),
        ((["resnet20"], ["lora"], 1, 0), "steps is"),
        ((["resnet20"], ["lora"], 1, 1.5), "steps is"),
        ((["resnet20"], ["lora"], 1, float("nan")), "steps is"),
    ],
)
def test_settings_that_cannot_run_are_refused(given, match):
    with pytest.raises(InputError, match=match):
        own_config(*given)


def test_tables_are_written_for_download(written, tmp_path):
    _, comparison = written
    files = comparison.write(tmp_path, comparison.table("within"))
    assert set(files) == {"csv", "md", "tex", "json"}
    assert files["csv"].read_text().startswith("method,resnet20 seen K=1")
    assert "within gallery" in files["md"].read_text() and "\\toprule" in files["tex"].read_text()
    assert len(json.loads(files["json"].read_text())["rows"]) == 2 * 2 * 2 * 2 + 2  # of a head


def test_the_table_of_the_paper_is_as_printed():
    table = paper_table()
    assert table.header == ["method", "ResNet K=5", "ResNet K=10", "Mixer K=5", "Mixer K=10"]
    assert [cell.text for cell in table.rows[-1]] == ["Meta-LoRA TR", "73.24*", "71.26", "71.75*", "73.87*"]
    assert [cell.bold for cell in table.rows[3]] == [False, False, True, False, False]
    assert sum(cell.bold for row in table.rows for cell in row) == 4
    assert "cannot be compared with" in table.notes[0]
