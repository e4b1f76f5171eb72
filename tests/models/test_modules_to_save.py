"""Modules that are trained as a whole beside the adapters, and parts that were unfrozen otherwise."""

import pytest
import torch
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.util.errors import InputError


def settings(method, *patterns, **others):
    return AdapterConfig(method, rank=2, modules_to_save=patterns, **others)


def step(model, images):
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.train()
    model(images).square().sum().backward()
    torch.optim.SGD(parameters, lr=1e-3).step()
    model.eval()
    return model


@pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr", "film"])
def test_norms_and_a_head_are_trained_saved_and_loaded(method, small_net, images, tmp_path, close):
    original = {name: value.clone() for name, value in small_net.state_dict().items()}
    model = step(metalora.adapt(small_net, settings(method, "norm", "head$"), example=images), images)
    assert list(model.saved_modules) == ["norm", "head"]
    assert set(model.layers) == {"conv", "grouped", "token"}
    for name, wrapper in model.saved_modules.items():
        assert not torch.equal(wrapper.copy.weight, original[f"{name}.weight"])
        assert torch.equal(wrapper.base.weight, original[f"{name}.weight"])
    assert not torch.equal(model.saved_modules["norm"].copy.running_mean, original["norm.running_mean"])
    with model.disabled():
        assert torch.equal(model(images), small_net.eval()(images))
    model.save(tmp_path)
    loaded = metalora.load(tmp_path, backbone=small_net)
    assert torch.equal(loaded(images), model(images))
    core = model.generate(images)[0] if model.generated else None
    close(model.fold(core)(images[:1]), model(images[:1]), 1e-5)
    assert not any(isinstance(m, metalora.adapters.trained_copy.TrainedCopy) for m in model.fold(core).modules())


def test_a_trained_norm_is_not_folded_into_its_convolution(small_net, images):
    model = metalora.adapt(small_net, settings("lora", "norm"), example=images)
    assert model.backbone.folds == []
    with torch.no_grad():
        before = model(images)
        model.saved_modules["norm"].copy.weight.mul_(2)
    assert not torch.allclose(model(images), before)


def test_a_linear_probe_is_the_original_with_a_trained_head(small_net, images, tmp_path):
    model = step(metalora.adapt(small_net, settings("original", "head"), example=images), images)
    assert {name for name, _ in model.trained.named_parameters()} == {
        "modules_to_save.head.weight",
        "modules_to_save.head.bias",
    }
    model.save(tmp_path)
    assert torch.equal(metalora.load(tmp_path, backbone=small_net)(images), model(images))


def test_modules_beside_a_backbone_of_half_precision_are_trained_in_full(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 4)).bfloat16()
    example = torch.rand(3, 12).bfloat16()
    model = metalora.adapt(net, settings("lora", "^2$", "^3$"), example=example)
    assert {p.dtype for p in model.trained.parameters()} == {torch.float32}
    assert model(example).dtype == torch.bfloat16
    torch.testing.assert_close(model(example).float(), net(example).float(), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (settings("lora", "nrom"), "The pattern 'nrom' matches no module: there are"),
        (settings("lora", "conv", "grouped", "token", "head"), "No layer is left to adapt beside modules_to_save"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused(config, said, small_net, images):
    with pytest.raises(InputError, match=said):
        metalora.adapt(small_net, config, example=images)


def test_a_module_of_the_stem_is_refused(small_net):
    with pytest.raises(InputError, match="'bn1' belongs to the stem, which stays frozen: use extractor self"):
        metalora.adapt("resnet20", settings("metalora-cp", "^bn1", extractor="stem"))


def test_what_is_unfrozen_otherwise_gets_its_gradient_and_is_not_saved_in_silence(small_net, images, tmp_path):
    model = metalora.adapt(small_net, settings("lora"), example=images)
    model.backbone.net.norm.requires_grad_(True)
    model(images).sum().backward()
    assert model.backbone.net.norm.weight.grad is not None
    with pytest.raises(InputError, match=r"norm.weight of the frozen part \(and 1 more\) requires a gradient"):
        model.save(tmp_path / "refused")
    model.backbone.net.norm.requires_grad_(False)
    model.save(tmp_path / "saved")


def test_the_modules_are_part_of_the_budget_and_trained_by_fit(small_net, images):
    model = metalora.adapt("mixer_nano", settings("lora", "^norm$"))
    assert model.budget().loc["norm (trained)", "adapter_parameters"] == 2 * 96
    before = model.saved_modules["norm"].copy.weight.clone()
    events = list(metalora.fit(model, metalora.load_suite("digits"), metalora.TrainingConfig(steps=1, device="cpu")))
    assert "modules" in events[0].lrs
    assert not torch.equal(model.saved_modules["norm"].copy.weight, before)
