"""Inspection: strengths against the dense update, cores and codes against the model's own."""

import json

import pytest
import torch

import metalora
from metalora.inspection.inspect_images import inspect_images
from metalora.util.errors import InputError

METHODS = ["lora", "multi-lora", "metalora-cp", "metalora-tr"]


def adapted(net, randomise, method="metalora-tr", **settings):
    model = metalora.adapt(
        net, metalora.AdapterConfig(method, rank=2, alpha=3, **settings), example=torch.rand(2, 3, 10, 9)
    )
    randomise(model.trained)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_strength_is_that_of_the_dense_update(method, small_net, randomise, images):
    model = adapted(small_net, randomise, method)
    inspection = inspect_images(model, images, list("abcd"))
    assert inspection.strength.shape == (4, len(model.layers)) and list(inspection.strength.index) == list("abcd")
    for name, layer in model.layers.items():
        with torch.inference_mode():
            dense = model.delta_weight(name, inspection.cores).flatten(1).norm(dim=1) / layer.weight.norm()
        assert inspection.strength[name].to_numpy() == pytest.approx(dense.expand(4).numpy(), rel=1e-5)


def test_no_update_has_no_strength(small_net, images):
    model = metalora.adapt(small_net, metalora.AdapterConfig(rank=2), example=images)
    assert not inspect_images(model, images).strength.to_numpy().any()


def test_cores_codes_and_their_similarity(small_net, randomise, images):
    model = adapted(small_net, randomise)
    inspection = inspect_images(model, images)
    with torch.no_grad():
        codes, cores = model.codes(images), model.generate(images)
    torch.testing.assert_close(inspection.codes, codes)
    torch.testing.assert_close(inspection.cores.flatten(), cores.flatten())
    expected = torch.cosine_similarity(cores.flatten()[0], cores.flatten()[1], dim=0)
    assert inspection.similarity[0, 1].item() == pytest.approx(expected.item(), abs=1e-5)
    assert not inspection.constant


def test_codes_that_are_known_are_not_computed_again(small_net, randomise, images, monkeypatch):
    model = adapted(small_net, randomise)
    expected = inspect_images(model, images)
    codes = model.codes(images)
    monkeypatch.setattr(type(model), "codes", None)  # cannot be called
    found = inspect_images(model, images, codes=codes)
    assert torch.equal(found.similarity, expected.similarity)
    assert torch.equal(found.codes, expected.codes)


def test_pooled_images_share_a_core_and_keep_their_codes(small_net, randomise, images):
    model = adapted(small_net, randomise)
    inspection, alone = inspect_images(model, images, pool=True), inspect_images(model, images)
    with torch.no_grad():
        shared = model.cores(alone.codes.mean(0, keepdim=True))
    torch.testing.assert_close(inspection.cores.flatten(), shared.flatten().expand(4, -1))
    torch.testing.assert_close(inspection.codes, alone.codes)
    assert (inspection.strength.nunique() == 1).all()


def test_a_constant_core_is_the_same_for_every_image(small_net, randomise, images):
    inspection = inspect_images(adapted(small_net, randomise, core="constant"), images)
    assert inspection.constant and inspection.codes is None and len(inspection.cores) == len(inspection.strength) == 4
    assert (inspection.strength.nunique() == 1).all()


def test_plain_values_are_ready_for_json(small_net, randomise, images):
    for method in METHODS:
        inspection = inspect_images(adapted(small_net, randomise, method), images, list("abcd"))
        plain = json.loads(json.dumps(inspection.to_dict()))
        assert [image["name"] for image in plain["images"]] == list("abcd")
        assert plain["images"][1]["strength"] == inspection.strength.iloc[1].to_dict()
        assert (plain["similarity"] is None) == plain["constant"] == (method in METHODS[:2])


def test_what_cannot_be_inspected_is_an_error(small_net, randomise, images):
    with pytest.raises(InputError, match="3 names for 4 images"):
        inspect_images(adapted(small_net, randomise), images, list("abc"))
    with pytest.raises(InputError, match="nothing is generated"):
        inspect_images(adapted(small_net, randomise, "lora"), images, pool=True)
    with pytest.raises(InputError, match="no adapter"):
        inspect_images(adapted(small_net, randomise, "original"), images)
