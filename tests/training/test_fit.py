"""Training adapted models, with a positive and a negative control of generation."""

from dataclasses import replace

import pytest
import torch
from stopping import stop_after
from torch import Tensor, nn

import metalora
from metalora.evaluation.accuracy import accuracy, predict
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import draw_sets, embed, standardise_sets
from metalora.evaluation.feature_cache import FeatureCache
from metalora.suites.suite import Suite
from metalora.suites.transforms import Identity
from metalora.training.config import TrainingConfig
from metalora.training.fit import Trainer, fit, validate
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

QUICK = TrainingConfig(steps=6, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def digits() -> Suite:
    return metalora.load_suite("digits", image_size=8, max_queries=200)


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())


def small(method="metalora-tr", **settings) -> metalora.AdaptedModel:
    return metalora.adapt(small_net(), metalora.AdapterConfig(method, rank=2, **settings))


@pytest.mark.parametrize("method", ["lora", "multi-lora", "metalora-cp", "metalora-tr"])
def test_every_method_learns_and_leaves_the_backbone_alone(digits, method):
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), metalora.AdapterConfig(method, rank=2))
    frozen = {name: value.clone() for name, value in model.frozen.state_dict().items()}
    events = list(fit(model, digits, replace(QUICK, steps=50, lr=1e-2)))
    losses = [event.metrics["loss"] for event in events]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert 0.1 < events[-1].metrics["validation"] <= 1
    assert set(events[0].lrs) == {"adapters", "head"} | ({"mapping"} if method.startswith("meta") else set())
    for name, value in model.frozen.state_dict().items():
        assert torch.equal(value, frozen[name])


def rates_of(digits, settings, **adapter):
    """Every group's rate after a step, as a share of the adapters'."""
    event = next(fit(small(**adapter), digits, replace(QUICK, **settings)))
    return {name: lr / event.lrs["adapters"] for name, lr in event.lrs.items()}


def test_the_mapping_nets_rate_is_that_of_a_mapping_net_alone(digits):
    given = {"mapping_lr_scale": 0.5}
    common = {"head": 1.0, "adapters": 1.0}
    assert rates_of(digits, given) == pytest.approx(common | {"mapping": 0.5})
    assert rates_of(digits, given, core="constant") == pytest.approx(common | {"core": 1.0})


def test_a_run_that_validates_begins_with_a_validation_before_its_first_step(digits):
    model = small()
    first, *rest = fit(model, digits, replace(QUICK, validate_every=3))
    with model.disabled():
        expected = validate(model, digits, EmbedConfig(device="cpu"))
    assert (first.step, first.seconds_left) == (0, None) and first.metrics["original"] == expected
    assert first.metrics["validation"] == validate(small(), digits, EmbedConfig(device="cpu"))
    assert [event.step for event in rest] == list(range(1, QUICK.steps + 1))
    assert not any("original" in event.metrics for event in rest)
    assert next(fit(small(), digits, QUICK)).step == 1


def test_what_was_trained_goes_on_with_its_own_statistics_and_level(digits):
    model, config = small(), replace(QUICK, validate_every=3)
    list(fit(model, digits, replace(config, steps=20, lr=3e-2)))
    mean = model.mapping.feature_mean.clone()
    other = metalora.load_suite("digits", image_size=8, seed=1, max_queries=200)
    with model.disabled():
        original = validate(model, other, EmbedConfig(device="cpu"))
    assert original != validate(model, other, EmbedConfig(device="cpu"))
    assert next(fit(model, other, config)).metrics["original"] == original
    assert torch.equal(model.mapping.feature_mean, mean)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits):
    runs = []
    for seed in (0, 0, 1):
        model = small(seed=seed)
        list(fit(model, digits, replace(QUICK, seed=seed)))
        runs.append(torch.cat([p.flatten() for p in model.trained.parameters()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_resume_equals_no_stop(digits, tmp_path):
    unbroken, broken, resumed = (small(dropout=0.2) for _ in range(3))
    torch.manual_seed(5)
    list(fit(unbroken, digits, QUICK, checkpoint=str(tmp_path / "unbroken")))
    torch.manual_seed(5)
    stop_after(fit(broken, digits, QUICK, checkpoint=tmp_path / "broken"), 3)
    list(fit(resumed, digits, QUICK, checkpoint=tmp_path / "broken"))
    for name, value in unbroken.trained.state_dict().items():
        assert torch.equal(value, resumed.trained.state_dict()[name]), name


KEEP = replace(QUICK, keep_best=True, validate_every=2)


def scripted(monkeypatch, *accuracies):
    """Let validations find these accuracies, the first two of them before the first step."""
    found = iter(accuracies)
    monkeypatch.setattr("metalora.training.fit.validate", lambda *_: next(found))


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.1, 0.4, 0.3), 4), ((0.1, 0.4, 0.4), 4), ((0.1, 0.05, 0.1), 0), ((0.1, 0.1, 0.12), 0)]
)
def test_the_state_of_the_best_validation_is_kept(digits, monkeypatch, accuracies, best):
    scripted(monkeypatch, 0.1, 0.1, *accuracies)
    model, states = small(), {}
    model.prepare(torch.rand(2, 3, 8, 8))
    events = fit(model, digits, KEEP)
    for event in events:
        states[event.step] = {name: tensor.clone() for name, tensor in model.trained.state_dict().items()}
    assert event.metrics["best_step"] == best
    kept = model.trained.state_dict()
    if best:
        assert all(torch.equal(kept[name], tensor) for name, tensor in states[best].items())
    else:
        images = torch.rand(4, 3, 8, 8)
        with model.disabled():
            original = model(images)
        torch.testing.assert_close(model(images), original)


