"""The rivals of studies: fine-tuning of all weights, and a generated gain and offset of every output (FiLM)."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import metalora
from metalora.adapters.cores import Cores
from metalora.adapters.formats import make_format
from metalora.adapters.forward_context import forward_context
from metalora.adapters.layers import ADAPTED, Adapter
from metalora.adapters.methods import METHODS
from metalora.experiments.variants import parse_variant
from metalora.inspection.inspect_images import inspect_images
from metalora.plots.diagram import network
from metalora.training.config import TrainingConfig
from metalora.training.fit import fit
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

LAYERS = {
    "linear": (nn.Linear(5, 6), (4, 5)),
    "tokens": (nn.Linear(5, 6, bias=False), (4, 3, 5)),
    "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 4, 8, 7)),
    "groups": (nn.Conv2d(4, 6, (3, 1), groups=2, bias=False), (4, 4, 8, 7)),
}


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded_generator(seed))


def layer_of(base, method):
    config = metalora.AdapterConfig(method)
    adapter = Adapter(base.double(), make_format(config, 2, len(base.weight)), 1.0, 0.0, seeded_generator(0))
    return ADAPTED[type(base)]("layer", base.double(), adapter)


def applied(base, x, weight, bias):
    """The base with another weight and bias."""
    if isinstance(base, nn.Linear):
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, base.stride, base.padding, base.dilation, base.groups)


@pytest.mark.parametrize("kind", LAYERS)
def test_full_fine_tuning_trains_every_entry_of_the_weight(kind):
    base, shape = LAYERS[kind]
    layer, x = layer_of(base, "full"), numbers(*shape)
    torch.testing.assert_close(layer(x), base(x))  # ΔW is 0 at the start
    with torch.no_grad():
        layer.adapter.A.copy_(numbers(*layer.adapter.A.shape, seed=1))
    assert layer.adapter.A.numel() == base.weight.numel()
    torch.testing.assert_close(layer(x), applied(base, x, base.weight + layer.delta()[0], base.bias))


@pytest.mark.parametrize("cores", [4, 1])
@pytest.mark.parametrize("kind", LAYERS)
def test_film_is_a_gain_of_the_weight_and_an_offset(kind, cores):
    base, shape = LAYERS[kind]
    layer, x, core = layer_of(base, "film"), numbers(*shape), numbers(cores, 2, 6, seed=2)
    assert not list(layer.adapter.parameters())
    with forward_context(cores=Cores({"layer": core})):
        found = layer(x)
    for i in range(4):
        gain, offset = core[i % cores]
        weight = base.weight * (1 + gain.view(-1, *[1] * (base.weight.ndim - 1)))
        bias = offset if base.bias is None else base.bias + offset
        torch.testing.assert_close(found[i : i + 1], applied(base, x[i : i + 1], weight, bias))
        torch.testing.assert_close(layer.delta(core)[i % cores], weight - base.weight)


@pytest.mark.parametrize("method", ["full", "film"])
def test_a_folded_rival_is_an_ordinary_network(method):
    backbone = metalora.load_backbone("resnet20", image_size=16).double()
    model = metalora.adapt(backbone, metalora.AdapterConfig(method))
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=seeded_generator(4))
    torch.testing.assert_close(model(images), backbone(images))
    with torch.no_grad():
        for i, parameter in enumerate(model.trained.parameters()):
            parameter.add_(0.05 * numbers(*parameter.shape, seed=i))
    cores = model.generate(images)[1] if model.generated else None
    wanted = model(images, cores=cores) if model.generated else model(images)
    assert not torch.allclose(wanted, backbone(images))
    torch.testing.assert_close(model.fold(cores)(images), wanted)
    name = next(iter(model.layers))
    delta = model.delta_weight(name, cores)[0].detach()
    found = inspect_images(model, images).strength[name].iloc[1 if model.generated else 0]
    assert found == pytest.approx(float(delta.norm() / model.layers[name].weight.norm()), rel=1e-5)


@pytest.mark.parametrize("method", ["full", "film"])
def test_a_rival_learns(method, tmp_path):
    suite = metalora.load_suite("digits", image_size=8, max_queries=60)
    factors = tuple(map(len, suite.factors)) if METHODS[method].generated else ()
    config = metalora.AdapterConfig(method, factors=factors)
    model = metalora.adapt(metalora.load_backbone("resnet20", image_size=8), config)
    training = TrainingConfig(steps=30, batch_size=32, set_size=4, lr=3e-3, device="cpu")
    losses = [event.metrics["loss"] for event in fit(model, suite, training, validate_last=False)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    model.save(tmp_path / "rival")
    images = suite.splits["seen query"][:4].images()
    torch.testing.assert_close(metalora.load(tmp_path / "rival")(images), model(images))


def test_rivals_are_rows_of_a_comparison():
    assert (
        parse_variant("film-factors@8").generated
        and parse_variant("film-factors@8").title == "Generated FiLM, factor code, sets of 8"
    )
    assert parse_variant("full").static and parse_variant("full@8-routed").static
    with pytest.raises(InputError, match="has no core"):
        parse_variant("full-shuffled")
    model = metalora.adapt("resnet20", metalora.AdapterConfig("film"))
    assert "core (2×16)" in network(model, "conv1")
