"""Embedding images that somebody hands over: tensors, images of Pillow, files and folders."""

import numpy as np
import pytest
import torch
from PIL import Image

import metalora
from metalora.evaluation.config import EmbedConfig

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return metalora.load("mixer_nano/metalora-tr")


@pytest.fixture(scope="module")
def expected(model):
    with torch.no_grad():
        return model(torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255)


@pytest.fixture
def folder(tmp_path):
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def test_tensors_pillow_images_files_and_folders_give_the_same(model, expected, folder):
    files = sorted(folder.iterdir())
    tensor = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    for images in (tensor, [Image.fromarray(p) for p in PIXELS], files, [str(f) for f in files], folder, str(folder)):
        torch.testing.assert_close(metalora.embed(model, images), expected)


def test_modes_and_sizes_may_differ(model):
    grey = Image.fromarray(PIXELS[0]).convert("L")
    found = metalora.embed(model, [grey, grey.convert("RGB"), grey.convert("RGBA")])
    torch.testing.assert_close(found, found[:1].expand(3, -1))
    found = metalora.embed(model, [Image.new("RGB", size, "teal") for size in ((32, 32), (90, 64), (20, 31))])
    torch.testing.assert_close(found, found[:1].expand(3, -1))


def test_a_set_is_all_the_images(model, expected):
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        together = model(images, groups=torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(metalora.embed(model, images, EmbedConfig(set_size=None, batch_size=2)), together)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "Images to embed are empty: give a tensor, or a list of Pillow images or paths"),
        (np.zeros((2, 3, 32, 32)), "Images to embed are of type ndarray"),
        ([torch.zeros(3, 32, 32)], "An image to embed is of type Tensor: give a Pillow image or a path, or one tensor"),
        (torch.full((1, 3, 32, 32), 255.0), r"values from 255 to 255: scale them to \[0, 1\]"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "takes float RGB in"),
    ],
)
def test_other_images_are_refused(images, said, model):
    with pytest.raises(metalora.InputError, match=said):
        metalora.embed(model, images)


def test_files_for_a_backbone_of_unknown_size_are_refused(small_net, images, folder):
    model = metalora.adapt(small_net, metalora.AdapterConfig("lora", rank=2), example=images)
    with pytest.raises(metalora.InputError, match="image size is not known: give a tensor"):
        metalora.embed(model, folder)
    torch.testing.assert_close(metalora.embed(model, images), model(images).detach())


@pytest.mark.parametrize(("name", "value"), [("device", "gpu"), ("precision", "float16"), ("batch_size", 0)])
@pytest.mark.parametrize("kind", [EmbedConfig, metalora.TrainingConfig])
def test_settings_are_checked_at_once(kind, name, value):
    with pytest.raises(metalora.InputError, match=str(value)):
        kind(**{name: value})