def test_a_training_that_harms_ends_where_it_began(digits):
    model = small("lora")
    list(fit(model, digits, replace(KEEP, steps=4, lr=0.9, max_grad_norm=1e3)))
    start = validate(small("original"), digits, KEEP.embed_config)
    assert validate(model, digits, KEEP.embed_config) >= start - 1e-9


def test_the_best_state_survives_a_stop(digits, monkeypatch, tmp_path):
    scripted(monkeypatch, 0.1, 0.1, 0.4, 0.3, 0.2)
    whole, broken, resumed = small(), small(), small()
    list(fit(whole, digits, KEEP))
    scripted(monkeypatch, 0.1, 0.1, 0.4, 0.3, 0.2)
    stop_after(fit(broken, digits, KEEP, checkpoint=tmp_path / "state"), 3)
    list(fit(resumed, digits, KEEP, checkpoint=tmp_path / "state"))
    for name, value in whole.trained.state_dict().items():
        assert torch.equal(value, resumed.trained.state_dict()[name]), name


def test_a_checkpoint_of_other_images_or_labels_is_refused(digits, tmp_path):
    list(fit(small(), digits, QUICK, checkpoint=tmp_path / "state"))
    pixels = digits.source_images.clone()
    pixels[0, 0, 0, 0] += 1
    for other in (replace(digits, source_images=pixels), replace(digits, annotations="of others")):
        with pytest.raises(InputError, match=r"images of digits, or their labels, have changed"):
            list(fit(small(), other, QUICK, checkpoint=tmp_path / "state"))


def test_a_checkpoint_of_other_settings_is_refused(digits, tmp_path):
    list(fit(small(), digits, QUICK, checkpoint=tmp_path / "state"))
    with pytest.raises(InputError, match="other settings"):
        list(fit(small(), digits, replace(QUICK, lr=1e-2), checkpoint=tmp_path / "state"))


def test_a_checkpoint_is_resumed_with_other_settings_that_have_no_effect(digits, tmp_path):
    events = fit(small(), digits, QUICK, checkpoint=tmp_path / "state")
    next(events), events.close()
    other = replace(QUICK, device="auto", validate_every=100, teacher_forcing_ratio=0.1)
    assert next(fit(small(), digits, other, checkpoint=tmp_path / "state")).step == 2


