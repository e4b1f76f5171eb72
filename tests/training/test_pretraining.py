"""Pretraining of the bundled backbones, on made-up pictures."""

import json

import pytest
import torch
from PIL import Image

import metalora.models.backbones
from metalora.models.backbones import load_backbone
from metalora.suites import class_folders
from metalora.training.pretraining import Pretraining, crop_and_flip, cut_out
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two classes, dark and light, 12 training and 4 test pictures each; 2 of each class are held out."""
    monkeypatch.setattr(class_folders, "HELD_OUT_PER_CLASS", 2)
    monkeypatch.setattr("metalora.training.pretraining.HELD_OUT_PER_CLASS", 2)
    for split, count in (("train", 160), ("test", 4)):
        for name, level in (("dark", 40), ("light", 200)):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (32, 32), (level + i % 20, level, level)).save(folder / f"{i:03}.png")
    return tmp_path / "data"


def test_weights_and_card_are_written_and_serve(pictures, tmp_path, monkeypatch):
    run = Pretraining("resnet20", pictures, epochs=2, seed=1, device="cpu")
    events = list(run.fit())
    cycles = len(run.recipe.cycles)
    assert len(events) == 2 * cycles * (len(run.splits["train"][0]) // 128)
    card = run.save(tmp_path / "assets", "python -m metalora pretrain resnet20")
    assert json.loads(json.dumps(card)) == json.loads((tmp_path / "assets" / "resnet20.json").read_text())
    assert card["seed"] == 1 and card["epochs"] == 2 * cycles and 0 <= card["test_accuracy"] <= 1
    assert len(card["validation_images"]) == 4
    monkeypatch.setattr(metalora.models.backbones, "ASSETS", tmp_path / "assets")
    images = torch.rand(3, 3, 32, 32)
    run.net.eval().reset_classifier(0)
    with torch.no_grad():
        ours, loaded = run.net(run.preprocess(images)), load_backbone("resnet20")(images)
    assert torch.allclose(ours, loaded, atol=1e-6)


def test_held_out_pictures_are_never_trained_on(pictures):
    run = Pretraining("resnet20", pictures, epochs=1, device="cpu")
    assert run.validation_names == [f"train/{c}/{i}.png" for c in ("dark", "light") for i in (158, 159)]
    assert len(run.splits["train"][0]) == 2 * 158
    assert len(run.splits["validation"][0]) == 4


def test_crop_and_flip_moves_and_mirrors_each_image_for_itself():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, 3, 2] = 255
    out = crop_and_flip(image.expand(400, -1, -1, -1), seeded_generator(0), margin=2)
    assert out.shape == (400, 3, 8, 8) and out.dtype == torch.uint8
    rows, columns = (out[:, 0] == 255).nonzero()[:, 1:].unbind(1)
    assert len(rows) == 400  # a point so far inside is never cut off
    assert set(rows.tolist()) == {1, 2, 3, 4, 5}
    assert set(columns.tolist()) == {0, 1, 2, 3, 4} | {3, 4, 5, 6, 7}


def test_cut_out_greys_a_square_somewhere_in_each_image():
    out = cut_out(torch.zeros(400, 3, 16, 16, dtype=torch.uint8), 6, seeded_generator(0))
    assert out.dtype == torch.uint8 and set(out.unique().tolist()) == {0, 128}
    assert torch.equal(out[:, 0], out[:, 2])
    rows, columns = (out[:, 0] == 128).any(2).sum(1), (out[:, 0] == 128).any(1).sum(1)
    assert torch.equal(rows * columns, (out[:, 0] == 128).sum((1, 2)))  # a filled rectangle
    assert rows.max() == columns.max() == 6 and 3 <= rows.min() <= 4  # cut off at the border by half at most
    assert len({tuple(image.flatten().nonzero()[0].tolist()) for image in out[:, 0]}) > 50


def test_a_run_resumes_in_its_second_cycle(pictures, tmp_path):
    def trained(checkpoint, leave_at=None):
        run = Pretraining("mixer_nano", pictures, epochs=1, device="cpu")
        for event in run.fit(checkpoint):
            if event.step == leave_at:
                break
        return run.net.state_dict(), event

    whole, last = trained(None)
    assert last.steps == 2 and last.step == 2
    trained(tmp_path / "run.ckpt", leave_at=1)
    resumed, _ = trained(tmp_path / "run.ckpt")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(("arguments", "said"), [({"name": "resnet50"}, "only resnet20"), ({"epochs": 0}, "0 epochs")])
def test_what_cannot_be_pretrained_is_refused(arguments, said, tmp_path):
    with pytest.raises(InputError, match=said):
        Pretraining(**{"name": "resnet20", "source": tmp_path, **arguments})
