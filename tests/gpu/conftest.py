"""The device that tests of this folder compute on: CUDA where there is one, else the CPU, with small shapes.

`bash tests/gpu/run.sh` names a file in GPU_ROWS, to which tests append what they measured.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from suite_checks import write_images

import metalora


@pytest.fixture(scope="session")
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def record(device):
    """Appends a row to the file of measurements, if there is one."""

    def write(**row):
        if file := os.environ.get("GPU_ROWS"):
            with Path(file).open("a") as rows:
                rows.write(json.dumps({"device": device.type, "torch": torch.__version__, **row}) + "\n")

    return write


@pytest.fixture(autouse=True)
def exact_float32():
    """Keep float32 products in float32: convolutions on CUDA take TensorFloat-32, of 10 bits, by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture(scope="session")
def suite(tmp_path_factory):
    """Four tasks with two classes of random images, made of two factors of two values."""
    folder = tmp_path_factory.mktemp("suite")
    for seed, path in enumerate(f"{task}/{kind}" for task in "abcd" for kind in ("cat", "dog")):
        write_images(folder / path, 12, seed)
    loaded = metalora.load_suite(f"folder:{folder}", image_size=16, hold_out=["d"])
    indices = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    return replace(loaded, factors=(("upright", "turned"), ("plain", "inverted")), factor_indices=indices)
