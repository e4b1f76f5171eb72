"""AugBN against statistics computed by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import metalora
from metalora.evaluation import augbn
from metalora.evaluation.augbn import augment, embed_augbn
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import embed
from metalora.evaluation.given_images import GivenImages
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture
def net():
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        for i, tensor in enumerate((made[1].running_mean, made[1].weight, made[1].bias)):
            tensor.copy_(torch.rand(4, generator=seeded_generator(i)))
    return made.eval()


@pytest.fixture
def images():
    return torch.rand(5, 3, 8, 8, generator=seeded_generator(1))


@torch.no_grad()
def test_statistics_of_augmentations_are_mixed_with_the_stored_ones(net, images):
    model = metalora.adapt(net, metalora.AdapterConfig("lora", rank=1, targets="0"), example=images[:1])
    found = embed_augbn(model, GivenImages(images), 0.25, device=torch.device("cpu"), seed=3, batch_size=1)
    conv, norm = net[0], net[1]
    for i, image in enumerate(images):
        rng = seeded_generator(3, i)
        views = torch.cat([image[None], *(augment(image[None], rng) for _ in range(augbn.AUGMENTATIONS))])
        maps = conv(views)
        mean = 0.75 * norm.running_mean + 0.25 * maps.mean((0, 2, 3))
        variance = 0.75 * norm.running_var + 0.25 * maps.var((0, 2, 3), correction=0)
        normal = F.batch_norm(maps[:1], mean, variance, norm.weight, norm.bias)
        torch.testing.assert_close(found[i], F.relu(normal).mean((2, 3))[0])


def test_without_a_share_nothing_changes(net, images):
    model = metalora.adapt(net, metalora.AdapterConfig("lora", rank=1, targets="0"), example=images[:1])
    config = EmbedConfig(set_use="augbn", augbn_share=0.0, device="cpu")
    torch.testing.assert_close(embed(model, images, config), embed(model, images, EmbedConfig(device="cpu")))


def test_a_network_without_batchnorm_is_refused(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = metalora.adapt(net, metalora.AdapterConfig("lora", rank=1), example=images[:1])
    with pytest.raises(InputError, match="no BatchNorm to adapt"):
        embed(model, images, EmbedConfig(set_use="augbn", device="cpu"))


def test_an_augmented_image_is_the_image_moved():
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(20, 3, 8, 8)
    moved = augment(images, seeded_generator(0))
    assert moved.shape == images.shape and len(moved.unique(dim=0)) > 5
    steps = (moved[:, 0, :, 1:] - moved[:, 0, :, :-1])[:, 3, 2:5].sign().unique(dim=0)
    assert sorted(steps[:, 0].tolist()) == [-1, 1]  # mirrored ones fall from left to right
