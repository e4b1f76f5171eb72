"""The fast path against the slow one: float32 results of whole networks, and their gradients.

The slow path is the plain network, image by image, its weights W + ΔW_n built term by term from the paper's equations
(`delta_reference`): no folding of BatchNorm, no other memory layout, nothing shared between images.
"""

import copy

import pytest
import torch
from torch.func import functional_call

import metalora
from metalora.models.backbones import load_backbone

TOLERANCE = 1e-5  # relative to the norm
NETWORKS = {
    "resnet20": 32,
    "mixer_nano": 32,
    "resnet18": 64,
    "vit_tiny_patch16_224": 224,
}
SOME = {"resnet18": r"layer[134]\.1", "vit_tiny_patch16_224": r"blocks\.(0|11)\."}  # layers, for the sake of time


@pytest.fixture(scope="module")
def slow_path(delta_reference):
    def run(plain, model, images, cores):
        rows = []
        for n in range(len(images)):
            weights = {}
            for name, layer in model.layers.items():
                own = None if cores is None else cores[name][n]
                weight = plain.get_parameter(f"net.{name}.weight")
                weights[f"net.{name}.weight"] = weight + delta_reference(
                    model.config.method, **layer.factors(), core=own
                )
            rows.append(functional_call(plain, weights, (images[n : n + 1],)))
        return torch.cat(rows)

    return run


def networks(name, method, randomise):
    """A backbone with statistics of BatchNorm as after training, and the same adapted, with B that is not zero."""
    torch.manual_seed(0)
    backbone = load_backbone(name, pretrained=False, image_size=NETWORKS[name])
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # timm's residual branches begin with zero
    model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2, targets=SOME.get(name)))
    randomise(model.trained, scale=0.1)
    return copy.deepcopy(backbone).eval(), model


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["lora", "multi-lora", "metalora-cp", "metalora-tr"])
def test_whole_networks_agree(name, method, slow_path, randomise, close):
    plain, model = networks(name, method, randomise)
    images = torch.rand(3, 3, NETWORKS[name], NETWORKS[name])
    with torch.no_grad():
        cores = model.generate(images) if model.generated else None
        wanted = slow_path(plain, model, images, cores)
        assert (wanted - plain(images)).norm() > 0.01 * wanted.norm()  # the update does something
        close(model(images), wanted, TOLERANCE)


@pytest.mark.parametrize("name", ["resnet20", "mixer_nano"])
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr"])
def test_gradients_agree(name, method, slow_path, randomise, close):
    plain, model = networks(name, method, randomise)
    images = torch.rand(3, 3, 32, 32)
    cores = model.generate(images) if model.generated else None
    parameters = list(model.trained.parameters())
    found = torch.autograd.grad(model(images).square().mean(), parameters)
    wanted = torch.autograd.grad(slow_path(plain, model, images, cores).square().mean(), parameters)
    for one, other in zip(found, wanted, strict=True):
        close(one, other, 10 * TOLERANCE)
