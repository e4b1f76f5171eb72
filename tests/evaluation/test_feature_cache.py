"""Features that are computed once: the same values, for as much memory as allowed."""

from dataclasses import replace

import pytest
import torch

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.evaluation.feature_cache import FeatureCache
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit

QUICK = TrainingConfig(steps=4, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=100, max_train_images=4)


def model(method="metalora-cp", **settings):
    backbone = metalora.load_backbone("resnet20", image_size=8)
    return metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, **settings))


def read(cache, adapted, examples):
    return cache(adapted, examples, examples.images())


@pytest.mark.parametrize("limit", [2**30, 4 * 684 * 10, 0])
def test_kept_features_are_the_computed_ones_whatever_the_limit(digits, limit):
    adapted, cache, train = model(), FeatureCache(digits, limit), digits.splits["train"]
    wanted = adapted.features(train[:40].images())
    assert wanted.shape[1] == 684
    for rows in (slice(0, 24), slice(12, 40), torch.tensor([39, 0, 7, 7]), slice(4, 5), slice(0, 40)):
        assert torch.equal(read(cache, adapted, train[rows]), wanted[rows]), rows
    # What the limit has no room for is computed every time, all 97 of them where there is none.
    assert cache.computed == {2**30: 40, 4 * 684 * 10: 83, 0: 97}[limit]
    assert cache.computed + cache.reused == 97


def test_the_same_picture_in_another_task_is_another_image(digits):
    adapted, cache, train = model(), FeatureCache(digits), digits.splits["train"]
    twice = train[torch.tensor([0, 0])]
    twice = replace(twice, tasks=torch.tensor(digits.seen[:2]))
    first, second = read(cache, adapted, twice)
    assert not torch.equal(first, second)
    assert cache.computed == 2


@pytest.mark.parametrize(("method", "settings"), [("lora", {}), ("metalora-cp", {"extractor": "stem"})])
def test_nothing_is_read_where_no_pass_is_made_for_features(digits, method, settings):
    assert read(FeatureCache(digits), model(method, **settings), digits.splits["train"][:3]) is None


def test_training_and_embedding_are_the_same_with_features_that_others_have_read(digits):
    cache, alone, after = FeatureCache(digits), model(), model()
    embed(model("metalora-tr"), digits.splits["train"], EmbedConfig(device="cpu"), cache)
    list(fit(alone, digits, QUICK, validate_last=False))
    computed = cache.computed
    assert cache.seconds_saved == 0
    list(fit(after, digits, QUICK, validate_last=False, features=cache))
    assert cache.computed == computed
    assert cache.seconds_saved > 0
    for name, value in alone.trained.state_dict().items():
        assert torch.equal(value, after.trained.state_dict()[name]), name
    for embed_config in (
        EmbedConfig(device="cpu"),
        EmbedConfig(device="cpu", set_size=8),
        EmbedConfig(device="cpu", shuffled=True),
    ):
        queries = digits.splits["seen query"]
        assert torch.equal(embed(after, queries, embed_config, cache), embed(after, queries, embed_config))


def test_epochs_read_each_image_once(digits):
    cache, adapted = FeatureCache(digits), model()
    list(fit(adapted, digits, replace(QUICK, steps=30), validate_last=False, features=cache))
    assert cache.reused > cache.computed
    assert cache.computed <= len(digits.splits["train"])
