"""Fitting a gate after training, on validation images."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import metalora
from metalora.adapters.cores import Cores
from metalora.evaluation.config import EmbedConfig
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit, validate
from metalora.training.gate import CANDIDATES, choose_gate, find_gate
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

QUICK = TrainingConfig(steps=3, batch_size=16, device="cpu", fit_gate=True)
STILL = replace(QUICK, lr=1e-9)  # nothing is learnt


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=100)


def small(method="metalora-tr", **settings):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return metalora.adapt(net, metalora.AdapterConfig(method, rank=2, **settings), example=torch.zeros(1, 3, 8, 8))


def harming():
    """A model whose static update does nothing, and whose cores are noise that hides the image."""
    model = small()
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.B.normal_(generator=seeded_generator(1), std=0.02)
        model.mapping.head.weight.normal_(generator=seeded_generator(2), std=30)
    return model


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ((0.5, 0.5, 0.5, 0.5, 0.5), 0.0),  # ties
        ((0.81, 0.82, 0.83, 0.84, 0.83), 0.0),  # within the standard error of 100 images, 0.037
        ((0.70, 0.79, 0.81, 0.84, 0.83), 0.5),
        ((0.10, 0.20, 0.40, 0.60, 0.90), 1.0),
        ((0.90, 0.60, 0.40, 0.20, 0.10), 0.0),
        ((0.0, 0.0, 0.0, 0.0, 0.0), 0.0),
        ((0.99, 0.995, 1.0, 1.0, 1.0), 0.5),  # all right: no error is left
    ],
)
def test_the_smallest_gate_within_one_standard_error_of_the_best_is_taken(accuracies, chosen):
    assert choose_gate(dict(zip(CANDIDATES, accuracies, strict=True)), 100) == chosen
    mapping, found, sizes = small().mapping, iter(accuracies), []
    trained = mapping.head.weight.detach().clone()
    assert find_gate(mapping, lambda: sizes.append(mapping.head.weight.norm()) or next(found), 100) == chosen
    assert torch.allclose(torch.stack(sizes) / trained.norm(), torch.tensor(CANDIDATES))
    assert torch.equal(mapping.head.weight, trained)  # left as it was


@pytest.mark.parametrize("gaussian", [False, True])
def test_scaled_offsets_lie_on_the_way_to_the_identity_core(gaussian):
    model = small(core_distribution="gaussian" if gaussian else "point").eval()
    model.prepare(torch.rand(2, 3, 8, 8, generator=seeded_generator(0)))
    codes = torch.randn(4, 16, generator=seeded_generator(1))

    def read() -> tuple[Cores, torch.Tensor | None]:
        return model.cores(codes), model.mapping.distribution(codes).stddev if gaussian else None

    (whole, std), _ = read(), model.mapping.scale_offsets(0.25)
    half, half_std = read()
    for name, format in model.mapping.formats.items():
        identity = format.identity_core().to(whole[name])
        assert torch.allclose(half[name] - identity, 0.25 * (whole[name] - identity), atol=1e-6)
    assert not gaussian or torch.allclose(half_std, 0.25 * std)
    model.mapping.scale_offsets(0)
    nothing, _ = read()
    for name, format in model.mapping.formats.items():
        assert torch.equal(nothing[name], format.identity_core().expand_as(nothing[name]))


def test_cores_that_harm_are_shut_out_and_cores_that_help_are_not(digits, monkeypatch):
    model, single = harming(), EmbedConfig(device="cpu")
    *_, last = fit(model, digits, STILL)
    assert last.metrics["gate"] == 0.0 == model.mapping.head.weight.norm() and last.step == 3
    assert validate(model, digits, single) > 0.2 + last.metrics["validation"]
    found = iter((0.1, 0.2, 0.3, 0.5, 0.7, 0.9))
    monkeypatch.setattr("metalora.training.fit.validate", lambda *_: next(found))
    assert list(fit(small(), digits, QUICK))[-1].metrics["gate"] == 1.0


def test_it_is_fitted_for_sets_of_the_size_that_is_trained_and_in_the_last_step_only(digits, monkeypatch):
    from metalora.training import fit as module

    asked, validate = [], module.validate
    monkeypatch.setattr(module, "validate", lambda *given: asked.append(given[2].set_size) or validate(*given))
    events = list(fit(small(), digits, replace(QUICK, set_size=4)))
    assert asked == [4] * (1 + len(CANDIDATES))  # the last step's validation comes first
    assert ["gate" in event.metrics for event in events] == [False, False, True]


@pytest.mark.parametrize("settings", [{"method": "lora"}, {"core": "constant"}, {"method": "moelora", "condition": 9}])
def test_methods_without_cores_of_images_have_none(digits, settings):
    *_, last = fit(small(**settings), digits, QUICK)
    assert "gate" not in last.metrics


@pytest.mark.parametrize("best", [2, 3])
def test_the_state_that_is_kept_gets_the_gate(digits, monkeypatch, best):
    found = iter([0.1, 0.1, *(0.9 if step == best else 0.2 for step in (1, 2, 3)), 0.1, 0.1, 0.9, 0.9, 0.9])
    monkeypatch.setattr("metalora.training.fit.validate", lambda *_: next(found))
    model, states = small(), {}
    for event in fit(model, digits, replace(QUICK, keep_best=True, validate_every=1)):
        states[event.step] = model.mapping.head.weight.clone()
    assert event.metrics["gate"] == 0.5 and event.metrics["best_step"] == best and next(found, None) is None
    assert torch.equal(model.mapping.head.weight, 0.5 * states[best])


@pytest.mark.parametrize("keep_best", [False, True])
def test_a_training_resumed_after_its_last_step_has_its_gate_once(digits, tmp_path, keep_best):
    config = replace(STILL, keep_best=keep_best)
    *_, last = fit(harming(), digits, config, checkpoint=tmp_path / "file")
    *_, again = fit(model := harming(), digits, config, checkpoint=tmp_path / "file")
    assert again.metrics["gate"] == last.metrics["gate"] == 0.0 == model.mapping.head.weight.norm()
    with pytest.raises(InputError, match="the checkpoint of a run with other settings"):
        next(fit(harming(), digits, replace(config, fit_gate=False), checkpoint=tmp_path / "file"))
