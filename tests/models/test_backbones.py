"""Names → networks with their preprocessing, and adapting networks of many kinds."""

import sys

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torchvision.transforms.v2 import Normalize

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.models.adapt import build_model
from metalora.models.backbones import Backbone, check_embeddings, image_size_for, load_backbone
from metalora.models.bundled_networks import BUNDLED
from metalora.models.normalise import Normalise
from metalora.util.errors import InputError, LayersLeftOut


@pytest.mark.parametrize(("name", "width"), [("resnet20", 64), ("mixer_nano", 96)])
def test_bundled_networks_take_any_size_and_give_embeddings(name, width):
    backbone = load_backbone(name)
    assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, width)
    assert backbone(torch.rand(2, 3, 50, 41)).shape == (2, width)
    assert not backbone.training
    assert list(backbone.stages) == list(BUNDLED[name].stages)


def test_images_are_resized_and_normalised_inside():
    backbone = load_backbone("resnet20", pretrained=False)
    seen = []
    backbone.net.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.rand(2, 3, 32, 32)
    backbone(images)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (BUNDLED["resnet20"].mean, BUNDLED["resnet20"].std))
    torch.testing.assert_close(seen[0], (images - mean) / std)
    backbone(torch.rand(2, 3, 48, 20))
    assert seen[1].shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.rand(2, 1, 32, 32), torch.rand(3, 32, 32)],
    ids=["bytes", "grey", "one image without an axis"],
)
def test_images_of_another_kind_are_refused(images):
    with pytest.raises(InputError, match=r"resnet20 takes float RGB in \[0, 1\], \(N, 3, H, W\), not "):
        load_backbone("resnet20", pretrained=False)(images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_backbone("resnet_of_mine"), "Unknown backbone 'resnet_of_mine': use resnet20, mixer_nano"),
        (lambda: load_backbone("resnet1"), "Did you mean resnet18"),
        (lambda: load_backbone("mixer_nano", image_size=64), "mixer_nano takes images of 32 pixels only"),
        (lambda: load_backbone("resnet18"), "weights of 'resnet18' are not on this machine: add --download"),
        (lambda: load_backbone("resnet18.no_such_tag", pretrained=False), "timm cannot make 'resnet18.no_such_tag'"),
        (lambda: load_backbone("resnet20", image_size=(64, 128)), r"image_size is \(64, 128\): use a whole number"),
    ],
)
def test_a_backbone_that_cannot_be_loaded_is_refused_with_the_reason(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_network_of_any_size_does_not_enlarge_small_images():
    assert [image_size_for("resnet20", size) for size in (8, 100)] == [8, 32]
    assert image_size_for("mixer_nano", 8) is image_size_for("resnet18", 8) is None
    backbone = load_backbone("resnet20", image_size=16, pretrained=False)
    assert backbone.image_size == 16
    assert backbone(torch.rand(1, 3, 8, 8)).shape == (1, 64)


def test_an_output_that_is_no_embedding_is_refused():
    with pytest.raises(InputError, match=r"The backbone gives \(2, 4, 3, 3\) for 2 images: make it give embeddings"):
        check_embeddings(Backbone(nn.Conv2d(3, 4, 3))(torch.rand(2, 3, 5, 5)), 2)
    with pytest.raises(InputError, match="The backbone gives tuple for 2 images"):
        check_embeddings(Backbone(nn.LSTM(3, 4))(torch.rand(2, 6, 3)), 2)


def test_a_model_is_built_at_the_size_that_suits_the_images():
    assert build_model("resnet20", AdapterConfig(rank=2), image_size=16).backbone.image_size == 16
    assert build_model("mixer_nano", AdapterConfig(rank=2), image_size=16).backbone.image_size == 32
    assert build_model("resnet20", AdapterConfig(rank=2), image_size=None).backbone.image_size == 32


def test_another_package_adds_a_backbone_through_the_registry_of_timm(tmp_path):
    shape = {"block": BasicBlock, "layers": (1, 1, 1, 1)}

    def toy_convnet(pretrained=False, **settings):
        return build_model_with_cfg(ResNet, "toy_convnet", pretrained, **shape, **settings)

    weights = tmp_path / "toy.safetensors"
    cfg = {"file": str(weights), "num_classes": 7, "input_size": (3, 40, 40), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    cfg |= {
        "pool_size": (2, 2),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "classifier": "fc",
        "first_conv": "conv1",
    }
    toy_convnet.__module__ = __name__
    sys.modules[__name__].default_cfgs = generate_default_cfgs({"toy_convnet.here": cfg})
    register_model(toy_convnet)
    net = ResNet(num_classes=7, **shape)
    save_file(net.state_dict(), weights)
    model = build_model("toy_convnet.here", AdapterConfig(rank=2), image_size=28)
    assert model.backbone.image_size == 40 and len(model.backbone.stages) == 4
    assert torch.equal(model.backbone.net.layer1[0].conv1.weight, net.layer1[0].conv1.weight)
    assert model(torch.rand(2, 3, 28, 28)).shape == (2, 512)


TIMM = ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"]


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.filterwarnings("ignore:Not adapted")  # the depthwise and squeezing layers of some are narrow
def test_networks_of_timm_give_every_image_its_own_adapter(name, randomise):
    torch.manual_seed(0)
    backbone = load_backbone(name, pretrained=False, image_size=None if name.startswith(("vit", "swin")) else 64)
    model = metalora.adapt(backbone, AdapterConfig(rank=2, code=4, hidden=4, head_init_std=0.1))
    with torch.no_grad():
        for layer in model.layers.values():
            randomise(layer.adapter)
            layer.adapter.B.mul_(0.1)
    images = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    with torch.inference_mode():
        cores = model.generate(images)
        together, alone = model(images), model(images[1:], cores=cores[1])
        swapped = model(images, cores=cores[[1, 0]])
        folded = model.fold(cores[1])(images[1:])
        with model.disabled():
            original = model(images)
    assert distance(alone, together[1:]) < 1e-4
    assert distance(folded, together[1:]) < 1e-4
    assert distance(swapped, together) > 1e-2
    assert distance(together, original) > 1e-2
    assert torch.equal(original, backbone(images))


def distance(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def test_a_module_of_timm_gets_what_its_name_gets(adapt):
    net = timm.create_model("resnet18", num_classes=7)
    model = adapt(net, example=torch.rand(1, 3, 64, 64))
    named = load_backbone("resnet18", pretrained=False)
    assert model.backbone.stages == named.stages
    assert model.backbone.channels_last and len(model.backbone.folds) == 20
    assert model.mapping.hidden.in_features == 12 + 6 * (64 + 128 + 256 + 512)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 7)
    assert len(adapt(net, extractor="stem", example=torch.rand(1, 3, 64, 64)).layers) < len(model.layers)


def test_a_classifier_is_read_before_its_logits(small_net, images, adapt, close):
    model = adapt(small_net, example=images)
    assert model.backbone.head == "head"
    features = model.features(images)
    assert features.shape == (4, 12)
    with torch.no_grad():
        close(small_net.eval().head(features), small_net(images), 1e-6)
    late = adapt(small_net)
    late(images)
    assert torch.equal(late.features(images), features)
    assert not model.fold(model.generate(images)[0]).head._forward_pre_hooks


def test_a_classifier_of_torchvision_is_read_before_its_logits(adapt):
    model = adapt(torchvision.models.resnet18(), example=torch.rand(1, 3, 64, 64))
    assert (model.backbone.head, model.mapping.hidden.in_features) == ("fc", 512)
    assert model.backbone.channels_last and len(model.backbone.folds) == 20


def test_a_vision_transformer_takes_images_of_another_size_where_timm_can_make_it():
    backbone = load_backbone("vit_tiny_patch16_224", image_size=64, pretrained=False)
    assert (backbone.image_size, backbone.net.patch_embed.num_patches) == (64, 16)
    assert backbone(torch.rand(1, 3, 64, 64)).shape == (1, 192)


def test_a_named_network_takes_weights_of_ones_own(tmp_path, adapt):
    torch.manual_seed(0)
    net, file = timm.create_model("mobilenetv3_small_050", num_classes=3), tmp_path / "mine.safetensors"
    save_file(net.state_dict(), file)
    name = f"mobilenetv3_small_050@{file}"
    backbone = load_backbone(name, image_size=64)
    assert torch.equal(backbone.net.conv_stem.weight, net.conv_stem.weight)
    with pytest.warns(LayersLeftOut):
        model = adapt(backbone)
    model.save(tmp_path / "adapter")
    with pytest.warns(LayersLeftOut):
        loaded = metalora.load(tmp_path / "adapter")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(images), model(images))
    with pytest.raises(InputError, match=r"does not fit resnet18, .* give weights of resnet18"):
        load_backbone(f"resnet18@{file}")
    with pytest.raises(InputError, match="There is no file"):
        load_backbone("resnet18@nowhere.safetensors")


def test_a_wide_network_is_read_by_means_and_deviations_at_half_the_size(adapt):
    model = adapt(load_backbone("resnet26", pretrained=False))
    assert model.mapping.hidden.in_features == 12 + 2 * (256 + 512 + 1024 + 2048)
    seen = []
    model.backbone.net.conv1.base.register_forward_pre_hook(lambda _conv, args: seen.append(args[0].shape[-1]))
    model(torch.rand(1, 3, 40, 40))
    assert (model.backbone.image_size, seen) == (224, [128, 224])  # half, rounded up to a multiple of 32


def test_images_are_normalised_as_by_torchvision_on_every_device_and_in_every_precision():
    mean, std = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    module = Normalise(mean, std)
    assert torch.equal(module(images), Normalize(mean, std)(images))
    assert not module.state_dict()
    halved = module.half()  # which keeps the values: images decide the precision
    assert torch.equal(halved(images), Normalize(mean, std)(images))
    assert torch.equal(halved(images.bfloat16()), Normalize(mean, std)(images.bfloat16()))
    torch.testing.assert_close(halved(images.double()), Normalize(mean, std)(images.double()), rtol=1e-7, atol=1e-7)
    assert module.to("meta")(images.to("meta")).shape == images.shape
