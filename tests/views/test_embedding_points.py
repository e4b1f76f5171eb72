"""Points of a gallery: their columns are those of the gallery and the model; sprites hold the right tiles."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import metalora
from metalora.adapters.cores import Cores
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.knn import knn_predict
from metalora.inspection.gallery import build_gallery
from metalora.inspection.spaces import gallery_cores, gallery_features
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.views.embedding_points import K, core_strips, point_table
from metalora.views.gallery_images import image_sprite


@pytest.fixture(scope="module")
def make(randomise):
    suite = load_suite("digits", max_queries=30, max_train_images=5)

    def pair(method="metalora-tr"):
        model = metalora.adapt(
            metalora.load_backbone("resnet20", image_size=16), metalora.AdapterConfig(method, rank=2)
        )
        randomise(model.trained, scale=0.2)
        return model, build_gallery(model, suite, limit=40, embed_config=EmbedConfig(device="cpu"))

    return pair


@pytest.fixture(scope="module")
def made(make):
    return make()


def decode(url):
    kind, data = url.split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_spaces_are_the_features_and_the_cores(made):
    model, gallery = made
    assert gallery_features(model, gallery, "adapted") is gallery.adapted
    assert gallery_features(model, gallery, "original") is gallery.original
    with torch.inference_mode():
        own = model.cores(model.codes(gallery.examples.images()))
    torch.testing.assert_close(gallery_features(model, gallery, "cores"), own.flatten(), rtol=1e-3, atol=1e-3)


def test_a_space_that_is_not_there_is_refused(made, make):
    with pytest.raises(InputError, match="Unknown space 'pixels'"):
        gallery_features(*made, "pixels")
    static = make("lora")
    assert gallery_cores(*static) is None
    with pytest.raises(InputError, match="generates no cores"):
        gallery_features(*static, "cores")


def test_points_are_the_images_with_their_position(made):
    _, gallery = made
    plane = np.arange(80.0).reshape(40, 2)
    points = point_table(gallery, gallery.adapted, plane)
    assert points[["x", "y"]].to_numpy().tolist() == plane.tolist()
    assert list(points["name"]) == list(gallery.table["name"])
    with pytest.raises(InputError, match="40 images, 40 features and 7 points"):
        point_table(gallery, gallery.adapted, plane[:7])


def test_a_point_is_predicted_from_its_nearest_others(made):
    gallery = made[1]
    found, labels = point_table(gallery, gallery.adapted, np.zeros((40, 2))), gallery.labels
    for row in range(40):
        rest = [i for i in range(40) if i != row]
        own = knn_predict(gallery.adapted[row : row + 1], gallery.adapted[rest], labels[rest], [K])[K]
        assert found["predicted"][row] == gallery.classes[own.item()]
    assert found["correct"].equals(found["predicted"] == found["label"])


def test_equal_points_are_not_predicted_from_themselves(made):
    gallery = made[1]
    found = point_table(gallery, torch.ones(40, 3), np.zeros((40, 2)))
    labels = gallery.labels
    near = [[i for i in range(40) if i != row][:K] for row in (0, 20)]
    expected = [torch.mode(labels[rows]).values.item() for rows in near]
    assert [gallery.classes.index(found["predicted"][row]) for row in (0, 20)] == expected


def test_a_sprite_holds_every_image_at_its_position(made):
    gallery = made[1]
    found, images = image_sprite(gallery), gallery.examples.images()
    pixels = np.asarray(decode(found["sprite"]))
    split, columns = found["tile"], found["columns"]
    assert pixels.shape == (6 * split, columns * split, 3)
    for row in (0, 6, 7, 39):
        top, left = row // columns * split, row % columns * split
        expected = (images[row] * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels[top : top + split, left : left + split], expected)


def test_a_strip_shows_differences_from_the_mean_core():
    # Two layers, of cores of 2 and 1 values, three images; the mean is 0 everywhere.
    cores = Cores({"a": torch.tensor([[2.0, 0], [-2, 0], [0, 0]]), "b": torch.tensor([[0.0], [1], [-1]])})
    found = core_strips(cores)
    pixels = np.asarray(decode(found["sprite"]).convert("RGBA")).astype(int)
    assert (found["columns"], found["rows"], pixels.shape) == (2, 2, (4, 4, 4))
    first, second = pixels[:2, :2], pixels[:2, 2:]
    assert first[0, 0][2] > 80 > first[0, 0][0]  # the most positive value is blue,
    assert second[0, 0][0] > 80 > second[0, 0][2]  # the most negative one red,
    assert (first[0, 1][:3] > 235).all()  # no difference nearly white,
    assert first[1, 1][3] == second[1, 1][3] == 0 != first[1, 0][3]  # and nothing below a smaller core