def test_training_in_sets_gives_every_set_one_core(digits, monkeypatch):
    model, seen = small(), []
    forward = type(model).forward

    def spy(self, images, *, cores=None, groups=None, features=None):
        if groups is not None:
            seen.append(self.generate(images, groups=groups).flatten())
        return forward(self, images, cores=cores, groups=groups, features=features)

    monkeypatch.setattr(type(model), "forward", spy)
    list(fit(model, digits, replace(QUICK, steps=2, set_size=8, identity_core_prob_sets=0.0)))
    assert len(seen) == 2
    assert all(len(cores.unique(dim=0)) == 32 // 8 for cores in seen)


def trainer(digits, **settings):
    return Trainer(small(), digits, replace(QUICK, **settings), FeatureCache(digits), True)


def test_every_step_draws_one_of_several_sizes_of_sets_by_its_seed(digits):
    one, same, other = (trainer(digits, set_size=(0, 1, 8, 8), seed=seed) for seed in (0, 0, 1))
    sizes = [one._set_size(i) for i in range(400)]
    assert sizes == [same._set_size(i) for i in range(400)] != [other._set_size(i) for i in range(400)]
    for size, share in ((0, 0.25), (1, 0.25), (8, 0.5)):
        assert sizes.count(size) / 400 == pytest.approx(share, abs=0.08)
    for i, size in enumerate(sizes[:12]):
        found, alone = one.draw(i), digits.batch(32, seeded_generator(0, i), max(1, size))
        assert torch.equal(found.images, alone.images) and torch.equal(found.groups, alone.groups)


def test_training_with_several_sizes_resumes_as_if_it_had_not_stopped(digits, tmp_path):
    unbroken, broken, resumed = (small() for _ in range(3))
    config = replace(QUICK, steps=8, set_size=(0, 1, 8))
    list(fit(unbroken, digits, config, checkpoint=tmp_path / "unbroken"))
    stop_after(fit(broken, digits, config, checkpoint=tmp_path / "broken"), 3)
    with pytest.raises(InputError, match="the checkpoint of a run with other settings"):
        list(fit(small(), digits, replace(config, set_size=(1, 8)), checkpoint=tmp_path / "broken"))
    list(fit(resumed, digits, config, checkpoint=tmp_path / "broken"))
    torch.testing.assert_close(resumed.trained.state_dict(), unbroken.trained.state_dict(), rtol=0, atol=0)


def test_an_error_while_a_stopped_training_is_saved_reaches_the_caller(digits, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    next(events := fit(small(), digits, QUICK, checkpoint=folder / "state"))
    folder.rmdir()
    with pytest.raises(InputError, match="was deleted meanwhile"):
        events.close()


@pytest.mark.parametrize("method", ["lora", "multi-lora", "metalora-cp", "lora-mixture"])
def test_every_method_trains_with_several_sizes(digits, method):
    *_, last = fit(small(method), digits, replace(QUICK, set_size=(0, 1, 8)))
    assert last.metrics["loss"] > 0 and 0 <= last.metrics["validation"] <= 1


def test_features_are_standardised_on_training_images(digits):
    model = small()
    list(fit(model, digits, replace(QUICK, steps=1)))
    assert model.mapping.feature_mean.abs().sum() > 0
    assert not torch.equal(model.mapping.feature_std, torch.ones_like(model.mapping.feature_std))


def test_the_original_has_nothing_to_train(digits):
    with pytest.raises(InputError, match="nothing to train"):
        next(fit(metalora.adapt(small_net(), metalora.AdapterConfig("original")), digits, QUICK))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps is 0: use a whole number from 1 to 1,000,000,000"),
        ({"steps": 1.5}, r"steps is 1\.5"),
        ({"batch_size": None}, "batch_size is empty"),
        ({"set_size": 0}, "set_size is 0"),
        ({"validate_every": -1}, "validate_every is -1: use a whole number of 0 or more"),
        ({"seed": -1}, "seed is -1"),
        ({"lr": 0.0}, "learning rate is 0.0: use a number between 0 and 1"),
        ({"lr": None}, "learning rate is empty"),
        ({"lr": float("nan")}, "learning rate is nan"),
        ({"batch_size": 30, "set_size": 8}, "does not divide"),
    ],
)
def test_settings_that_train_nothing_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        TrainingConfig(**settings)


def test_a_rate_that_blows_up_is_told(digits):
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net()

        def forward(self, x):
            return (80 * self.net(x)).exp()

    model = metalora.adapt(Exploding(), metalora.AdapterConfig("lora", rank=2))
    with pytest.raises(InputError, match="not finite"):
        list(fit(model, digits, replace(QUICK, steps=30, lr=0.9)))


class InfiniteGradient(torch.autograd.Function):
    """The identity, whose gradient is infinite from the third call on."""

    calls = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        InfiniteGradient.calls += 1
        return gradient / (0.0 if InfiniteGradient.calls > 2 else 1.0)


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(digits):
    model = metalora.adapt(small_net(), metalora.AdapterConfig("lora", rank=2))

    def loss(embeddings, batch):
        return InfiniteGradient.apply(embeddings).square().mean()

    with pytest.raises(InputError, match="The loss or its gradient is not finite at step 3: lower the learning rate"):
        list(fit(model, digits, replace(QUICK, steps=9), loss=loss))
    assert all(parameter.isfinite().all() for parameter in model.trained.parameters())


