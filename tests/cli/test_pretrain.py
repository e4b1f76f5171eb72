"""`pretrain`."""

import json

import numpy as np
from calling import run
from PIL import Image


def test_pretrain_writes_a_card_without_paths_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.training.pretraining.HELD_OUT_PER_CLASS", 1)
    monkeypatch.setattr("metalora.suites.class_folders.HELD_OUT_PER_CLASS", 1)
    rng = np.random.default_rng(0)
    for side, count in (("train", 65), ("test", 1)):
        for label in ("a", "b"):
            (tmp_path / "data" / side / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / side / label / f"{i}.png")
    call = ["pretrain", "resnet20", "--data", tmp_path / "data", "--epochs", "1", "--device", "cpu"]
    run(*call, "--out", tmp_path / "out", "--checkpoint", tmp_path / "state")
    card = json.loads((tmp_path / "out/resnet20.json").read_text())
    assert card["command"] == "python -m metalora pretrain resnet20 --data data --epochs 1 --seed 0 --precision float32"
    assert str(tmp_path) not in json.dumps(card)
    assert (tmp_path / "out/resnet20.safetensors").is_file()
