"""Distillation from a set's core to its images' own, against a computation image by image."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import metalora
from metalora.evaluation.feature_cache import FeatureCache
from metalora.training.config import TrainingConfig
from metalora.training.distillation import distillation_loss
from metalora.training.fit import fit
from metalora.training.objective import Objective
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

QUICK = TrainingConfig(steps=4, batch_size=16, set_size=4, lr=1e-2, device="cpu", distillation_weight=0.5)


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=40)


def made(**settings):
    """A model whose updates are not zero."""
    config = metalora.AdapterConfig(**{"rank": 2, "head_init_std": 0.5, **settings})
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), config)
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.B.normal_(generator=seeded_generator(1), std=0.3)
    return model


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=seeded_generator(seed), dtype=torch.float64)


def by_hand(own, taught, logits, taught_logits):
    """The distance image by image, with plain sums."""
    total = 0.0
    for z, t, a, b in zip(own, taught, logits, taught_logits, strict=True):
        p, q = ([math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in (b.tolist(), a.tolist()))
        total += sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
        total += 1 - float(z @ t) / math.sqrt(float(z @ z) * float(t @ t))
    return total / len(own)


def test_the_distance_is_that_of_the_formula_and_the_teacher_gets_no_gradient():
    parts = [numbers(5, width, seed=i).requires_grad_() for i, width in enumerate((7, 7, 3, 3))]
    found = distillation_loss(*parts)
    assert found.item() == pytest.approx(by_hand(*(part.detach() for part in parts)), rel=1e-12)
    found.backward()
    assert [part.grad is not None for part in parts] == [True, False, True, False]
    assert distillation_loss(parts[1], parts[1], parts[3], parts[3]).item() == pytest.approx(0, abs=1e-12)
    halved = [part.detach().to(torch.bfloat16) for part in parts]
    with torch.autocast("cpu", torch.bfloat16):
        half = distillation_loss(*halved)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(
        by_hand(*(h.double() for h in halved)), rel=1e-5
    )


def loss(model, digits, weight, set_size=4, share=0.0, loss=None):
    rates = {"teacher_forcing_ratio": 0.0, "identity_core_prob": share, "distillation_weight": weight}
    objective = Objective(model, digits, weight=1.0, seed=0, loss=loss, **rates)
    batch = digits.batch(16, seeded_generator(0, 0), max(1, set_size))
    return objective, batch, objective(model, model, batch, FeatureCache(digits), 0, set_size)


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("settings", [{}, {"method": "metalora-cp"}])
def test_images_with_their_own_cores_are_trained_beside_their_sets(digits, share, settings):
    model = made(**settings)
    objective, batch, (total, accuracy) = loss(model, digits, 0.7, share=share)
    neutral = objective._drawn(share, batch, 0)
    assert share == 0 or 0 < neutral.float().mean() < 1
    codes = model.codes(batch.images)
    taught, own = (
        model(batch.images, cores=model.cores(code.masked_fill(neutral, 0)))
        for code in (model.mapping.pool(codes, batch.groups), codes)
    )
    logits = [objective.classes(embeddings) for embeddings in (own, taught)]
    labels = objective.column[batch.labels]
    own, taught = own.detach(), taught.detach()
    wanted = sum(F.cross_entropy(one, labels) for one in logits) + 0.7 * by_hand(own, taught, *logits)
    torch.testing.assert_close(total, wanted.to(total), rtol=1e-4, atol=1e-5)
    assert accuracy == (logits[1].argmax(1) == labels).float().mean()
    assert not torch.allclose(total, loss(model, digits, 0.0, share=share)[2][0])


@pytest.mark.parametrize(
    ("settings", "set_size"),
    [({}, 1), ({}, 0), ({"method": "lora"}, 4), ({"factors": (2, 2, 3)}, 4), ({"core": "constant"}, 4)],
)
def test_single_images_factor_codes_and_static_methods_are_trained_as_before(digits, settings, set_size):
    model = made(**settings)
    found, wanted = (loss(model, digits, weight, set_size)[2][0] for weight in (0.7, 0.0))
    assert torch.equal(found, wanted)


def test_gaussian_cores_of_both_passes_have_their_divergence(digits):
    model = made(core_distribution="gaussian")
    objective = Objective(
        model,
        digits,
        weight=0.0,
        teacher_forcing_ratio=0.0,
        identity_core_prob=0.0,
        kl_weight=2.0,
        distillation_weight=1e-9,
        seed=0,
    )
    batch = digits.batch(16, seeded_generator(0, 0), 4)
    total, _ = objective(model, model, batch, FeatureCache(digits), 0, 4)
    objective.kl_weight = 0.0
    without, _ = objective(model, model, batch, FeatureCache(digits), 0, 4)
    codes = model.codes(batch.images)
    both = [model.mapping.kl_divergence(c).mean() for c in (codes, model.mapping.pool(codes, batch.groups))]
    torch.testing.assert_close(total - without, 2 * sum(both), rtol=1e-4, atol=1e-4)


def test_it_needs_the_head_that_a_loss_takes_the_place_of(digits):
    with pytest.raises(InputError, match="your loss takes the place of that head: set it to 0"):
        next(fit(made(), digits, QUICK, loss=lambda embeddings, batch: embeddings.square().mean()))
    with pytest.raises(InputError, match="distillation_weight is -1: use a weight of 0 or more"):
        TrainingConfig(distillation_weight=-1)


def test_own_cores_come_closer_to_their_sets(digits):
    distances = {}
    for weight in (0.0, 5.0):
        model = made(head_init_std=0.3)
        list(fit(model, digits, replace(QUICK, steps=30, distillation_weight=weight, identity_core_prob_sets=0.0)))
        batch = digits.batch(64, seeded_generator(1, 0), 8)
        with torch.no_grad():
            own, taught = model(batch.images), model(batch.images, groups=batch.groups)
        distances[weight] = 1 - F.cosine_similarity(own, taught).mean().item()
    assert distances[5.0] < distances[0.0]


def test_a_checkpoint_with_another_weight_is_refused(digits, tmp_path):
    list(fit(made(), digits, QUICK, checkpoint=tmp_path / "file"))
    for weight in (0.0, 0.1):
        with pytest.raises(InputError, match="the checkpoint of a run with other settings"):
            next(fit(made(), digits, replace(QUICK, distillation_weight=weight), checkpoint=tmp_path / "file"))
    assert next(fit(made(), digits, QUICK, checkpoint=tmp_path / "file")).step == 4
