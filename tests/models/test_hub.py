"""Pushing and fetching adapters, with a folder in place of the Hub."""

import shutil

import pytest
import torch
from torch import nn

import metalora
from metalora.models import hub
from metalora.util.errors import InputError


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that takes what is pushed, and gives it back."""

    class Api:
        def __init__(self, **settings):
            pass

        def create_repo(self, repo, **settings):
            (tmp_path / repo).mkdir(parents=True, exist_ok=settings["exist_ok"])

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)
            return f"https://huggingface.co/{repo_id}/commit/1"

    def fetch(repo, *, allow_patterns, **settings):
        if not (tmp_path / repo).is_dir():
            raise OSError("There is no such repository.\nMore of the same.")
        fetched = tmp_path / "fetched"
        fetched.mkdir()
        for name in allow_patterns:
            shutil.copy(tmp_path / repo / name, fetched)
        return str(fetched)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    return tmp_path


def test_what_is_pushed_is_fetched_again(shelf):
    model = metalora.load("resnet20/metalora-tr")
    address = metalora.push_to_hub(model, "me/mine")
    assert str(address).endswith("me/mine/commit/1")
    found = metalora.load_from_hub("me/mine")
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(found(images), model(images))


def test_the_card_says_what_it_is_and_how_it_is_loaded(shelf):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = metalora.adapt(net, metalora.AdapterConfig("metalora-cp", rank=2), example=torch.rand(1, 3, 8, 8))
    metalora.push_to_hub(model, "me/own", private=True)
    card = (shelf / "me/own/README.md").read_text()
    assert card.startswith("---\n") and "library_name: metalora" in card and "- metalora-cp" in card
    assert 'metalora.load_from_hub("me/own", backbone=network)' in card
    assert "| rank | 2 |" in card and "Meta-LoRA CP for Sequential" in card
    with pytest.raises(InputError, match="adapts a module of yours: pass it"):
        metalora.load_from_hub("me/own")


def test_a_refusal_of_the_hub_is_one_sentence(shelf):
    with pytest.raises(InputError, match=r"^me/none cannot be fetched \(There is no such repository\): check name"):
        metalora.load_from_hub("me/none")
