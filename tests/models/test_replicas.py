"""Replicas of nn.DataParallel, made on the CPU, compute with their own parts."""

import sys

import pytest
import torch

import metalora
from metalora.adapters.config import AdapterConfig

EXTRACTORS = ("self", "stem", "resnet20")


@pytest.fixture
def replica(monkeypatch):
    """replica(model): as DataParallel makes it for a second device, which here is the CPU too."""
    replication = sys.modules["torch.nn.parallel.replicate"]
    monkeypatch.setattr(
        replication,
        "_broadcast_coalesced_reshape",
        lambda tensors, devices, detach=False: [[t.clone() for t in tensors] for _ in devices],
    )
    return lambda model: replication.replicate(model, [0])[0]


@pytest.mark.parametrize(
    ("method", "settings"),
    [(method, {"extractor": name}) for method in ("lora", "metalora-cp", "metalora-tr") for name in EXTRACTORS],
)
def test_a_replica_uses_its_own_tensors_only(method, settings, replica, randomise):
    model = metalora.adapt("resnet20", AdapterConfig(method, rank=2, modules_to_save=r"layer3\..*bn1$", **settings))
    randomise(model.trained, scale=0.1)
    images = torch.rand(3, 3, 32, 32)
    expected = model(images)
    copy = replica(model)
    with torch.no_grad():  # what the copy still reads of the original would show
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    output = copy(images)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4)
    output.sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name.endswith(".B"))
    assert all(copy.layers[name] is not layer for name, layer in model.layers.items())
