"""Training an extractor along with the mapping net."""

from dataclasses import replace

import pytest
import torch
from stopping import stop_after

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.util.errors import InputError

QUICK = TrainingConfig(steps=5, batch_size=16, device="cpu", lr=1e-2)


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=40)


def small(extractor_rank=2, **settings):
    backbone = metalora.load_backbone("resnet20", image_size=8)
    return metalora.adapt(backbone, metalora.AdapterConfig(rank=2, extractor_rank=extractor_rank, **settings))


def state(model):
    return {name: tensor.clone() for name, tensor in model.trained.state_dict().items()}


@pytest.mark.parametrize("settings", [{}, {"set_size": 4, "identity_core_prob_sets": 0.0}])
def test_all_of_it_moves_at_the_rate_of_the_mapping_net_and_nothing_frozen_does(digits, settings):
    model = small()
    before, frozen = state(model), {name: value.clone() for name, value in model.frozen.state_dict().items()}
    events = list(fit(model, digits, replace(QUICK, mapping_lr_scale=0.5, **settings)))
    lrs = events[1].lrs
    assert lrs["extractor"] == lrs["mapping"] == 0.5 * lrs["adapters"]
    moved = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert {name for name, _ in model.trained.extractor.named_parameters(prefix="extractor")} <= moved
    assert all(torch.equal(value, frozen[name]) for name, value in model.frozen.state_dict().items())


def test_statistics_follow_the_features_and_keep_them_within_the_limit(digits, monkeypatch):
    config, images = replace(QUICK, steps=40, lr=3e-2), digits.batch(64, torch.Generator().manual_seed(0)).images
    means = []
    for every in (1000, 5):
        monkeypatch.setattr("metalora.training.fit.FOLLOW", every)
        list(fit(model := small(), digits, config))
        with torch.no_grad():
            means.append(model.mapping.scores(model.features(images)).mean(0).abs().mean())
    assert means[1] < 0.3 * means[0]


def test_resume_equals_no_stop(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.training.fit.FOLLOW", 2)
    unbroken, broken, resumed = (small() for _ in range(3))
    config = replace(QUICK, keep_best=True, validate_every=2)
    list(fit(unbroken, digits, config, checkpoint=tmp_path / "unbroken"))
    stop_after(fit(broken, digits, config, checkpoint=tmp_path / "broken"), 3)
    with pytest.raises(InputError, match="the checkpoint of a run with other settings"):
        list(fit(small(0), digits, config, checkpoint=tmp_path / "broken"))
    list(fit(resumed, digits, config, checkpoint=tmp_path / "broken"))
    torch.testing.assert_close(state(resumed), state(unbroken), rtol=0, atol=0)


def test_features_that_change_are_never_those_of_a_cache(digits):
    cache, alone, shared = FeatureCache(digits), small(), small()
    list(fit(small(0), digits, QUICK, features=cache))
    kept = cache.computed
    list(fit(shared, digits, QUICK, features=cache))
    list(fit(alone, digits, QUICK))
    assert cache.computed == kept
    torch.testing.assert_close(state(shared), state(alone), rtol=0, atol=0)
    queries, config = digits.splits["seen query"], EmbedConfig(device="cpu")
    assert torch.equal(embed(shared, queries, config, cache), embed(shared, queries, config))


def test_it_trains_in_half_precision(digits):
    events = list(fit(small(), digits, replace(QUICK, steps=2, precision="bfloat16")))
    assert all(torch.isfinite(torch.tensor(event.metrics["loss"])) for event in events)


@pytest.mark.slow
def test_a_compiled_network_trains_the_same(digits):
    losses = []
    for compile in (False, True):
        settings = {"identity_core_prob": 0.0, "compile": compile, "steps": 3}
        losses.append([event.metrics["loss"] for event in fit(small(), digits, replace(QUICK, **settings))])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
