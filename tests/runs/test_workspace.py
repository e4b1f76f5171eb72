"""The app's folder: what is whose, what is kept, and that nothing from outside names a path."""

import io
import os
import time
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image

from metalora.experiments.results import bundled_results
from metalora.runs.addresses import coming_from
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import open_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.util.errors import InputError


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace", max_uploads=2, max_bytes=1000, max_runs=3)


@pytest.fixture
def received(tmp_path):
    """A file as the server received it."""
    (tmp_path / "received").write_bytes(b"x" * 400)
    return tmp_path / "received"


def uploaded(workspace, visitor, archive="my pictures.zip"):
    file = workspace.root.parent / "archive"
    with zipfile.ZipFile(file, "w") as target:
        picture = io.BytesIO()
        Image.new("RGB", (1, 1)).save(picture, "PNG")
        target.writestr("a/1.png", picture.getvalue())
    return workspace.add_upload(visitor, file, archive)


def names(workspace, visitor):
    """Name of each upload, by its id."""
    return {upload.id: upload.name for upload in workspace.uploads(visitor)}


def test_visitors_are_known_by_a_hash_only(workspace):
    one, other = workspace.new_visitor(), workspace.new_visitor()
    assert one != other and len(one) == 32
    workspace.prepare_run(one, RunConfig())
    assert not any(one in str(path) for path in workspace.root.rglob("*"))
    assert (workspace.root / "visitors").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("token", ["", "x" * 31, "../" * 10 + "ab", "x" * 32 + "\n", "é" * 32, None, ["x" * 32]])
def test_what_is_no_token_is_refused(workspace, token):
    with pytest.raises(InputError, match="reload it"):
        workspace.runs(token)


def test_runs_are_listed_newest_first_and_wait_to_be_started(workspace):
    visitor = workspace.new_visitor()
    ids = [workspace.prepare_run(visitor, RunConfig(ks=(k,))) for k in (1, 2, 3)]
    assert workspace.runs(visitor) == ids[::-1]
    run = open_run(workspace.run_folder(visitor, ids[0]))
    assert (run.state, run.config.ks) == ("new", (1,))
    with pytest.raises(InputError, match="3 runs, which is the maximum"):
        workspace.prepare_run(visitor, RunConfig())
    workspace.delete_run(visitor, ids[0])
    assert workspace.runs(visitor) == ids[:0:-1]
    assert [folder.name for folder in workspace.all_runs()] == ids[1:]


def test_a_visitor_sees_nothing_of_another(workspace, received):
    owner, other = workspace.new_visitor(), workspace.new_visitor()
    run, upload = workspace.prepare_run(owner, RunConfig()), workspace.add_upload(owner, received, "a.zip")
    assert workspace.runs(other) == [] and workspace.uploads(other) == []
    said = []
    for run_id in (run, "20260101-000000-000000-" + "0" * 16):
        for touch in (workspace.run_folder, workspace.delete_run):
            with pytest.raises(InputError) as error:
                touch(other, run_id)
            said.append(str(error.value))
    assert len(set(said)) == 1
    with pytest.raises(InputError, match="no such upload"):
        workspace.upload(other, upload)
    with pytest.raises(InputError, match="no such upload"):
        workspace.prepare_run(other, RunConfig(suite=SuiteConfig(f"upload:{upload}")))


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "/etc", "a/../../..", "x\0y", None, 3, "0" * 24 + "\n"])
def test_nothing_from_outside_names_a_path(workspace, name):
    visitor = workspace.new_visitor()
    workspace.prepare_run(visitor, RunConfig())
    for touch in (workspace.run_folder, workspace.delete_run, workspace.upload, workspace.delete_upload):
        with pytest.raises(InputError, match="There is no such"):
            touch(visitor, name)
    assert len(workspace.runs(visitor)) == 1


@pytest.mark.parametrize("suite", ["folder:/etc", "folder:.", "upload:../../x"])
def test_a_suite_is_no_path(workspace, suite):
    with pytest.raises(InputError, match="upload"):
        workspace.prepare_run(workspace.new_visitor(), RunConfig(suite=SuiteConfig(suite)))


def test_all_bundled_results_have_a_folder_for_their_tables(workspace):
    names = bundled_results()
    assert len({workspace.tables_folder(name.replace("/", "-")) for name in names}) == len(names) > 1


