"""The home folder in paths that people write, wherever they write them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metalora
from metalora.adapters.cores import Cores
from metalora.models.saving import check_folder
from metalora.runs.app_process import workspace_root
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, create_run, open_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.util.errors import InputError
from metalora.util.files import check_writable, read_tensors, write_tensors, write_text
from metalora.util.paths import expand, is_stray


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder; the working folder is another one, in which no "~" may appear."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir(), elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    yield home
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    ("written", "meant"),
    [("~", "HOME"), ("~/a", "HOME/a"), ("a/~", "a/~"), ("/~", "/~"), ("a", "a"), ("~nobody-of-that-name/a", None)],
)
def test_a_tilde_at_the_start_is_the_home_folder(home, written, meant):
    assert str(expand(written)) == (meant or written).replace("HOME", str(home))
    assert expand(Path(written)) == expand(written)


def test_a_person_without_a_home_is_told(monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(InputError, match="There is no home folder for ~/a: write the path out, or set HOME"):
        expand("~/a")
    assert expand("~name") == Path("~name")


def test_files_and_folders_of_the_library(home):
    write_text("~/a/text", "x")
    write_tensors("~/a/tensors", {"t": torch.ones(1)})
    assert read_tensors("~/a/tensors")[0]["t"] == 1 and (home / "a" / "text").read_text() == "x"
    check_writable("~/b")
    with pytest.raises(InputError, match="something else"):
        check_folder("~/a")
    Cores({"layer": torch.ones(2, 3)}).save("~/cores.safetensors")
    assert len(Cores.load("~/cores.safetensors")) == 2


def test_adapters_runs_and_checkpoints(home):
    model = metalora.load("resnet20/lora")
    model.save("~/mine")
    assert metalora.load("~/mine").config == model.config
    create_run("~/run", RunConfig()).record(RunState.NEW)
    assert open_run("~/run").path == home / "run"
    suite = metalora.load_suite("digits", image_size=8, max_queries=20, max_train_images=10)
    training = metalora.TrainingConfig(steps=1, batch_size=8, device="cpu", validate_every=0)
    small = metalora.adapt("resnet20", metalora.AdapterConfig("lora", rank=1, targets=("layer1.0",)))
    list(metalora.fit(small, suite, training, checkpoint="~/checkpoint"))
    assert {path.name for path in home.iterdir()} == {"mine", "run", "checkpoint"}


def test_images_and_suites(home):
    one, other = (RunConfig(suite=SuiteConfig(f"folder:{path}")) for path in ("~/images", home / "images"))
    assert one.identity == other.identity and one.suite.source == home / "images"


def test_the_workspace(home, monkeypatch):
    monkeypatch.setenv("METALORA_WORKSPACE", "~/app")
    assert workspace_root() == home / "app" == Workspace("~/app").root
    assert workspace_root("given") == Path.cwd() / "given"
    monkeypatch.setenv("METALORA_WORKSPACE", "")
    assert workspace_root() == Path.cwd() / "workspace"


@pytest.mark.parametrize(
    ("name", "stray"),
    [
        (".DS_Store", True),
        ("Thumbs.db", True),
        ("DESKTOP.INI", True),
        ("._1.png", True),
        ("1.png", False),
        ("db", False),
    ],
)
def test_strays(name, stray):
    assert is_stray(name) is stray


def test_a_folder_with_nothing_but_strays_is_empty(tmp_path):
    (tmp_path / ".DS_Store").touch()
    check_folder(tmp_path)
    assert create_run(tmp_path, RunConfig()).state == "new"


def test_a_process_without_a_home_keeps_no_decoded_images():
    code = "from metalora.suites.image_cache import _folder; print(_folder())"
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "METALORA_CACHE")}
    homeless = f"import pwd; pwd.getpwuid = lambda _: (_ for _ in ()).throw(KeyError()); {code}"
    done = subprocess.run([sys.executable, "-c", homeless], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
