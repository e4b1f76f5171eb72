"""The state of an app, and which visitor may see what of it."""

import os
import zipfile
from dataclasses import replace

import pytest
import torch
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from metalora.adapters.config import AdapterConfig
from metalora.runs.run_config import RunConfig
from metalora.runs.zerogpu import InEvent
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN, AppState
from metalora.views.runs import result_table, run_result
from pages.run_panel import RunPanel
from pages.shell import RUN_STATE, Shell


@pytest.fixture(scope="module")
def app_state(tmp_path_factory):
    return AppState(tmp_path_factory.mktemp("app"), InEvent)


@pytest.fixture(scope="module")
def trained(app_state):
    """(visitor, run) of a run of three steps."""
    visitor = app_state.ensure_visitor(None)
    suite = SuiteConfig("digits", max_queries=20, max_train_images=10)
    config = RunConfig(
        "resnet20", suite, AdapterConfig("metalora-cp", rank=2), TrainingConfig(steps=3, batch_size=8, device="cpu")
    )
    run = app_state.workspace.prepare_run(visitor, config)
    statuses = list(app_state.backend.start(visitor, run))
    assert statuses[-1].state == "finished", statuses[-1].reason
    return visitor, run


def test_a_token_is_kept_and_anything_else_gets_a_new_one(app_state):
    token = app_state.ensure_visitor(None)
    assert app_state.ensure_visitor(token) == token
    assert app_state.ensure_visitor("../x") not in ("../x", token)


def test_a_visitors_run_is_opened_like_a_bundled_adapter(app_state, trained):
    visitor, run = trained
    names = list(app_state.adapters(visitor))
    assert DEFAULT in names and names[-1] == f"{RUN}{run}"
    opened = app_state.open(visitor, f"{RUN}{run}")
    assert opened.title == "Meta-LoRA CP on resnet20" and not opened.planes
    opened.gallery.check_adapter(opened.model)
    assert app_state.open(visitor, f"{RUN}{run}") is opened
    assert app_state.open(visitor).planes
    rows = result_table(run_result(app_state, visitor, run))
    assert set(rows["tasks"]) == {"seen", "unseen"} and rows["accuracy in %"].str.match(r"\d+\.\d").all()
    assert rows["original in %"].str.match(r"\d+\.\d").all()
    with zipfile.ZipFile(app_state.zip_adapter(visitor, run)) as archive:
        assert {"config.json", "adapter.safetensors"} <= set(archive.namelist())


