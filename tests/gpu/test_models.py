"""Whole models on a GPU: the embeddings of the CPU, in both precisions, and the frozen network bit for bit."""

import pytest
import torch

import metalora
from metalora.util.device import autocast

# Relative, of the norm: float32 in another order over twenty layers; bfloat16 rounds the activations of each by 2⁻⁹.
TOLERANCES = {"float32": 1e-5, "bfloat16": 0.02}


@pytest.fixture(params=["resnet20", "mixer_nano"])
def backbone(request):
    return metalora.load_backbone(request.param)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr"])
def test_embeddings_are_those_of_the_cpu(backbone, method, precision, device, randomise, record):
    model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2)).eval()
    images = torch.rand(32 if device.type == "cuda" else 4, 3, 32, 32)
    model.prepare(images)
    randomise(model.trained.adapters, scale=0.1)
    with torch.no_grad():
        wanted = model(images)
        model.to(device)
        with autocast(device, precision):
            found = model(images.to(device)).float().cpu()
            if model.config.generates:
                assert model.generate(images.to(device)).flatten().dtype == torch.float32
    error = float((found - wanted).norm() / wanted.norm())
    record(test="embedding", backbone=backbone.name, method=method, precision=precision, error=error)
    assert error < TOLERANCES[precision]


def test_disabled_is_the_original_bit_for_bit(backbone, device, randomise):
    images = torch.rand(4, 3, 32, 32, device=device)
    model = metalora.adapt(backbone.to(device), metalora.AdapterConfig(rank=2))
    randomise(model.trained.adapters)
    with torch.no_grad(), model.disabled():
        assert torch.equal(model(images), backbone(images))


def test_a_folded_network_gives_what_the_adapter_gives(backbone, device, randomise, close):
    images = torch.rand(4, 3, 32, 32, device=device)
    model = metalora.adapt(backbone.to(device), metalora.AdapterConfig(rank=2)).eval()
    randomise(model.trained.adapters, scale=0.1)
    with torch.no_grad():
        cores = model.generate(images)
        close(model.fold(cores[1])(images[1:2]), model(images[1:2], cores=cores[1]), 1e-5)


def test_an_adapter_of_the_gpu_is_loaded_on_the_cpu(backbone, device, randomise, close, tmp_path):
    images = torch.rand(2, 3, 32, 32)
    model = metalora.adapt(backbone.to(device), metalora.AdapterConfig(rank=2))
    randomise(model.trained.adapters, scale=0.1)
    model.save(tmp_path / "adapter")
    with torch.no_grad():
        close(metalora.load(tmp_path / "adapter")(images), model(images.to(device)).cpu(), 1e-5)
