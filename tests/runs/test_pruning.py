"""What is deleted by age, while the app runs, and that strangers' files in the workspace stop nothing."""

import os
import shutil
import time
from datetime import timedelta

import pytest

from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import open_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.util.errors import InputError

WEEK = timedelta(days=7)
STRAYS = (".DS_Store", "Thumbs.db", "desktop.ini", "._1.zip", "notes.txt")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def full(workspace, tmp_path):
    """A visitor with a run, an upload, a comparison and an export: (token, run, upload)."""
    visitor = workspace.new_visitor()
    (tmp_path / "images.zip").write_bytes(b"images")
    upload = workspace.add_upload(visitor, tmp_path / "images.zip", "images.zip")
    run = workspace.prepare_run(visitor, RunConfig(suite=SuiteConfig(f"upload:{upload}")))
    for folder in (workspace.comparison_folder(visitor, "digits"), workspace.export_folder(visitor, "embedding")):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    return visitor, run, upload


def age(folder):
    """Let nothing in a folder have been touched since 2001."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)


def scatter(workspace):
    """Put stray files and half-written folders into every folder of a workspace."""
    for folder in [workspace.root, *(path for path in workspace.root.rglob("*") if path.is_dir())]:
        for name in STRAYS:
            (folder / name).write_bytes(b"stray")
        (folder / "untitled folder").mkdir()
        (folder / ".0123456789abcdef01234567").mkdir()
        (folder / "broken").symlink_to("nowhere")


def test_everything_that_nobody_touched_is_deleted_with_its_visitor(workspace, full):
    visitor, *_ = full
    assert workspace.prune(WEEK) == 0
    age(workspace.root)
    assert workspace.prune(WEEK) == 4
    assert workspace.runs(visitor) == [] == workspace.uploads(visitor)
    for _ in range(2):  # folders in which something was deleted count as touched
        age(workspace.root)
        assert workspace.prune(WEEK) == 0
    assert not list((workspace.root / "visitors").iterdir())


def test_what_was_used_lately_is_kept(workspace, full):
    visitor, _, upload = full
    age(workspace.root)
    workspace.prepare_run(visitor, RunConfig(suite=SuiteConfig(f"upload:{upload}")))
    assert workspace.prune(WEEK) == 3
    assert [kept.id for kept in workspace.uploads(visitor)] == [upload]
    assert len(workspace.runs(visitor)) == 1


def test_a_run_that_is_locked_or_waits_is_kept(workspace, full):
    visitor, run, _ = full
    folder = workspace.run_folder(visitor, run)
    age(workspace.root)
    with open_run(folder).locked():
        age(workspace.root)
        assert workspace.prune(WEEK) == 3
    open_run(folder).enqueue()
    age(workspace.root)
    assert workspace.prune(WEEK) == 0 and workspace.runs(visitor) == [run]


def test_stray_files_stop_nothing_and_are_nobodys(workspace, full):
    visitor, run, upload = full
    scatter(workspace)
    shutil.copytree(workspace.run_folder(visitor, run), workspace.folder(visitor) / "runs" / f"{run} copy", True)
    (workspace.folder(visitor) / "uploads" / ("0" * 24)).mkdir()  # half written by an earlier version
    again = Workspace(workspace.root)
    assert again.prune(WEEK) == 0
    assert again.runs(visitor) == [run] and [folder.name for folder in again.all_runs()] == [run]
    assert [kept.id for kept in again.uploads(visitor)] == [upload]
    assert again.upload(visitor, upload).read_bytes() == b"images"
    with pytest.raises(InputError, match="no such upload"):
        again.upload(visitor, "0" * 24)
    again.delete_upload(visitor, "0" * 24)
    other = again.prepare_run(visitor, RunConfig(suite=SuiteConfig(f"upload:{upload}")))
    queue = RunQueue(again)
    assert queue.status(visitor, other).state == "new"
    queue.close()
    again.delete_run(visitor, other)
    again.delete_upload(visitor, upload)
    age(workspace.root)
    assert again.prune(WEEK) > 4 and again.runs(visitor) == []


def test_a_lone_stray_file_is_no_upload(workspace):
    visitor = workspace.new_visitor()
    folder = workspace.folder(visitor) / "uploads" / ("a" * 24)
    folder.mkdir(parents=True)
    (folder / ".DS_Store").touch()
    assert workspace.uploads(visitor) == []
    with pytest.raises(InputError, match="no such upload"):
        workspace.upload(visitor, "a" * 24)


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(workspace, full, monkeypatch, caplog):
    remove = shutil.rmtree

    def refuse(path, *rest, **words):
        if path.parent.name == "uploads":
            raise PermissionError(1, "Operation not permitted", str(path))
        remove(path, *rest, **words)

    monkeypatch.setattr("metalora.runs.pruning.shutil.rmtree", refuse)
    age(workspace.root)
    assert workspace.prune(WEEK) == 3
    assert "cannot be deleted" in caplog.text and "Operation not permitted" in caplog.text


def test_it_goes_on_while_the_app_runs_whatever_happens(workspace, full, monkeypatch, caplog):
    visitor, *_ = full
    calls = []

    def breaks_once(path):
        calls.append(path)
        if len(calls) == 1:
            raise ZeroDivisionError
        return 0.0

    monkeypatch.setattr("metalora.runs.pruning._touched", breaks_once)
    over = workspace.prune_regularly(WEEK, timedelta(seconds=0.01))
    end = time.monotonic() + 60
    while (workspace.uploads(visitor) or workspace.runs(visitor)) and time.monotonic() < end:
        time.sleep(0.01)
    over.set()
    assert workspace.uploads(visitor) == [] == workspace.runs(visitor)
    assert "could not be pruned" in caplog.text
