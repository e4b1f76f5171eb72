"""Studies: named comparisons, in development or final, written after every training."""

import json
import shutil
from dataclasses import replace
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from metalora.cli import app
from metalora.experiments import studies
from metalora.experiments.comparison import RESULTS
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.equal_budget import equal_budget, total_parameters
from metalora.experiments.results import FOLDER, as_jobs, bundled_results, load_comparison
from metalora.experiments.runner import jobs_of
from metalora.experiments.studies import LOG, STUDIES, TABLE, Study, load_study, run_part, run_settings, stored_results
from metalora.models.adapt import adapt
from metalora.models.backbones import load_backbone
from metalora.plots import variant_style
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.files import write_text

TINY = ComparisonConfig(
    suite=SuiteConfig("digits", draw_unseen=3, max_queries=30, image_size=8),
    backbones=("resnet20",),
    methods=("lora-equal-budget", "lora-equal-budget@4-routed", "metalora-tr-factors@4", "metalora-tr-factors-oracle"),
    seeds=2,
    training=TrainingConfig(steps=2, batch_size=32, device="cpu"),
    ks=(1, 3),
)
SUITE = load_suite(TINY.suite)


def call(*words):
    return CliRunner().invoke(app, ["study", *map(str, words)])


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(STUDIES, "tiny", Study("Does it run?", {"one": TINY, "two": replace(TINY, rank=2)}))


def test_a_study_is_read_from_yaml_and_its_mistakes_are_named(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("question: Why?\nparts:\n  one:\n    suite: {name: digits}\n    training: {lr: 0.006}\n")
    assert load_study(file) == Study("Why?", {"one": ComparisonConfig(training=TrainingConfig(lr=0.006))})
    for wrong, match in (("{lr: fast}", "learning rate is 'fast'"), ("{pace: 1}", "Unknown setting 'pace'")):
        file.write_text(f"question: Why?\nparts:\n  one:\n    suite: {{name: digits}}\n    training: {wrong}\n")
        with pytest.raises(InputError, match=match):
            load_study(file)


def test_every_study_can_be_run():
    for study in STUDIES.values():
        assert study.question.endswith("?")
        for part in study.parts.values():
            assert part.jobs(0, part.training.lr)
            # Every part has a static row to compare with.
            assert any(row.static for row in part.variants)
            assert all(variant_style(str(row)) for row in part.variants)  # as the app shows them


def test_development_is_the_default_and_final_is_an_option(tmp_path):
    developing, final = (run_settings(TINY, data="here", final=flag, seeds=1) for flag in (False, True))
    assert (developing.suite.development, final.suite.development) == (True, False)
    assert (developing.suite.data, developing.seeds) == ("here", 1)
    assert run_settings(TINY, data="here", final=True, seeds=9).seeds == TINY.seeds
    assert run_settings(TINY, data="here", final=True, download=True).suite.download and not final.suite.download


def test_rows_are_written_after_every_training_and_not_repeated(tmp_path, monkeypatch):
    out, counts = tmp_path / "out", []
    for _ in run_part(TINY, out, tmp_path / "work", SUITE, n_jobs=1):
        counts.append(len(load_comparison(out / RESULTS).rows["seed"]))
    assert len(counts) == 4
    assert counts == sorted(set(counts))
    comparison = load_comparison(out / RESULTS)
    assert set(comparison.rows["method"]) == set(TINY.methods)
    assert set(comparison.tasks["k"]) == {1}
    # On another machine only the results are there; their statistics are computed once, not after each of them.
    written = Mock(wraps=studies.write_results)
    monkeypatch.setattr(studies, "write_results", written)
    again = list(run_part(TINY, out, tmp_path / "elsewhere", SUITE, n_jobs=1))
    assert written.call_count == 1
    assert all(not job.ran for job in again)
    pair = (load_comparison(out / RESULTS), comparison)
    assert pair[0].rows.equals(pair[1].rows)


def test_rows_of_more_seeds_and_of_data_elsewhere_are_kept(tmp_path):
    out = tmp_path / "out"
    list(run_part(TINY, out, tmp_path / "work", SUITE, ["A word."], n_jobs=1))
    before = load_comparison(out / RESULTS)
    assert before.notes == ("A word.",)
    fewer = run_settings(TINY, data="elsewhere", final=True, seeds=1)
    assert not any(job.ran for job in run_part(fewer, out, tmp_path / "other", SUITE, n_jobs=1))
    after = load_comparison(out / RESULTS)
    assert (after.config.seeds, after.missing) == (2, 0)
    assert after.rows.equals(before.rows)


def test_trainings_of_other_settings_are_not_overwritten(tiny, tmp_path):
    place = ("--out", tmp_path / "out", "--work", tmp_path / "work", "--jobs", 1, "--final")
    assert call("tiny", "--part", "one", "--seeds", 1, *place).exit_code == 0
    shutil.move(tmp_path / "out" / "tiny" / "one", tmp_path / "out" / "tiny" / "two")
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    found = call("tiny", "--part", "two", *place)
    assert found.exit_code == 2
    assert "trainings of other settings" in found.output and "--out" in found.output
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "name", [name for name in bundled_results() if "/" in name], ids=lambda name: name.replace("/", "-")
)
def test_bundled_parts_are_not_trained_again_wherever_the_data_are(name):
    study, part = name.split("/")
    config = run_settings(STUDIES[study].parts[part], data="else/where", final=True)
    found = stored_results(config, FOLDER / name / RESULTS)
    seeds = range(found.config.seeds)
    wanted = {job.key for job in jobs_of(config) if job.training.seed in seeds}
    assert len({job.key for job, _ in as_jobs(found)} & wanted) == len(wanted) - found.missing