def test_comparisons_have_a_folder_for_each_visitor_and_suite(workspace):
    one, other = workspace.new_visitor(), workspace.new_visitor()
    folder = workspace.comparison_folder(one, "digits")
    assert folder.name == "digits" and workspace.folder(one) in folder.parents and not folder.exists()
    assert len({folder, workspace.comparison_folder(other, "digits"), workspace.comparison_folder(one, "cifar10")}) == 3
    assert workspace.tables_folder("digits-default").parent.parent == workspace.root
    for name in ("", ".", "..", "../runs", "a/b", "/etc", "digits\n", "folder:x", None, 3):
        for folder_of in (lambda name: workspace.comparison_folder(one, name), workspace.tables_folder):
            with pytest.raises(InputError, match="choose"):
                folder_of(name)
    (folder / "jobs").mkdir(parents=True)
    (folder / "jobs" / "a.json").touch()
    assert workspace.prune(timedelta(days=7)) == 0 and workspace.prune(timedelta(days=-1)) == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("my pictures.zip", "my_pictures.zip"),
        ("../../etc/passwd", "passwd"),
        ("C:\\me\\a.zip", "a.zip"),
        (".hidden", "hidden"),
        ("..", "upload"),
        ("", "upload"),
        ("Thumbs.db", "upload"),
        ("a" * 300 + ".zip", "a" * 56 + ".zip"),
    ],
)
def test_an_upload_keeps_what_is_harmless_of_its_name(workspace, received, name, kept):
    visitor = workspace.new_visitor()
    upload = workspace.add_upload(visitor, received, name)
    assert workspace.upload(visitor, upload).name == kept
    assert workspace.upload(visitor, upload).read_bytes() == received.read_bytes()
    assert names(workspace, visitor) == {upload: kept}


def test_uploads_beyond_the_limits_are_refused_until_one_is_deleted(workspace, received):
    visitor, other = workspace.new_visitor(), workspace.new_visitor()
    elsewhere = workspace.add_upload(other, received, "a")
    first, _ = (workspace.add_upload(visitor, received, name) for name in "ab")
    with pytest.raises(InputError, match="You have 2 uploads, which is the maximum: delete one first"):
        workspace.add_upload(visitor, received, "c")
    assert sorted(names(workspace, visitor).values()) == ["a", "b"]
    workspace.delete_upload(visitor, first)
    received.write_bytes(b"x" * 601)
    with pytest.raises(InputError, match=r"Your uploads take 0\.0 of 0 MB and this file 0\.0 MB: delete some first"):
        workspace.add_upload(visitor, received, "d")
    received.write_bytes(b"x" * 600)
    workspace.add_upload(visitor, received, "d")
    received.write_bytes(b"x" * 1001)
    with pytest.raises(InputError, match="larger than"):
        workspace.add_upload(visitor, received, "e")
    assert list(names(workspace, other)) == [elsewhere]  # limits are each visitor's own


def test_uploads_are_listed_by_their_last_use(workspace):
    visitor = workspace.new_visitor()
    one, other = uploaded(workspace, visitor, "one"), uploaded(workspace, visitor, "other")
    for age, upload in ((2e9, other), (1e9, one)):
        os.utime(workspace.upload(visitor, upload).parent, (age, age))
    assert [upload.name for upload in workspace.uploads(visitor)] == ["other", "one"]
    os.utime(workspace.upload(visitor, other).parent, (1e9, 1e9))
    workspace.prepare_run(visitor, RunConfig(suite=SuiteConfig(f"upload:{one}")))
    assert [upload.name for upload in workspace.uploads(visitor)] == ["one", "other"]


def test_an_upload_can_be_deleted(workspace, received):
    visitor = workspace.new_visitor()
    workspace.delete_upload(visitor, workspace.add_upload(visitor, received, "a"))
    assert workspace.uploads(visitor) == []


