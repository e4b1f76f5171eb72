"""What an app sets for its process, and that it starts for a person who has no home folder."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from metalora.runs import app_process
from metalora.runs.app_process import CACHES, TEMPORARY, may_download, set_filters, set_folders
from metalora.util.errors import InputError, LayersLeftOut

ROOT = Path(__file__).parents[2]
# Starts the app but for its server, then does what compiles most.
START = """
import json, os, sys
import pages.app
from pages import main

def launch(root, waiting, **settings):
    import gradio, numba, warnings
    from gradio.utils import get_upload_folder
    from metalora.inspection.projection import warm_up
    pages.app.build(pages.app.AppState(root))
    warm_up()
    if waiting is not None:
        waiting.close()
    print(json.dumps([get_upload_folder(), numba.config.CACHE_DIR]))

pages.app.launch = launch
main()
"""
HOMELESS = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Variables as a person leaves them, who sets none; what a test sets is taken back."""
    for variable in (TEMPORARY, *CACHES):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr(app_process, "_held", [])


def python(*arguments, **environment):
    """What a process without a home folder prints, which may warn of nothing."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=HOMELESS | environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def test_folders_lie_below_the_workspace_unless_a_person_says_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    set_folders(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == "/mine"
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "matplotlib")
    folder = Path(os.environ[TEMPORARY])
    assert folder.parent == tmp_path / "temporary" and folder.is_dir()
    assert folder.parent.stat().st_mode & 0o077 == 0
    set_folders(tmp_path / "other")
    assert os.environ[TEMPORARY] == str(folder) and not (tmp_path / "other").exists()


def test_temporary_files_of_apps_that_have_ended_are_deleted(tmp_path, monkeypatch):
    python("-c", f"from metalora.runs import app_process; app_process.set_folders(app_process.Path({str(tmp_path)!r}))")
    (ended,) = (path for path in (tmp_path / "temporary").iterdir() if path.is_dir())
    (ended / "picture.png").touch()
    (tmp_path / "temporary" / ".DS_Store").touch()
    set_folders(tmp_path)
    first = Path(os.environ[TEMPORARY])
    assert not ended.exists() and first.is_dir()
    monkeypatch.delenv(TEMPORARY)
    set_folders(tmp_path)
    assert first.is_dir() and os.environ[TEMPORARY] != str(first)


def test_a_workspace_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="name another folder in METALORA_WORKSPACE"):
        set_folders(tmp_path / "file")


def test_filters_concern_layers_left_out_and_other_libraries_only():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        set_filters()
        warnings.warn("left out", LayersLeftOut, stacklevel=1)
        warnings.warn_explicit("umap", UserWarning, "file", 1, module="umap.umap_")
        warnings.warn_explicit("pillow", UserWarning, "file", 1, module="PIL.Image")
        warnings.warn("ours", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["ours"]


def test_the_app_needs_no_home_folder(tmp_path):
    said = python("-c", START, METALORA_WORKSPACE=str(tmp_path / "workspace"), SPACES_ZERO_GPU="")
    uploads, numba = json.loads(said.splitlines()[-1])
    assert Path(uploads).parent == tmp_path / "workspace" / "temporary"
    assert numba == str(tmp_path / "workspace" / "numba") and list(Path(numba).iterdir())


@pytest.mark.slow
def test_the_command_line_needs_no_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--backbone" in python("-m", "metalora", "compare", "--help")
    images = str(ROOT / "assets" / "examples")
    python("-m", "metalora", "embed", images, "--adapter", "resnet20/metalora-tr", "--out", "out.npz")
    small = ["--image-size", "8", "--max-queries", "40", "--batch-size", "16", "--device", "cpu", "--rank", "2"]
    assert "The adapter is run/adapter" in python("-m", "metalora", "train", "--run=run", *small, "--steps", "1")
    assert {path.name for path in tmp_path.iterdir()} == {"out.npz", "out.csv", "run"}


@pytest.mark.slow
def test_umap_needs_no_home_folder(tmp_path):
    code = "from metalora.inspection.projection import warm_up; warm_up(); import numba; print(numba.config.CACHE_DIR)"
    folder = python("-c", code, TMPDIR=str(tmp_path)).strip()
    assert Path(folder).parent == tmp_path and not Path(folder).exists()


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({}, True),
        ({"METALORA_DOWNLOAD": "0"}, False),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ({"GRADIO_SERVER_NAME": "0.0.0.0", "METALORA_DOWNLOAD": "1"}, True),
        ({"SPACE_ID": "someone/metalora"}, False),
    ],
)
def test_weights_are_fetched_for_the_owner_of_the_machine_only(monkeypatch, environment, allowed):
    for variable in ("METALORA_DOWNLOAD", "GRADIO_SERVER_NAME", "SPACE_ID"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert may_download() == allowed


# Eight threads that hold memory at the same time; glibc then lists the places that it comes from.
PLACES = """
import ctypes, sys, threading
from metalora.runs.app_process import share_memory
if sys.argv[1] == "shared":
    share_memory()
barrier = threading.Barrier(8)
def hold():
    kept = [bytearray(5000) for _ in range(100)]
    barrier.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_threads_share_the_places_that_memory_comes_from():
    def places(way, **variables):
        command, environment = (sys.executable, "-c", PLACES, way), {**HOMELESS, **variables}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.count("<heap nr=")

    assert places("shared") == 2 < places("own")
    assert places("shared", MALLOC_ARENA_MAX="5") == 5  # what a person has set stays
