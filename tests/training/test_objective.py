"""The objective: one head for all, factors named where they have names."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.models.mapping_net import factor_loss
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.training.objective import Objective
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

FACTORS = (2, 2, 3)  # of the digits: rotation, inversion, ink
QUICK = TrainingConfig(steps=4, batch_size=32, set_size=4, lr=1e-2, device="cpu")


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=100)


def small(method="metalora-tr", **settings):
    backbone = metalora.load_backbone("resnet20", image_size=8)
    return metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, factors=FACTORS, **settings))


def loss(model, digits, weight=1.0, teacher_forcing_ratio=0.0, identity_core_prob=0.0, set_size=4):
    objective = Objective(
        model,
        digits,
        weight=weight,
        teacher_forcing_ratio=teacher_forcing_ratio,
        identity_core_prob=identity_core_prob,
        seed=0,
    )
    batch = digits.batch(32, seeded_generator(0, 0), max(1, set_size))
    return objective, batch, objective(model, model, batch, FeatureCache(digits), 0, set_size)


def test_naming_counts_as_much_as_its_weight(digits):
    model = small()
    _, batch, (without, _) = loss(model, digits, weight=0.0)
    _, _, (half, _) = loss(model, digits, weight=0.5)
    naming = model.mapping.factor_loss(
        model.codes(batch.images), digits.factor_indices[batch.tasks], digits.combinations
    )
    torch.testing.assert_close(half - without, 0.5 * naming)


@pytest.mark.parametrize("teacher_forcing_ratio", [0.0, 1.0])
def test_told_sets_get_the_cores_of_their_true_factors(digits, teacher_forcing_ratio):
    model = small()
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.B.normal_(generator=seeded_generator(1))
    objective, batch, (total, right) = loss(model, digits, weight=0.0, teacher_forcing_ratio=teacher_forcing_ratio)
    own = model.mapping.pool(model.codes(batch.images), batch.groups)
    codes = model.mapping.factor_codes(digits.factor_indices[batch.tasks]) if teacher_forcing_ratio else own
    logits = objective.classes(model(batch.images, cores=model.cores(codes)))
    torch.testing.assert_close(total, F.cross_entropy(logits, objective.column[batch.labels]))
    assert right.item() == (logits.argmax(1) == objective.column[batch.labels]).float().mean().item()


def test_sets_are_told_or_not_as_a_whole(digits):
    model = small()
    objective, batch, _ = loss(model, digits, teacher_forcing_ratio=0.5)
    teacher_forcing_ratio = objective._drawn(objective.teacher_forcing_ratio, batch, 3)
    by_set = [teacher_forcing_ratio[batch.groups == number].unique().numel() for number in batch.groups.unique()]
    assert set(by_set) == {1}
    assert 0 < teacher_forcing_ratio.float().mean() < 1


def test_a_static_method_names_from_its_embedding(digits):
    model = small("lora")
    objective, batch, (total, _) = loss(model, digits, weight=2.0)
    z = model(batch.images)
    factor_indices = digits.factor_indices[batch.tasks]
    naming = factor_loss(objective.names(z), factor_indices, digits.combinations, FACTORS)
    classes = F.cross_entropy(objective.classes(z), objective.column[batch.labels])
    torch.testing.assert_close(total, classes + 2 * naming)


def test_a_reader_of_factors_learns_to_name_them(digits):
    model = small()
    images, factor_indices = digits.batch(256, seeded_generator(1, 0)), None
    factor_indices = digits.factor_indices[images.tasks]
    before = model.mapping.factor_loss(model.codes(images.images), factor_indices, digits.combinations).item()
    list(fit(model, digits, replace(QUICK, steps=60)))
    after = model.mapping.factor_loss(model.codes(images.images), factor_indices, digits.combinations).item()
    assert after < 0.5 * before


def test_the_oracle_gets_the_cores_of_the_true_factors(digits):
    model = small()
    list(fit(model, digits, QUICK))
    split = digits.splits["seen query"]
    found = embed(model, split, EmbedConfig(oracle=True, device="cpu"), factor_indices=digits.factor_indices)
    with torch.no_grad():
        wanted = model(
            split.images(), cores=model.cores(model.mapping.factor_codes(digits.factor_indices[split.tasks]))
        )
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_other_factors_than_the_suite_has_are_refused(digits):
    backbone = metalora.load_backbone("resnet20", image_size=8)
    model = metalora.adapt(backbone, metalora.AdapterConfig(rank=2, factors=(4, 6)))
    with pytest.raises(InputError, match=r"\(4, 6\).*\(2, 2, 3\)"):
        next(fit(model, digits, QUICK))


def test_a_code_that_has_learnt_to_name_goes_on_by_classes_alone_where_factors_have_no_names(digits):
    model = small()
    list(fit(model, digits, QUICK))
    nameless = replace(digits, factors=(), factor_indices=None)
    objective = Objective(model, nameless, weight=1e6, teacher_forcing_ratio=1.0, identity_core_prob=0.0, seed=0)
    batch = nameless.batch(8, seeded_generator(0), 4)
    loss, _ = objective(model, model, batch, FeatureCache(nameless), 0, 4)
    logits = objective.classes(model(batch.images, groups=batch.groups))
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.labels))
    assert next(fit(model, nameless, QUICK)).metrics["loss"] < 100


def free():
    """A model with a free code whose updates are not zero."""
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig(rank=2))
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.B.normal_(generator=seeded_generator(1))
    return model


def class_loss(objective, embeddings, batch):
    return F.cross_entropy(objective.classes(embeddings), objective.column[batch.labels])


@pytest.mark.parametrize("set_size", [1, 4])
def test_some_images_or_sets_of_a_free_code_get_the_neutral_core(digits, set_size):
    model = free()
    objective, batch, (total, _) = loss(model, digits, identity_core_prob=0.5, set_size=set_size)
    drawn = objective._drawn(0.5, batch, 0)
    assert 0 < drawn.float().mean() < 1
    constant = metalora.AdapterConfig(rank=2, core="constant")
    static = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), constant)
    static.trained.adapters.load_state_dict(model.trained.adapters.state_dict())
    own = model(batch.images, groups=batch.groups)
    embeddings = torch.where(drawn, static(batch.images), own)
    torch.testing.assert_close(total, class_loss(objective, embeddings, batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("set_size", [1, 4])
def test_without_a_share_of_neutral_cores_all_get_their_own(digits, set_size):
    model = free()
    objective, batch, (total, _) = loss(model, digits, identity_core_prob=0.0, set_size=set_size)
    own = model(batch.images, groups=batch.groups)
    torch.testing.assert_close(total, class_loss(objective, own, batch))


@pytest.mark.parametrize(("set_size", "share"), [(1, "identity_core_prob"), (4, "identity_core_prob_sets")])
def test_fit_gives_images_and_sets_the_neutral_core_as_often_as_each_are_told_to(digits, set_size, share):
    config = replace(QUICK, set_size=set_size, identity_core_prob=0.0, identity_core_prob_sets=0.0)
    none, same, other = (
        next(fit(free(), digits, replace(config, **shares))).metrics["loss"]
        for shares in ({}, {"identity_core_prob": 0.9, "identity_core_prob_sets": 0.9, share: 0.0}, {share: 0.9})
    )
    assert none == same and none != other


def test_in_a_step_of_size_0_all_images_get_the_identity_core_and_none_is_read(digits):
    model, cache = free(), FeatureCache(digits)
    objective, batch, (total, _) = loss(model, digits, set_size=0)
    model.mapping.hidden.weight.grad = None
    total.backward()
    assert model.mapping.hidden.weight.grad is None and cache.computed == 0
    identity = metalora.Cores({name: torch.eye(2)[None] for name in model.layers})
    embeddings = model(batch.images, cores=identity)
    torch.testing.assert_close(total, class_loss(objective, embeddings, batch), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["lora", "metalora-tr"])
def test_a_step_of_size_0_names_nothing_of_a_factor_code_and_changes_nothing_for_static_methods(digits, method):
    model = small(method)
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.B.normal_(generator=seeded_generator(1))
    objective, batch, (found, _) = loss(model, digits, set_size=0)
    if method == "lora":
        torch.testing.assert_close(found, loss(model, digits, set_size=1)[2][0])
    else:
        open_code = torch.cat([torch.full((1, count), 1 / count) for count in FACTORS], 1)
        embeddings = model(batch.images, cores=model.cores(open_code))
        torch.testing.assert_close(found, class_loss(objective, embeddings, batch))


def gaussian(**settings):
    """A model with Gaussian cores, whose updates and variances are not those of the start."""
    backbone = metalora.load_backbone("resnet20", image_size=8)
    model = metalora.adapt(backbone, metalora.AdapterConfig(rank=2, core_distribution="gaussian", **settings))
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.B.normal_(generator=seeded_generator(1))
        model.mapping.log_variance.weight.normal_(std=0.1, generator=seeded_generator(2))
    return model


@pytest.mark.parametrize("set_size", [1, 4])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_divergence_of_gaussian_cores_is_added_with_its_weight(digits, set_size, share):
    model = gaussian()
    totals = {}
    for weight in (0.0, 0.25):
        objective = Objective(
            model, digits, weight=0, teacher_forcing_ratio=0, identity_core_prob=share, kl_weight=weight, seed=0
        )
        batch = digits.batch(32, seeded_generator(0, 0), set_size)
        totals[weight], _ = objective(model, model, batch, FeatureCache(digits), 0, set_size)
    codes = model.codes(batch.images)
    pooled = model.mapping.pool(codes, batch.groups) if set_size > 1 else codes
    used = pooled.masked_fill(objective._drawn(share, batch, 0), 0)
    wanted = 0.25 * model.mapping.kl_divergence(used).mean()
    assert wanted > 0
    torch.testing.assert_close(totals[0.25] - totals[0.0], wanted, rtol=1e-4, atol=1e-5)


def test_the_divergence_of_gaussian_cores_stands_beside_factor_prediction(digits):
    model = gaussian(factors=FACTORS)
    _, batch, (without, _) = loss(model, digits)
    objective = Objective(model, digits, weight=1, teacher_forcing_ratio=0, identity_core_prob=0, kl_weight=0.5, seed=0)
    total, _ = objective(model, model, batch, FeatureCache(digits), 0, 4)
    used = model.mapping.pool(model.codes(batch.images), batch.groups)
    wanted = 0.5 * model.mapping.kl_divergence(used).mean()
    torch.testing.assert_close(total - without, wanted, rtol=1e-4, atol=1e-5)


def test_the_loss_has_a_gradient_to_the_variances_of_drawn_cores(digits):
    model = gaussian().train()
    for weight in (0.0, 1.0):  # by the draw alone, and by the divergence too
        objective = Objective(
            model, digits, weight=0, teacher_forcing_ratio=0, identity_core_prob=0.5, kl_weight=weight, seed=0
        )
        batch = digits.batch(16, seeded_generator(0, 0), 1)
        model.zero_grad()
        objective(model, model, batch, FeatureCache(digits), 0, 1)[0].backward()
        for parameter in model.mapping.log_variance.parameters():
            assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0


def test_trainings_with_gaussian_cores_are_the_same_for_the_same_seed(digits):
    def trained(seed, kl_weight=1e-4):
        torch.manual_seed(seed)
        model = gaussian()
        list(fit(model, digits, replace(QUICK, kl_weight=kl_weight)))
        return model.mapping.log_variance.bias

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))
    assert not torch.equal(trained(0), trained(0, kl_weight=0.1))


def test_codes_that_name_factors_are_told_and_never_neutral(digits):
    model = small()
    _, _, (with_share, _) = loss(model, digits, teacher_forcing_ratio=0.5, identity_core_prob=0.9)
    _, _, (without, _) = loss(model, digits, teacher_forcing_ratio=0.5)
    assert with_share.item() == without.item()


@pytest.mark.parametrize(
    "settings",
    [
        {"teacher_forcing_ratio": 1.5},
        {"factor_loss_weight": -1},
        {"kl_weight": -1e-3},
        {"identity_core_prob": 1.0},
        {"identity_core_prob_sets": -0.1},
        {"mapping_lr_scale": 0.0},
        {"mapping_lr_scale": None},
        {"max_grad_norm": 0},
        {"max_grad_norm": -1.0},
        {"teacher_forcing_ratio": "half"},
    ],
)
def test_values_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        TrainingConfig(**settings)
