"""Neighbours before and after adaptation, and with swapped cores, are what the model computes with those cores."""

import json

import pytest
import torch

import metalora
from metalora.adapters.cores import Cores
from metalora.evaluation.config import EmbedConfig
from metalora.inspection.gallery import build_gallery
from metalora.inspection.neighbours import report_neighbours, swap_core
from metalora.suites.load import load_suite
from metalora.util.errors import InputError


@pytest.fixture(scope="module")
def suite():
    return load_suite("digits", max_queries=30, max_train_images=5)


@pytest.fixture(scope="module")
def images(suite):
    return suite.splits["seen query"][:4].images()


@pytest.fixture(scope="module")
def make(randomise, suite):
    def pair(method="metalora-tr", **settings):
        backbone = metalora.load_backbone("resnet20", image_size=16)
        model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, **settings))
        randomise(model.trained, scale=0.2)
        return model, build_gallery(model, suite, limit=50, embed_config=EmbedConfig(device="cpu"))

    return pair


@pytest.fixture(scope="module")
def made(make):
    return make()


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


@pytest.mark.parametrize("settings", [{}, {"extractor": "stem"}, {"method": "lora"}, {"core": "constant"}])
def test_embeddings_neighbours_and_classes_before_and_after(make, images, settings):
    model, gallery = make(**settings)
    found = report_neighbours(model, gallery, images, list("abcd"))
    with torch.inference_mode():
        close(found.after, model(images))
        close(found.before, metalora.load_backbone("resnet20", image_size=16)(images))
    assert not torch.allclose(found.before, found.after, rtol=0.1)
    assert found.nearest_before.equals(gallery.nearest(found.before, "original"))
    assert found.nearest_after.equals(gallery.nearest(found.after, "adapted"))
    assert found.predicted_before == gallery.predict(found.before, "original")
    assert found.predicted_after == gallery.predict(found.after, "adapted")


def test_pooled_images_are_embedded_with_their_shared_core(made, images):
    model, gallery = made
    found = report_neighbours(model, gallery, images, pool=True)
    with torch.inference_mode():
        close(found.after, model(images, groups=torch.zeros(4, dtype=torch.int64)))


def test_plain_values_hold_neighbours_and_classes_of_every_image(made, images):
    model, gallery = made
    found = report_neighbours(model, gallery, images, list("abcd"), k=3)
    plain = json.loads(json.dumps(found.to_dict()))
    for i, image in enumerate(plain["images"]):
        own = found.nearest_after[found.nearest_after["image"] == i]
        assert image["name"] == "abcd"[i] and len(image["neighbours"]) == len(image["neighbours_before"]) == 3
        assert [near["rank"] for near in image["neighbours"]] == [1, 2, 3]
        assert [near["name"] for near in image["neighbours"]] == own["name"].tolist()
        assert image["predicted"] == found.predicted_after[i]
        assert image["predicted_before"] == found.predicted_before[i]
        assert set(image["cores"]) == set(image["strength"]) == set(model.layers)
    assert len(plain["similarity"]) == 4


def test_swap_embeds_with_the_donors_core(made, images):
    model, gallery = made
    found = swap_core(model, gallery, images, 1, 3)
    with torch.inference_mode():
        cores = model.generate(images)
        own, other = model(images[[1]], cores=cores[1]), model(images[[1]], cores=cores[3])
    close(found.embedding, other[0])
    assert found.distance == pytest.approx(1 - torch.cosine_similarity(own.double(), other.double()).item(), abs=1e-4)
    assert found.distance > 1e-4
    assert found.nearest.equals(gallery.nearest(found.embedding[None], "adapted"))
    assert [found.predicted] == gallery.predict(found.embedding[None], "adapted")


def test_its_own_core_moves_nothing(made, images):
    model, gallery = made
    own = report_neighbours(model, gallery, images)
    found = swap_core(model, gallery, images, 2, 2)
    assert found.distance == pytest.approx(0, abs=1e-6)
    assert found.predicted == own.predicted_after[2]
    close(found.embedding, own.after[2])


def test_a_fraction_blends_the_two_cores(made, images):
    model, gallery = made
    with torch.inference_mode():
        cores = model.generate(images)
        half = model(images[[0]], cores=Cores.lerp(cores[0], cores[2], 0.5))
    close(swap_core(model, gallery, images, 0, 2, 0.5).embedding, half[0])
    assert swap_core(model, gallery, images, 0, 2, 0).distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("settings", [{"method": "lora"}, {"core": "constant"}])
def test_what_generates_nothing_swaps_nothing(make, images, settings):
    model, gallery = make(**settings)
    with pytest.raises(InputError, match="nothing is generated"):
        swap_core(model, gallery, images, 0, 1)
    with pytest.raises(InputError, match="nothing is generated"):
        report_neighbours(model, gallery, images, pool=True)


def test_what_cannot_be_swapped_is_an_error(make, made, images):
    model, gallery = made
    for positions in ((4, 0), (0, -1), (0, 4)):
        with pytest.raises(InputError, match="numbered 0 to 3"):
            swap_core(model, gallery, images, *positions)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="fraction"):
            swap_core(model, gallery, images, 0, 1, fraction)
    other, _ = make(seed=1, method="metalora-cp")
    with pytest.raises(InputError, match="another adapter"):
        report_neighbours(other, gallery, images)
    with pytest.raises(InputError, match="another adapter"):
        swap_core(other, gallery, images, 0, 1)
