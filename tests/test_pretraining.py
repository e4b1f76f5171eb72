"""Pretraining of the bundled backbones, on made-up pictures."""

import json

import pytest
import torch
from PIL import Image

import metalora.backbones
from metalora.backbones import load_backbone
from metalora.errors import InputError
from metalora.pretraining import Pretraining, crop_and_flip
from metalora.states import generator
from metalora.suites import class_folders


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two classes, dark and light, 12 training and 4 test pictures each; 2 of each class are held out."""
    monkeypatch.setattr(class_folders, "HELD_OUT_PER_CLASS", 2)
    monkeypatch.setattr("metalora.pretraining.HELD_OUT_PER_CLASS", 2)
    for side, count in (("train", 160), ("test", 4)):
        for name, level in (("dark", 40), ("light", 200)):
            folder = tmp_path / "data" / side / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (level + i % 20, level, level)).save(folder / f"{i:03}.png")
    return tmp_path / "data"


def test_weights_and_card_are_written_and_serve(pictures, tmp_path, monkeypatch):
    run = Pretraining("resnet20", pictures, epochs=2, seed=1, device="cpu")
    events = list(run.fit())
    assert len(events) == 2 * (len(run.sides["train"][0]) // 128)
    card = run.save(tmp_path / "assets", "python -m metalora pretrain resnet20")
    assert card == {**json.loads((tmp_path / "assets" / "resnet20.json").read_text()), "classes": ("dark", "light")}
    assert card["seed"] == 1 and card["epochs"] == 2 and 0 <= card["test_accuracy"] <= 1
    assert len(card["validation_images"]) == 4
    monkeypatch.setattr(metalora.backbones, "ASSETS", tmp_path / "assets")
    images = torch.rand(3, 3, 32, 32)
    run.net.eval().reset_classifier(0)
    with torch.no_grad():
        ours, loaded = run.net(run.preprocess(images)), load_backbone("resnet20")(images)
    assert torch.allclose(ours, loaded, atol=1e-6)


def test_held_out_pictures_are_never_trained_on(pictures):
    run = Pretraining("resnet20", pictures, epochs=1, device="cpu")
    assert run.validation_names == [f"train/{c}/{i}.png" for c in ("dark", "light") for i in (158, 159)]
    assert len(run.sides["train"][0]) == 2 * 158
    assert len(run.sides["validation"][0]) == 4


def test_crop_and_flip_moves_and_mirrors_each_image_for_itself():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, 3, 2] = 255
    out = crop_and_flip(image.expand(400, -1, -1, -1), generator(0), margin=2)
    assert out.shape == (400, 3, 8, 8) and out.dtype == torch.uint8
    rows, columns = (out[:, 0] == 255).nonzero()[:, 1:].unbind(1)
    assert len(rows) == 400  # a point so far inside is never cut off
    assert set(rows.tolist()) == {1, 2, 3, 4, 5}
    assert set(columns.tolist()) == {0, 1, 2, 3, 4} | {3, 4, 5, 6, 7}


@pytest.mark.parametrize(("arguments", "said"), [({"name": "resnet50"}, "only resnet20"), ({"epochs": 0}, "0 epochs")])
def test_what_cannot_be_pretrained_is_refused(arguments, said, tmp_path):
    with pytest.raises(InputError, match=said):
        Pretraining(**{"name": "resnet20", "source": tmp_path, **arguments})
