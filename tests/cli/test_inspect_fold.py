"""`inspect` and `fold`: they agree with the library."""

import json

import numpy as np
import pytest
import torch
from calling import arrays, refused, run
from safetensors.torch import load_file

import metalora
import metalora.inspection.user_images


def test_a_pool_shares_one_core(tmp_path, trained, pictures):
    for name, flags in (("own", []), ("pool", ["--pool"])):
        arguments = [pictures / "cat/1.png", pictures / "cat/2.png", "--adapter", trained / "adapter", *flags]
        run("inspect", *arguments, "--json", tmp_path / f"{name}.json")
    own, pool = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "pool"))
    assert own["images"][0]["cores"] != own["images"][1]["cores"]
    assert pool["images"][0]["cores"] == pool["images"][1]["cores"]
    assert pool["similarity"][0][1] == pytest.approx(1)


def test_inspect_agrees_with_the_library(tmp_path, trained, pictures):
    file = pictures / "dog/1.png"
    run("inspect", file, "--adapter", trained / "adapter", "--json", tmp_path / "i.json", "--out", tmp_path / "i.npz")
    said = json.loads((tmp_path / "i.json").read_text())
    model = metalora.load(trained / "adapter")
    pixels = metalora.inspection.user_images.read_paths([file], model.backbone.image_size).images()
    cores = model.generate(pixels)
    for name, layer in model.layers.items():
        assert np.allclose(said["images"][0]["cores"][name], cores[name][0].tolist(), atol=1e-6)
        strength = model.delta_weight(name, cores)[0].norm() / layer.base.weight.norm()
        assert said["images"][0]["strength"][name] == pytest.approx(strength.item(), rel=1e-5)
    assert arrays(tmp_path / "i.npz")["layers"].tolist() == list(model.layers)


def test_inspect_of_a_static_method_says_that_it_is_constant(static, pictures):
    assert "one constant adapter" in run("inspect", pictures, "--adapter", static).output


def test_fold_gives_weights_of_the_plain_backbone(tmp_path, trained, pictures):
    file, out = pictures / "cat/1.png", tmp_path / "f.safetensors"
    run("fold", file, "--adapter", trained / "adapter", "--out", out)
    card = json.loads((tmp_path / "f.json").read_text())
    assert (card["backbone"], card["images"]) == ("resnet20", ["1.png"])
    plain = metalora.load_backbone(card["backbone"], image_size=card["image_size"])
    plain.net.load_state_dict(load_file(out))
    model = metalora.load(trained / "adapter")
    image = metalora.inspection.user_images.read_paths([file], card["image_size"]).images()
    assert torch.allclose(plain(image), model(image), atol=1e-5)


def test_fold_of_a_static_method_needs_no_image(tmp_path, static, trained):
    run("fold", "--adapter", static, "--out", tmp_path / "f.safetensors")
    assert "name one or more images" in refused(
        "fold", "--adapter", trained / "adapter", "--out", tmp_path / "g.safetensors"
    )
    assert not (tmp_path / "g.safetensors").exists()


def test_export_writes_a_lora_of_peft_for_the_mean_core_of_images(tmp_path, trained, pictures):
    file = pictures / "cat/1.png"
    run("export", file, "--adapter", trained / "adapter", "--out", tmp_path / "lora", "--json", tmp_path / "e.json")
    said = json.loads((tmp_path / "e.json").read_text())
    assert said["images"] == ["1.png"] and said["largest_difference"] is None
    model = metalora.load(trained / "adapter")
    image = metalora.inspection.user_images.read_paths([file], model.backbone.image_size).images()
    lora = metalora.load(tmp_path / "lora", metalora.load_backbone("resnet20", image_size=model.backbone.image_size))
    torch.testing.assert_close(lora(image), model(image), atol=1e-4, rtol=1e-4)
    assert "name one or more images" in refused("export", "--adapter", trained / "adapter", "--out", tmp_path / "none")


def test_export_writes_the_folded_network_of_a_static_method(tmp_path, static):
    assert "outputs equal to" in run("export", "--adapter", static, "--out", tmp_path / "plain.pt2").output
    assert "neither .onnx nor .pt2" in refused("export", "--adapter", static, "--out", tmp_path / "plain.bin")
    assert [file.name for file in tmp_path.iterdir()] == ["plain.pt2"]