def test_budgets_are_equal_where_a_code_predicts_factors():
    backbone = load_backbone("resnet20", image_size=8)
    lora, factors = TINY.jobs(0, TINY.training.lr)
    goal = total_parameters(adapt(backbone, factors.adapter))
    assert goal <= total_parameters(adapt(backbone, equal_budget(backbone, lora.adapter))) < 1.1 * goal


def test_the_command_runs_a_part_and_logs_what_is_final(tiny, tmp_path):
    out, place = tmp_path / "results", ("--work", tmp_path / "work", "--seeds", 1, "--jobs", 1)
    found = call("tiny", "--part", "one", "--out", out, *place)
    assert found.exit_code == 0, found.output
    assert not (out / "tiny" / LOG).exists()
    assert load_comparison(out / "tiny" / "one" / RESULTS).config.suite.development
    assert "tiny, one" in found.output and "lora-equal-budget@4-routed" in found.output
    assert "| lora-equal-budget@4-routed |" in (out / "tiny" / "one" / TABLE).read_text()
    refused = call("tiny", "--part", "one", "--final", "--out", out, *place)
    assert refused.exit_code == 2 and "trainings of other settings" in refused.output
    assert not (out / "tiny" / LOG).exists()
    out = tmp_path / "final"
    for _ in range(2):
        assert call("tiny", "--part", "one", "--final", "--out", out, *place).exit_code == 0
    lines = [json.loads(line) for line in (out / "tiny" / LOG).read_text().splitlines()]
    assert [line["parts"] for line in lines] == 2 * [{"one": {"seeds": 1, "steps": 2}}]
    assert not (out / "tiny" / "two").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nothing"], "primary"),
        (["nothing", "--figure", "x.html"], "primary"),
        (["tiny", "--part", "three"], "one"),
        (["map", "--part", "three", "--figure", "x.html"], "steps-600"),
        (["tiny", "--seeds", "0"], "seeds"),
    ],
)
def test_wrong_arguments_are_one_sentence(tiny, words, part):
    found = call(*words)
    assert found.exit_code == 2
    assert part in found.output


def test_missing_data_can_be_fetched_as_the_message_says(tmp_path, monkeypatch):
    place = ("--part", "more", "--data", tmp_path, "--out", tmp_path / "out")
    found = call("primary", *place)
    assert found.exit_code == 2
    assert "--download" in found.output
    monkeypatch.setattr("metalora.suites.cifar10.CIFAR10", Mock(side_effect=InputError("fetched")))
    assert "fetched" in call("primary", *place, "--download").output
    assert not (tmp_path / "out").exists()


def test_the_map_is_drawn_from_finished_parts(tmp_path):
    place = ("--figure", tmp_path / "map.html", "--out", tmp_path)
    found = call("map", *place)
    assert found.exit_code == 2
    assert "No part of the study map" in found.output and "--final" in found.output
    assert not (tmp_path / "map.html").exists()
    shutil.copytree(FOLDER / "map" / "tasks-2", tmp_path / "map" / "tasks-2")
    assert call("map", *place).exit_code == 0
    assert "gain on seen tasks" in (tmp_path / "map.html").read_text()
    assert call("primary", *place).exit_code == 2


def test_contexts_are_drawn_from_the_parts_that_ran(tmp_path):
    config = STUDIES["contexts"].parts["corruptions"]
    assert {f"metalora-tr@{size}" for size in (0, 1, 2, 4, 8, 25, 50)} <= set(config.methods)
    stored = load_comparison(FOLDER / "breadth" / "corruptions-free" / RESULTS)
    write_text(tmp_path / "contexts" / "corruptions" / RESULTS, json.dumps(stored.to_dict()))
    place = ("--figure", tmp_path / "contexts.html", "--out", tmp_path)
    assert call("contexts", *place).exit_code == 0
    drawn = (tmp_path / "contexts.html").read_text()
    assert "corruptions, resnet20" in drawn and "images of a set" in drawn
    assert call("contexts", "--figure", tmp_path / "x.html", "--out", tmp_path / "empty").exit_code == 2


def test_without_a_name_the_studies_are_listed():
    found = call()
    assert found.exit_code == 0
    assert all(name in found.output for name in STUDIES)
