"""Models with Gaussian cores: drawn in training, the mean in everything that is used, saved, folded or exported."""

import json

import pytest
import torch

import metalora
from metalora.models.exporting import export
from metalora.models.loading import restore
from metalora.models.pruning import prune
from metalora.models.saving import CONFIG
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture
def images():
    return torch.rand(4, 3, 16, 16, generator=seeded_generator(0))


@pytest.fixture
def make(randomise):
    def made(method="metalora-tr", distribution="gaussian", **settings):
        config = metalora.AdapterConfig(method, rank=2, core_distribution=distribution, **settings)
        model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), config)
        randomise(model.trained, scale=0.1)
        return model

    return made


def mean_of(model, images):
    """Embeddings with the cores of the means, by the equation."""
    codes = model.codes(images)
    return model(images, cores=model.mapping.split(model.mapping.head(codes)))


@pytest.mark.parametrize("settings", [{}, {"extractor": "stem"}, {"method": "metalora-cp"}])
def test_training_draws_and_use_takes_the_mean(make, images, settings):
    model = make(**settings)
    with torch.no_grad():
        used, wanted = model(images), mean_of(model, images)
        torch.testing.assert_close(used, wanted, rtol=1e-4, atol=1e-4)
        model.train()
        torch.manual_seed(0)
        first = model(images)
        torch.manual_seed(0)
        assert torch.equal(model(images), first)
        assert not torch.allclose(model(images), first, rtol=1e-2)
        torch.testing.assert_close(model.eval()(images), used, rtol=1e-4, atol=1e-4)


def test_weights_of_experts_are_drawn_before_they_are_constrained(make, images):
    model = make("lora-mixture", branches=3).train()
    for core in dict(model.generate(images).items()).values():
        torch.testing.assert_close(core.sum(1), torch.ones(4))
        assert (core > 0).all()


def test_images_of_a_set_draw_their_own_cores_of_one_distribution(make, images):
    model, groups = make(), torch.tensor([0, 0, 1, 1])
    assert torch.equal(*model.generate(images, groups=groups).flatten()[:2])
    drawn = model.train().generate(images, groups=groups).flatten()
    assert not torch.equal(*drawn[:2])
    normal = model.mapping.distribution(model.mapping.pool(model.codes(images), groups))
    assert torch.equal(normal.loc[0], normal.loc[1]) and torch.equal(normal.scale[0], normal.scale[1])


def test_a_model_is_saved_and_loaded_with_its_variances(make, images, tmp_path):
    model = make()
    model.save(tmp_path)
    loaded = metalora.load(tmp_path)
    assert loaded.config.core_distribution == "gaussian"
    codes = model.codes(images)
    assert torch.equal(loaded.mapping.distribution(codes).scale, model.mapping.distribution(codes).scale)
    assert torch.equal(loaded(images), model(images))
    restore(make(seed=1), tmp_path)
    with pytest.raises(InputError, match="was made with core_distribution 'gaussian', not 'point'"):
        restore(make(distribution="point"), tmp_path)


def test_an_adapter_saved_before_cores_had_distributions_has_point_cores(make, images, tmp_path):
    model = make(distribution="point")
    model.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    del config["adapter"]["core_distribution"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    loaded = metalora.load(tmp_path)
    assert loaded.config == model.config and torch.equal(loaded(images), model(images))


def test_a_folded_network_has_the_mean_core(make, images):
    model = make()
    folded = model.fold(model.generate(images[:1]))
    torch.testing.assert_close(folded(images[:1]), mean_of(model, images[:1]), rtol=1e-3, atol=1e-4)


def test_an_exported_model_uses_the_mean_core_even_if_it_was_training(make, images, tmp_path):
    model = make()
    wanted = mean_of(model, images).detach()
    assert export(model.train(), tmp_path / "model.pt2") < 1e-4
    found = torch.export.load(tmp_path / "model.pt2").module()(images)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr"])
def test_pruning_keeps_the_variances_of_the_components_that_stay(make, images, method):
    model = make(method)
    same = prune(model, images, share=0.0).model
    for found, wanted in zip(same.mapping.parameters(), model.mapping.parameters(), strict=True):
        assert torch.equal(found, wanted)
    pruned = prune(model, images, share=0.95).model
    assert len(pruned.mapping.log_variance.bias) == pruned.mapping.total < model.mapping.total
    kept = [(model.mapping.log_variance.bias == value).nonzero().item() for value in pruned.mapping.log_variance.bias]
    assert torch.equal(pruned.mapping.head.weight, model.mapping.head.weight[kept])
