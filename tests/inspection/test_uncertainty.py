"""How uncertain cores are, against samples that are drawn by hand."""

import pytest
import torch

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.inspection.gallery import build_gallery
from metalora.inspection.uncertainty import core_uncertainty
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture(scope="module")
def suite():
    return load_suite("digits", max_queries=30, max_train_images=5)


@pytest.fixture(scope="module")
def images(suite):
    return suite.splits["seen query"][:4].images()


@pytest.fixture(scope="module")
def model(randomise):
    return make(randomise)


@pytest.fixture(scope="module")
def gallery(model, suite):
    return build_gallery(model, suite, limit=50, embed_config=EmbedConfig(device="cpu"))


def make(randomise, distribution="gaussian"):
    config = metalora.AdapterConfig(rank=2, core_distribution=distribution)
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), config)
    randomise(model.trained, scale=0.2)
    return model


def test_deviation_spread_and_agreement_are_those_of_the_samples(model, gallery, images):
    found = core_uncertainty(model, images, list("abcd"), gallery, samples=6, seed=3)
    normal, rng = model.mapping.distribution(model.codes(images)), seeded_generator(3)
    noise = [torch.randn(1, model.mapping.total, generator=rng) for _ in range(6)]
    drawn = [model.mapping.split(normal.loc + normal.scale * one) for one in noise]
    with torch.no_grad():
        mean, embeddings = model(images), [model(images, cores=cores) for cores in drawn]
    assert found.core_std.index.tolist() == list("abcd") and list(found.core_std) == list(model.layers)
    layer = list(model.layers)[3]
    values = torch.stack([cores[layer][1].flatten() for cores in drawn])
    assert found.core_std.loc["b", layer] == pytest.approx(values.std(0).square().mean().sqrt().item(), rel=1e-4)
    spread = sum(1 - torch.cosine_similarity(mean, one) for one in embeddings) / 6
    torch.testing.assert_close(found.spread, spread.double(), rtol=1e-2, atol=1e-4)
    own = gallery.predict(mean, "adapted", 5)
    votes = [gallery.predict(one, "adapted", 5) for one in embeddings]
    wanted = [sum(vote[i] == own[i] for vote in votes) / 6 for i in range(4)]
    assert found.agreement.tolist() == pytest.approx(wanted)
    assert 0 < found.agreement.mean() < 1


def test_the_same_seed_gives_the_same_samples_whatever_other_images_there_are(model, images):
    whole, part = core_uncertainty(model, images), core_uncertainty(model, images[2:])
    torch.testing.assert_close(whole.spread[2:], part.spread, rtol=1e-2, atol=1e-5)
    assert torch.equal(whole.spread, core_uncertainty(model, images).spread)
    assert not torch.equal(whole.spread, core_uncertainty(model, images, seed=1).spread)
    assert whole.agreement is None


def test_a_larger_variance_is_a_larger_uncertainty(randomise, images):
    model = make(randomise)
    before = core_uncertainty(model, images)
    with torch.no_grad():
        model.mapping.log_variance.bias.add_(2)
    after = core_uncertainty(model, images)
    assert (after.core_std > before.core_std).to_numpy().all() and (after.spread > before.spread).all()


def test_pooled_images_share_one_distribution(model, images):
    std = core_uncertainty(model, images, pool=True).core_std
    assert std.std().max() < 1e-6
    assert core_uncertainty(model, images).core_std.std().max() > 1e-3


def test_use_draws_nothing_from_torchs_generator_and_ends_in_evaluation(model, images):
    state = torch.get_rng_state()
    core_uncertainty(model.train(), images)
    assert torch.equal(state, torch.get_rng_state()) and not model.training


def test_what_has_no_uncertainty_is_refused(model, gallery, images, randomise):
    with pytest.raises(InputError, match="train one with core_distribution gaussian"):
        core_uncertainty(make(randomise, "point"), images)
    with pytest.raises(InputError, match="2 names for 4 images"):
        core_uncertainty(model, images, ["a", "b"])
    with pytest.raises(InputError, match="samples is 1: use a whole number of 2 or more"):
        core_uncertainty(model, images, samples=1)
    other = make(randomise)
    with torch.no_grad():
        other.mapping.log_variance.bias.add_(1)
    with pytest.raises(InputError, match="another adapter"):
        core_uncertainty(other, images, gallery=gallery)
