"""~ in options, also after "=", where no shell expands it."""

import pytest
from calling import QUICK, SMALL, refused, run


@pytest.fixture
def home(tmp_path, monkeypatch, pictures):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir(), elsewhere.mkdir()
    (home / "pictures").symlink_to(pictures)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    yield home
    assert not list(elsewhere.iterdir())


def test_runs(home):
    run("train", "--run=~/run", *QUICK, "--targets", "layer1.0", "--json=~/run.json")
    assert "finished" in run("train", "~/run").output
    run("train", "~/on", "--start=~/run/adapter", *SMALL, "--steps", "1")
    assert "(mapping)" in run("info", "--adapter=~/run/adapter").output
    assert {path.name for path in home.iterdir()} == {"pictures", "run", "run.json", "on"}


def test_images_and_what_is_written_of_them(home):
    adapter = "--adapter=resnet20/metalora-tr"
    run("embed", "~/pictures", adapter, "--out=~/e.npz")
    run("embed", "~/pictures/dog/1.png", "~/pictures/cat/1.png", adapter, "--out=~/few.npz")
    run("inspect", "~/pictures/dog", adapter, "--out=~/i.npz", "--figure=~/i.html", "--json=~/i.json")
    run("fold", "~/pictures/dog", adapter, "--out=~/plain.safetensors")
    assert {path.name for path in home.iterdir()} == {
        *("pictures", "e.npz", "e.csv", "few.npz", "few.csv", "i.npz", "i.html", "i.json"),
        *("plain.safetensors", "plain.json"),
    }


def test_refusals_name_the_folder_that_is_meant(home):
    assert f"{home}/nothing" in refused("embed", "~/nothing", "--adapter=resnet20/lora", "--out=~/e.npz")
    assert f"{home}/nothing" in refused("info", "--adapter=~/nothing")
    assert f"{home}/none.zip" in refused("info", "--suite=folder:~/none.zip")
    assert f"{home}/pictures is a folder" in refused("info", "--json=~/pictures")
