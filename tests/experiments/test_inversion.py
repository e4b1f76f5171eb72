"""Reading the factors of a set, and inverting its transform."""

from dataclasses import replace

import pytest
import torch

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.experiments.inversion import embed_inverted, invert_examples, make_reader, train_reader
from metalora.experiments.job import _finish
from metalora.suites.task_lists import COMPOSITIONS, CORRUPTIONS, DIGITS, TEN_TRANSFORMS
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=120)


@pytest.fixture(scope="module")
def reading(digits):
    backbone = metalora.load_backbone("resnet20", image_size=8)
    features = FeatureCache(digits)
    config = TrainingConfig(steps=150, batch_size=64, lr=1e-2, device="cpu")
    training = train_reader(backbone, digits, AdapterConfig("original"), config, features)
    return _finish(training, lambda event: None), features


@pytest.mark.parametrize("transform", [*COMPOSITIONS.transforms[::5], *DIGITS.transforms])
def test_an_inverted_transform_gives_the_image_back(transform):
    images = torch.rand(2, 3, 6, 6, generator=seeded_generator(0))
    torch.testing.assert_close(transform.inverse(transform(images)), images)


def test_a_transform_that_loses_pixels_has_no_inverse():
    (blur,) = [transform for transform in TEN_TRANSFORMS.transforms if transform.name == "blur"]
    with pytest.raises(InputError, match="Blur loses"):
        blur.inverse(torch.rand(1, 3, 6, 6))


def test_whole_tasks_are_read_correctly_and_inverted(digits, reading):
    reader, features = reading
    split = digits.splits["seen query"]
    plain = split.source_images[split.index].float() / 255
    shown = invert_examples(reader, digits, split, EmbedConfig(set_size=None, device="cpu"), features)
    right = (shown.images() - plain).abs().flatten(1).amax(1) < 1e-5
    assert right.float().mean() > 0.9


def test_embeddings_are_those_of_the_inverted_images(digits, reading):
    reader, features = reading
    model = metalora.adapt("resnet20", AdapterConfig("original"))
    embed_config = EmbedConfig(set_size=8, set_use="inverted", device="cpu")
    found = embed_inverted(model, reader, digits, "seen query", embed_config, features)
    with torch.no_grad():
        wanted = model(invert_examples(reader, digits, digits.splits["seen query"], embed_config, features).images())
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, embed(model, digits.splits["seen query"], EmbedConfig(device="cpu")), atol=1e-2)


def test_a_suite_without_named_factors_has_no_reader(digits):
    nameless = replace(digits, factors=(), factor_indices=None)
    backbone = metalora.load_backbone("resnet20", image_size=8)
    config, features = TrainingConfig(device="cpu"), FeatureCache(nameless)
    with pytest.raises(InputError, match="no named factors"):
        next(train_reader(backbone, nameless, AdapterConfig("lora"), config, features))


def test_a_suite_whose_transforms_lose_pixels_has_no_reader(digits):
    train = replace(digits.splits["train"], transforms=CORRUPTIONS.transforms)
    lossy = replace(digits, splits={**digits.splits, "train": train})
    with pytest.raises(InputError, match=r"Noise loses .* inverted rows"):
        make_reader(metalora.load_backbone("resnet20", image_size=8), lossy, AdapterConfig("lora"))