def test_an_adapter_is_zipped_once_and_again_when_it_changes(app_state, trained, monkeypatch):
    visitor, run = trained
    zipped = app_state.zip_adapter(visitor, run)
    before = zipped.stat()
    assert app_state.zip_adapter(visitor, run).stat().st_ino == before.st_ino  # not even replaced
    with monkeypatch.context() as patch:
        patch.setattr(
            "metalora.util.files.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        config = zipped.with_suffix("") / "config.json"
        os.utime(config, ns=(before.st_mtime_ns + 10**9,) * 2)
        with pytest.raises(InputError, match="free some space"):
            app_state.zip_adapter(visitor, run)
    assert zipped.stat().st_ino == before.st_ino and not list(zipped.parent.glob(".adapter.zip*"))  # whole, the old one
    (zipped.with_suffix("") / ".config.json.half").write_text("{")
    assert app_state.zip_adapter(visitor, run).stat().st_ino != before.st_ino
    (zipped.with_suffix("") / ".config.json.half").unlink()
    with zipfile.ZipFile(zipped) as archive:
        assert set(archive.namelist()) == {"config.json", "adapter.safetensors"}


def test_a_damaged_run_is_listed_as_such_beside_the_others(app_state, trained):
    visitor, run = trained
    damaged = app_state.workspace.prepare_run(visitor, app_state.config(visitor, run))
    (app_state.workspace.run_folder(visitor, damaged) / "run.json").write_text("{")
    titles = app_state.runs(visitor)
    assert list(titles) == [damaged, run] and titles[damaged].endswith(" cannot be read")
    assert {DEFAULT, f"{RUN}{run}"} <= app_state.adapters(visitor).keys()
    _, _, stop, resume, delete, download, *_ = RunPanel(app_state).show(visitor, damaged)
    reason = Shell(app_state).update_run(visitor, damaged, 0)[0]
    assert reason.startswith(f"{damaged}/run.json cannot be read") and "delete the run" in reason
    assert [button["interactive"] for button in (stop, resume, delete, download)] == [False, False, True, False]
    app_state.workspace.delete_run(visitor, damaged)
    assert list(app_state.runs(visitor)) == [run]


def test_no_other_visitor_sees_a_run(app_state, trained):
    _, run = trained
    other = app_state.ensure_visitor(None)
    assert not app_state.runs(other) and f"{RUN}{run}" not in app_state.adapters(other)
    for method in (app_state.config, app_state.has_adapter, app_state.zip_adapter, app_state.run_name):
        with pytest.raises(InputError, match="no such run of yours"):
            method(other, run)
    with pytest.raises(InputError, match="no such run of yours"):
        app_state.open(other, f"{RUN}{run}")


def test_the_page_asks_how_a_run_stands_by_a_request_of_its_own(app_state, trained):
    visitor, run = trained
    client = TestClient(Starlette(routes=[Route(RUN_STATE, Shell(app_state).run_state)]))

    def asked(token, run):
        answer = client.get(RUN_STATE, params={"run": run}, headers={"X-Visitor": token})
        assert answer.status_code == 200
        return answer.text

    assert asked(visitor, run).startswith(f"{run} finished 3 ") and asked(visitor, run) == asked(visitor, run)
    for token, name in ((app_state.ensure_visitor(None), run), (visitor, "../x"), ("", ""), ("../x", run)):
        said = asked(token, name)
        assert said.startswith(f"{name} ") and ("no such run of yours" in said or "lost its visitor's id" in said)


def test_a_run_without_an_adapter_says_so(app_state):
    visitor = app_state.ensure_visitor(None)
    run = app_state.workspace.prepare_run(visitor, RunConfig())
    with pytest.raises(InputError, match="no adapter yet"):
        app_state.open(visitor, f"{RUN}{run}")
    with pytest.raises(InputError, match="no adapter yet"):
        app_state.zip_adapter(visitor, run)


def test_a_bundled_adapter_that_is_missing_says_how_it_is_made(app_state, tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.models.bundled.FOLDER", tmp_path)
    with pytest.raises(InputError, match="python -m metalora bundle mixer_nano/lora"):
        app_state.open(app_state.ensure_visitor(None), "mixer_nano/lora")
    assert not app_state.adapters(app_state.ensure_visitor(None))


def test_training_can_start_from_a_visitors_run(app_state, trained):
    visitor, run = trained
    name = f"{RUN}{run}"
    before = app_state.config(visitor, run)
    assert app_state.start_settings(visitor, name) == ("resnet20", before.adapter)
    config = replace(before, start=name)
    app_state.check_start(visitor, config)
    app_state.check_start(visitor, before)
    with pytest.raises(InputError, match=r"Meta-LoRA CP, rank 2, .* was made with rank 2, not 3"):
        app_state.check_start(visitor, replace(config, adapter=replace(config.adapter, rank=3)))
    with pytest.raises(InputError, match="no such run of yours"):
        app_state.check_start(app_state.ensure_visitor(None), config)
    other = replace(config, training=replace(config.training, seed=1))  # whose own statistics would differ
    again = app_state.workspace.prepare_run(visitor, other)
    assert list(app_state.backend.start(visitor, again))[-1].state == "finished"
    ours, theirs = (app_state.open(visitor, f"{RUN}{one}").model.mapping for one in (again, run))
    assert torch.equal(ours.feature_mean, theirs.feature_mean)
