"""Networks in ONNX and as programs of torch: whole pipelines and folded ones, with batches of any size."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import metalora
from metalora.models import exporting
from metalora.models.exporting import export
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


def pictures(count, size=16):
    return torch.rand(count, 3, size, size, generator=seeded_generator(count))


def run_onnx(file, images):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


@pytest.mark.parametrize(
    "name",
    [
        "resnet20/metalora-tr",
        pytest.param("resnet20/metalora-cp", marks=pytest.mark.slow),
        pytest.param("resnet20/lora", marks=pytest.mark.slow),
        pytest.param("mixer_nano/metalora-tr", marks=pytest.mark.slow),
        pytest.param("mixer_nano/metalora-cp", marks=pytest.mark.slow),
        pytest.param("mixer_nano/multi-lora", marks=pytest.mark.slow),
    ],
)
def test_the_whole_pipeline_in_onnx_gives_each_image_its_own_adapter(name, tmp_path):
    model = metalora.load(name)
    assert export(model, tmp_path / "pipeline.onnx") < 1e-4
    for count in (1, 5):
        images = pictures(count)
        found, wanted = run_onnx(tmp_path / "pipeline.onnx", images), model(images).detach()
        assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    if model.generated:
        other = model(images, cores=model.generate(images)[0]).detach()
        assert float((found - other).abs().max()) > 1e-2 * float(wanted.abs().max())


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_folded_network_is_exported(suffix, tmp_path):
    model = metalora.load("mixer_nano/metalora-cp")
    cores = model.generate(pictures(1))
    assert export(model.fold(cores), tmp_path / f"folded{suffix}", pictures(1)) < 1e-5
    images, wanted = pictures(3), model(pictures(3), cores=cores).detach()
    if suffix == ".onnx":
        found = run_onnx(tmp_path / "folded.onnx", images)
    else:
        found = torch.export.load(tmp_path / "folded.pt2").module()(images).detach()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in metalora.METHODS if name != "original"])
def test_every_method_is_exported_whole(method, tmp_path):
    model = metalora.adapt("resnet20", metalora.AdapterConfig(method, rank=1).with_tasks(2))
    with torch.no_grad():
        for i, parameter in enumerate(model.trained.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=seeded_generator(i)))
    assert export(model, tmp_path / "it.onnx", pictures(1, 32)) < 1e-4
    assert export(model, tmp_path / "it.pt2", pictures(1, 32)) < 1e-4


def test_what_cannot_be_exported_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    model = metalora.load("resnet20/lora")
    with pytest.raises(InputError, match=r"is neither .onnx nor .pt2"):
        export(model, tmp_path / "model.bin")
    with pytest.raises(InputError, match=r"give export\(\) an example"):
        export(nn.Linear(2, 2), tmp_path / "model.pt2")

    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(InputError, match=r"torch.export fails on this network .* export what fold\(\) returns"):
        export(Branches(), tmp_path / "model.pt2", torch.ones(1, 3))
    monkeypatch.setattr(exporting, "_runner", lambda file, suffix: lambda images: torch.full((len(images), 3), np.nan))
    with pytest.raises(InputError, match="would give other outputs"):
        export(nn.Linear(3, 3), tmp_path / "model.pt2", torch.ones(1, 3))
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ONNX needs onnx and .*: pip install 'metalora\[onnx\]'"):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_exporting_leaves_the_network_as_it_was(tmp_path):
    network = nn.Sequential(nn.Linear(3, 4), nn.Dropout()).train()
    export(network, tmp_path / "net.pt2", torch.ones(1, 3))
    assert network.training
