"""Compare: every bundled result has its place, views of results, and a visitor's own results."""

import json
from dataclasses import replace
from html import escape
from types import SimpleNamespace

import pytest

from metalora.experiments.results import PRIMARY, bundled_results, load_bundled, own_config, remember_config
from metalora.runs.run_folder import RunState
from metalora.util.errors import InputError
from metalora.views import own_results
from metalora.views.compare import bundled_source
from metalora.views.compare_questions import HEADLINE, QUESTIONS, menu, question_of, title
from metalora.views.own_results import find_own, own_menu, own_source, run_rows, runs_overview


def test_every_bundled_result_answers_exactly_one_question():
    named = [name for question in QUESTIONS for name in question.results]
    assert sorted(named) == sorted(bundled_results())
    assert len({title(name) for name in named}) == len(named)
    assert HEADLINE == "primary/main" and menu(QUESTIONS[0])[0][1] == HEADLINE
    with pytest.raises(InputError, match="no results 'x'"):
        question_of("x")


@pytest.mark.parametrize("name", bundled_results())
def test_every_bundled_result_is_shown(name):
    source = bundled_source(name)
    for backbone in source.comparison.config.backbones:
        seen = source.overview(backbone, "")
        assert seen.sentence and escape(title(name)) in seen.table
        assert (seen.figure is None) == (source.comparison.gains is None)


def test_sentences_are_about_rows_that_answer_the_question():
    single = bundled_source("primary/one").overview("resnet20", "")
    assert single.sentence.startswith("Meta-LoRA TR does not") or single.sentence.startswith("Meta-LoRA TR is worse")
    assert question_of("mixer/mixer").sets
    assert "single images" not in bundled_source("mixer/mixer").overview("mixer_nano", "").sentence


def test_a_filter_keeps_rows_and_says_when_none_is_left():
    source = bundled_source(HEADLINE)
    seen = source.overview("resnet20", "routed")
    assert "lora-equal-budget@8-routed" in seen.table and "metalora-tr@8" not in seen.table
    numbers = source.numbers("resnet20", "unseen", "pooled", 5, "routed")
    assert "metalora-tr@8<" not in numbers.html and len(numbers.table.rows) == 16
    with pytest.raises(InputError, match="'nothing'"):
        source.overview("resnet20", "nothing")


@pytest.mark.parametrize(
    "place", [("all", "pooled", 5), ("seen", "open", 5), ("seen", "pooled", 7), ("seen", "pooled", None)]
)
def test_a_view_that_does_not_exist_is_refused(place):
    with pytest.raises(InputError, match="use the lists"):
        bundled_source(HEADLINE).numbers("resnet20", *place, "")


def test_views_of_bundled_results_are_computed_once():
    source = bundled_source("breadth/digits")
    assert source.overview("resnet20", "") is bundled_source("breadth/digits").overview("resnet20", "")
    place = ("resnet20", "seen", "pooled", 5, "")
    assert source.numbers(*place) is source.numbers(*place)


@pytest.fixture
def app_state(tmp_path):
    """One visitor, "me", with a folder for each suite."""

    def comparison_folder(visitor, suite):
        if visitor != "me":
            raise InputError("There is no such visitor.")
        return tmp_path / suite

    workspace = SimpleNamespace(comparison_folder=comparison_folder, run_folder=lambda visitor, run: run)
    return SimpleNamespace(workspace=workspace, runs=lambda visitor: {"a": "Mine & best", "b": "Older", "c": "Waiting"})


def test_comparisons_of_a_visitor_are_listed_and_found(app_state, tmp_path):
    config = own_config(["resnet20"], ["original", "lora"], 1, 64)
    remember_config(config, tmp_path / "digits")
    remember_config(replace(config, seeds=2), tmp_path / "digits")
    names = [name for _, name in own_menu(app_state, "me")]
    assert len(names) == 4 and names[0] == "runs" and names[-1] == "ticked"
    found = [find_own(app_state, "me", name) for name in names[1:3]]
    assert {settings.seeds for settings, _ in found} == {1, 2}
    shown = own_source(config, tmp_path / "digits").overview("resnet20", "")
    assert "metalora" not in shown.table and ">lora<" in shown.table
    for name in ("own:digits:x", "own:cifar10:" + names[1].rpartition(":")[2]):
        with pytest.raises(InputError, match="no such comparison of yours"):
            find_own(app_state, "me", name)
    with pytest.raises(InputError):
        find_own(app_state, "another", names[1])


def result(accuracy, original=None):
    """What a finished run writes; older ones have no original."""
    extra = {} if original is None else {"original": original}
    places = [("seen", "pooled", 5), ("unseen", "pooled", 5), ("seen", "within", 5), ("seen", "pooled", 10)]
    rows = [{"task_split": s, "gallery": g, "k": k, "accuracy": accuracy, **extra} for s, g, k in places]
    return {"method": "metalora-tr", "primary": PRIMARY, "rows": rows}


def test_finished_runs_stand_beside_the_original_network(app_state, monkeypatch):
    folders = {
        "a": SimpleNamespace(state=RunState.FINISHED, result=result(0.8, 0.6)),
        "b": SimpleNamespace(state=RunState.FINISHED, result=result(0.5)),
        "c": SimpleNamespace(state=RunState.RUNNING),
    }
    monkeypatch.setattr(own_results, "open_run", folders.get)
    first, second = run_rows(app_state, "me")
    assert (first.gains["unseen"].text, first.accuracies["seen"].remark) == ("+20.0", "original 60.0")
    assert second.gains["seen"].text == "original not measured"
    seen = runs_overview(app_state, "me", "")
    assert "Mine &amp; best" in seen.table and "Waiting" not in seen.table
    assert seen.sentence.startswith("1 of 1 run beat")
    assert "Older" not in runs_overview(app_state, "me", "best").table
    with pytest.raises(InputError, match="'zzz'"):
        runs_overview(app_state, "me", "zzz")
    monkeypatch.setattr(own_results, "open_run", lambda folder: folders["c"])
    assert runs_overview(app_state, "me", "").sentence == own_results.NO_RUNS


def test_json_for_download_is_the_bundled_file(tmp_path):
    source = bundled_source("digits-default")
    files = source.write(source.numbers("resnet20", "seen", "within", 5, "").table, tmp_path)
    assert "within gallery" in files["md"].read_text() and set(files) == {"csv", "md", "tex", "json"}
    assert json.loads(files["json"].read_text())["primary"] == load_bundled("digits-default").primary
