"""BatchNorm with a set's own statistics."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.evaluation.embedding import assign_sets, embed
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.util.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return metalora.load_suite("digits", image_size=8, max_queries=60)


@pytest.mark.parametrize("method", ["original", "lora"])
def test_every_set_is_normalised_by_itself(digits, method):
    model = metalora.adapt("resnet20", metalora.AdapterConfig(method, rank=2))
    if method == "lora":
        list(fit(model, digits, TrainingConfig(steps=2, batch_size=8, device="cpu")))
    split, embed_config = digits.splits["seen query"], EmbedConfig(set_size=5, set_use="bn-adapted", device="cpu")
    found, sets = embed(model, split, embed_config), assign_sets(split, embed_config)
    net = model.fold().train()
    for number in sets.unique()[:3]:
        with torch.no_grad():
            wanted = net(split[sets == number].images())
        torch.testing.assert_close(found[sets == number], wanted, atol=1e-4, rtol=1e-4)
    own = embed(model, split, replace(embed_config, set_use=None))
    assert not torch.allclose(found, own, atol=1e-2)
    torch.testing.assert_close(
        embed(model, split, replace(embed_config, set_use=None)), own
    )  # the model itself is untouched


def test_a_network_without_batchnorm_is_told(digits):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    model = metalora.adapt(net, metalora.AdapterConfig("original"))
    with pytest.raises(InputError, match="no BatchNorm"):
        embed(model, digits.splits["seen query"], EmbedConfig(set_size=4, set_use="bn-adapted", device="cpu"))
