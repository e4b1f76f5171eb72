"""Inputs of the verbs: images, a trained run, a saved static adapter."""

import numpy as np
import pytest
import torch
from calling import QUICK, run
from PIL import Image

import metalora


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Processes of their own take seconds to start: run jobs in this one."""
    monkeypatch.setattr("metalora.experiments.executor.joblib.cpu_count", lambda: 1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """PATH/class/image with one broken file."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(folder / name)
    (folder / "cat/broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of Meta-LoRA TR, by the command line."""
    folder = tmp_path_factory.mktemp("runs") / "tr"
    run("train", folder, *QUICK, "--targets", "layer1.0", "--json", folder.parent / "train.json")
    return folder


@pytest.fixture(scope="session")
def static(tmp_path_factory):
    """A saved LoRA whose update is not zero."""
    model = metalora.adapt("resnet20", metalora.AdapterConfig("lora", rank=2, targets=("layer1.0",)))
    with torch.no_grad():
        for parameter in model.trained.parameters():
            parameter.add_(0.01)
    model.save(tmp_path_factory.mktemp("static") / "lora")
    return tmp_path_factory.getbasetemp() / "static0" / "lora"