def test_a_full_disk_leaves_no_half_upload(workspace, received, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    visitor = workspace.new_visitor()
    monkeypatch.setattr("metalora.runs.uploads.shutil.copyfile", full)
    with pytest.raises(InputError, match="No space left"):
        workspace.add_upload(visitor, received, "a")
    assert workspace.uploads(visitor) == [] and not list((workspace.folder(visitor) / "uploads").iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_a_run_keeps_the_upload_that_it_needs(workspace, monkeypatch, links):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr("metalora.runs.workspace.os.link", refuse)
    visitor = workspace.new_visitor()
    upload = uploaded(workspace, visitor, "run.json")  # even under this name
    config = RunConfig(suite=SuiteConfig(f"upload:{upload}", image_size=8))
    seen = workspace.resolve(visitor, config)
    assert seen.suite.name == f"folder:{workspace.upload(visitor, upload)}"
    folder = workspace.run_folder(visitor, workspace.prepare_run(visitor, config))
    workspace.delete_upload(visitor, upload)
    suite = open_run(folder).config.suite
    assert suite == replace(config.suite, name=f"folder:{folder / 'upload' / 'run.json'}")
    assert zipfile.is_zipfile(folder / "upload" / "run.json")


def test_what_nobody_touched_is_pruned(workspace, received):
    visitor = workspace.new_visitor()
    over, waiting, fresh = (workspace.prepare_run(visitor, RunConfig()) for _ in range(3))
    open_run(workspace.run_folder(visitor, waiting)).enqueue()
    upload = workspace.add_upload(visitor, received, "a")
    for run in (over, waiting):
        folder = workspace.run_folder(visitor, run)
        for path in (folder / "run.json", folder):
            os.utime(path, (1e9, 1e9))
    assert workspace.prune(timedelta(days=7)) == 1
    assert workspace.runs(visitor) == [fresh, waiting] and upload in names(workspace, visitor)
    assert workspace.prune(timedelta(days=-1)) == 2
    assert workspace.runs(visitor) == [waiting] and workspace.uploads(visitor) == []


def test_a_run_goes_on_from_a_copy_of_ones_own_adapter(workspace):
    visitor, other = workspace.new_visitor(), workspace.new_visitor()
    first = workspace.prepare_run(visitor, RunConfig())
    named = RunConfig(start=f"run:{first}")
    with pytest.raises(InputError, match="no adapter yet"):
        workspace.prepare_run(visitor, named)
    saved = workspace.run_folder(visitor, first) / "adapter"
    saved.mkdir()
    (saved / "adapter.safetensors").write_bytes(b"weights")
    assert workspace.resolve(visitor, named).start == str(saved)
    second = workspace.prepare_run(visitor, named)
    workspace.delete_run(visitor, first)
    start = Path(open_run(workspace.run_folder(visitor, second)).config.start)
    assert start.is_relative_to(workspace.run_folder(visitor, second))
    assert (start / "adapter.safetensors").read_bytes() == b"weights"
    for name, said in (
        (f"run:{second}", "no such run of yours"),
        ("run:../x", "no such run"),
        ("/etc", "Unknown adapter"),
    ):
        with pytest.raises(InputError, match=said):
            workspace.prepare_run(other, RunConfig(start=name))


def test_a_run_goes_on_from_a_bundled_adapter_by_name(workspace):
    visitor = workspace.new_visitor()
    run = workspace.prepare_run(visitor, RunConfig(start="resnet20/lora"))
    assert open_run(workspace.run_folder(visitor, run)).config.start == "resnet20/lora"


def test_more_than_a_server_has_is_refused(workspace):
    visitor = workspace.new_visitor()
    config = RunConfig(training=replace(RunConfig().training, steps=10_000_000))
    for ask in (workspace.prepare_run, workspace.resolve):
        with pytest.raises(InputError, match="steps is 10,000,000"):
            ask(visitor, config)
    assert not workspace.runs(visitor)


def test_a_run_is_named_by_its_owner_whatever_its_state(workspace):
    owner, other = workspace.new_visitor(), workspace.new_visitor()
    run = workspace.prepare_run(owner, RunConfig())
    opened = open_run(workspace.run_folder(owner, run))
    workspace.rename_run(owner, run, "  my\n <b>first</b>\trun ")
    assert open_run(opened.path).name == "my <b>first</b> run"
    opened.enqueue()  # the name is no setting: the run starts all the same
    workspace.rename_run(owner, run, "x" * 60)
    with pytest.raises(InputError, match="has 61 characters: use 60 at most"):
        workspace.rename_run(owner, run, "x" * 61)
    with pytest.raises(InputError, match="no such run of yours"):
        workspace.rename_run(other, run, "mine")
    assert open_run(opened.path).name == "x" * 60
    workspace.rename_run(owner, run, "")
    assert open_run(opened.path).name == ""


def test_the_disk_of_an_app_is_bounded_in_all_and_for_each_address(tmp_path, received):
    workspace = Workspace(tmp_path / "small", max_disk=3600)
    received.write_bytes(b"x" * 600)
    with coming_from("6.6.6.6"):
        workspace.add_upload(workspace.new_visitor(), received, "a.zip")
        with pytest.raises(InputError, match=r"What you have here takes .* which is the maximum"):
            workspace.add_upload(workspace.new_visitor(), received, "a.zip")  # a new visitor of the same address
    for address in range(4):
        with coming_from(f"1.2.3.{address}"):
            workspace.add_upload(workspace.new_visitor(), received, "a.zip")
    with coming_from("5.5.5.5"), pytest.raises(InputError, match="The disk of this app is full"):
        workspace.add_upload(workspace.new_visitor(), received, "a.zip")
    assert "6.6.6.6" not in "".join(path.read_text() for path in (tmp_path / "small/visitors").glob("*/address"))


def test_a_full_disk_is_cleaned_of_younger_things(tmp_path, received):
    received.write_bytes(b"x" * 900)
    workspace, visitor = Workspace(tmp_path / "small", max_disk=10_000), "v" * 32
    old, new = (workspace.add_upload(visitor, received, "a.zip") for _ in range(2))
    two_days_ago = time.time() - 2 * 86400
    for path in (file := workspace.upload(visitor, old), file.parent):
        os.utime(path, (two_days_ago, two_days_ago))
    assert workspace.prune(timedelta(days=30)) == 0
    workspace.max_disk = 2000
    assert workspace.prune(timedelta(days=30)) == 1
    assert [upload.id for upload in workspace.uploads(visitor)] == [new]
