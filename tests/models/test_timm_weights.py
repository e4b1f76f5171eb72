"""Weights of timm's backbones, fetched from a small hub of our own."""

from functools import partial

import pytest
import timm
import torch
from huggingface_hub import hf_hub_download, scan_cache_dir
from safetensors.torch import save_file
from small_hub import CONTENT, small_hub

from metalora.models import timm_weights
from metalora.models.backbones import load_backbone
from metalora.models.timm_weights import cached_backbones, cached_weights, fetch_weights, weights_size
from metalora.util.errors import InputError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    monkeypatch.setattr(timm_weights, "scan_cache_dir", partial(scan_cache_dir, cache))
    monkeypatch.setattr(timm_weights, "PACKAGES", {})
    with small_hub() as address:
        fetch = partial(hf_hub_download, endpoint=address, cache_dir=cache)
        monkeypatch.setattr(timm_weights, "hf_hub_download", fetch)
        yield


def test_weights_are_sized_fetched_and_listed(hub):
    assert cached_backbones() == ()
    assert weights_size("resnet18.a1_in1k") == len(CONTENT)
    assert cached_backbones() == ()  # asking fetches nothing
    steps = list(fetch_weights("resnet18.a1_in1k"))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert all(0 <= done <= total == len(CONTENT) for done, total in steps)
    assert cached_backbones() == ("resnet18.a1_in1k",)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet34.a1_in1k", "not on the hub as safetensors"),
        ("resnet999", "no trained weights"),
        ("../resnet18", "no trained weights"),
    ],
)
def test_what_cannot_be_fetched_is_said(hub, name, words):
    with pytest.raises(InputError, match=words):
        list(fetch_weights(name))


def test_what_torch_pickled_is_never_taken(monkeypatch):
    def cached(repository, file):
        return f"/cache/{file}" if file.endswith(".bin") else None

    monkeypatch.setattr(timm_weights, "try_to_load_from_cache", cached)
    assert cached_weights("resnet18.a1_in1k") is None
    with pytest.raises(InputError, match="not on this machine"):
        load_backbone("resnet18.a1_in1k")


def test_weights_on_this_machine_are_read_without_asking_the_hub(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = timm.create_model("resnet18")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(timm_weights, "try_to_load_from_cache", lambda repository, file: str(tmp_path / file))
    monkeypatch.setattr("socket.getaddrinfo", None)  # of any connection
    monkeypatch.setattr("torch.load", None)
    loaded = load_backbone("resnet18.a1_in1k").net.state_dict()
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in loaded.items())


def test_a_hub_that_does_not_answer_is_said(monkeypatch):
    def refuse(*words, **settings):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm_weights, "hf_hub_download", refuse)
    with pytest.raises(InputError, match="check the connection"):
        weights_size("resnet18.a1_in1k")
