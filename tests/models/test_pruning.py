"""Ranks fitted to what was learnt."""

import pytest
import torch

import metalora
from metalora.models.pruning import prune
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16, generator=seeded_generator(0))


@pytest.mark.parametrize("name", ["resnet20/metalora-tr", "mixer_nano/metalora-cp"])
def test_nothing_changes_where_nothing_is_dropped(name, images):
    model = metalora.load(name)
    pruned = prune(model, images, share=0.0)
    assert (pruned.ranks["kept"] == pruned.ranks["rank"]).all() and pruned.ranks["error"].max() < 1e-5
    torch.testing.assert_close(pruned.model(images), model(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet20/metalora-tr", "resnet20/metalora-cp"])
def test_fewer_components_leave_less_of_the_update(name, images):
    model, errors, counts = metalora.load(name), [], []
    for share in (0.1, 0.3, 0.6):
        pruned = prune(model, images, share=share)
        assert (pruned.ranks["kept"] <= pruned.ranks["rank"]).all() and (pruned.ranks["kept"] >= 1).all()
        errors.append(pruned.ranks["error"].mean())
        counts.append(sum(p.numel() for p in pruned.model.trained.parameters()))
    assert errors == sorted(errors) and counts == sorted(counts, reverse=True)
    assert errors[0] < errors[-1] and counts[0] > counts[-1]


def test_a_component_that_is_zero_costs_nothing(images):
    model = metalora.load("resnet20/metalora-tr")
    with torch.no_grad():
        for layer in model.layers.values():
            layer.adapter.A[..., -1] = 0  # the last component of b
    before = model(images)
    pruned = prune(model, images, share=1e-6)
    torch.testing.assert_close(pruned.model(images), before, atol=1e-4, rtol=1e-4)


def test_a_pruned_model_is_saved_and_loaded_and_alpha_stays(tmp_path, images):
    config = metalora.AdapterConfig("metalora-cp", rank=4, alpha=8.0, modules_to_save="^bn1$")
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), config)
    with torch.no_grad():
        for i, parameter in enumerate(model.trained.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded_generator(i)))
    same = prune(model, images, share=0.0).model
    torch.testing.assert_close(same(images), model(images), atol=1e-3, rtol=1e-3)
    pruned = prune(model, images, share=0.5).model
    pruned.save(tmp_path / "pruned")
    torch.testing.assert_close(metalora.load(tmp_path / "pruned")(images), pruned(images))


def test_what_cannot_be_pruned_is_refused(images):
    with pytest.raises(InputError, match="Components are dropped of metalora-cp and metalora-tr"):
        prune(metalora.load("resnet20/lora"), images)
    with pytest.raises(InputError, match="share is 1: use a fraction"):
        prune(metalora.load("resnet20/metalora-cp"), images, share=1)
