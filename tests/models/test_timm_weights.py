"""Weights of timm's backbones, fetched from a small hub of our own."""

from functools import partial

import pytest
from huggingface_hub import hf_hub_download, scan_cache_dir
from small_hub import CONTENT, small_hub

from metalora.models import timm_weights
from metalora.models.timm_weights import cached_backbones, fetch_weights, weights_size
from metalora.util.errors import InputError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    cache = tmp_path / "hub"
    monkeypatch.setattr(timm_weights, "scan_cache_dir", partial(scan_cache_dir, cache))
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
    [("resnet18", "could not be fetched"), ("resnet999", "no trained weights"), ("../resnet18", "no trained weights")],
)
def test_what_cannot_be_fetched_is_said(hub, name, words):
    name = "resnet34.a1_in1k" if words.startswith("could") else name
    with pytest.raises(InputError, match=words):
        list(fetch_weights(name))


def test_a_hub_that_does_not_answer_is_said(monkeypatch):
    def refuse(*words, **settings):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm_weights, "hf_hub_download", refuse)
    with pytest.raises(InputError, match="check the connection"):
        weights_size("resnet18.a1_in1k")