def test_sets_keep_to_their_task_and_cover_it():
    tasks = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1, 1])
    sets = draw_sets(tasks, 2, seeded_generator(0))
    for number in sets.unique():
        assert len(tasks[sets == number].unique()) == 1
        assert (sets == number).sum() <= 2
    assert len(sets.unique()) == 2 + 3
    assert torch.equal(draw_sets(tasks, None, seeded_generator(0)), tasks)


def test_standardised_sets_have_mean_zero_and_deviation_one():
    features, sets = torch.randn(12, 3, dtype=torch.float64) * 5 + 2, torch.arange(12) % 3
    out = standardise_sets(features, sets)
    for number in range(3):
        assert out[sets == number].mean(0).abs().max() < 1e-12
        assert out[sets == number].std(0, correction=0) == pytest.approx(1, abs=1e-6)


def test_embedding_does_not_depend_on_the_chunk(digits):
    model = small()
    list(fit(model, digits, QUICK))
    queries = digits.splits["seen query"]
    for embed_config in (
        EmbedConfig(),
        EmbedConfig(set_size=8),
        EmbedConfig(set_size=None),
        EmbedConfig(shuffled=True),
    ):
        one, other = (embed(model, queries, replace(embed_config, batch_size=size, device="cpu")) for size in (7, 512))
        assert torch.allclose(one, other, atol=1e-5)


def test_shuffled_cores_are_other_images_cores(digits):
    model = small()
    list(fit(model, digits, replace(QUICK, steps=20, lr=1e-2)))
    queries = digits.splits["seen query"]
    own, others = (embed(model, queries, EmbedConfig(shuffled=flag, device="cpu")) for flag in (False, True))
    assert not torch.allclose(own, others, atol=1e-4)
    with pytest.raises(InputError, match="shuffled"):
        embed(small("lora"), queries, EmbedConfig(shuffled=True, device="cpu"))


def trained(suite: Suite, core: str = "generated") -> metalora.AdaptedModel:
    """Meta-LoRA TR on the bundled ResNet after a short real training."""
    backbone = metalora.load_backbone("resnet20", image_size=suite.image_size)
    model = metalora.adapt(backbone, metalora.AdapterConfig("metalora-tr", rank=3, core=core))
    list(fit(model, suite, TrainingConfig(steps=128, device="cpu")))
    return model


def classes_found(model: metalora.AdaptedModel, suite: Suite, set_size: int | None = 1) -> Tensor:
    """What the pictures of seen tasks are taken for, in the gallery of all tasks."""
    queries, gallery = suite.splits["seen query"], suite.splits["seen gallery"]
    features, stored = (
        embed(model, split, EmbedConfig(device="cpu", set_size=set_size)) for split in (queries, gallery)
    )
    return predict(queries, features, gallery, stored, [5], "pooled")[5]


@pytest.mark.slow
def test_positive_control_generation_helps_where_the_task_shows_in_the_pixels():
    suite = metalora.load_suite("digits", max_queries=400)
    queries = suite.splits["seen query"]
    with_core, without = (
        accuracy(classes_found(trained(suite, core), suite), queries) for core in ("generated", "constant")
    )
    assert with_core > without + 0.03


def test_negative_control_no_core_can_tell_a_label_rule_that_no_pixel_shows():
    upright = metalora.load_suite("digits", max_queries=400)
    same = (Identity(),) * len(upright.tasks)
    rule = torch.arange(len(upright.classes))
    swapped = rule.clone()
    swapped[[3, 8]] = swapped[[8, 3]]
    rules = torch.stack([swapped if task % 2 else rule for task in range(len(upright.tasks))])
    splits = {
        name: replace(split, transforms=same, labels=rules[split.tasks, split.labels])
        for name, split in upright.splits.items()
    }
    suite = replace(upright, splits=splits)
    model, labels = trained(suite), suite.splits["seen query"].labels
    ruled = (labels == 3) | (labels == 8)
    for set_size in (1, 8, None):
        found = classes_found(model, suite, set_size)
        right = (found == labels).double()
        assert right[~ruled].mean() > 0.9
        assert ((found == 3) | (found == 8))[ruled].double().mean() > 0.8  # one of the two, and not which:
        assert right[ruled].mean() < 0.65  # by chance half, 0.06 standard error
