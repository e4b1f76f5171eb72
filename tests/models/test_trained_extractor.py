"""An extractor that is trained along: a LoRA on every layer that features are computed by, weights in memory once."""

import copy
import json

import pytest
import timm
import torch
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.adapters.layers import AdaptedLayer
from metalora.experiments.equal_budget import equal_budget, total_parameters
from metalora.models.backbones import Backbone
from metalora.models.exporting import export, open_export
from metalora.models.extractors import make_extractor
from metalora.models.loading import restore
from metalora.models.pruning import prune
from metalora.models.saving import CONFIG, WEIGHTS
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors

SETTINGS = {"rank": 2, "extractor_rank": 2}


@pytest.fixture
def pictures():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def make(adapt, randomise, pictures):
    """make(…): a ResNet-20 with an extractor that is trained along, the trained values random."""

    def made(method="metalora-tr", **settings):
        model = adapt(metalora.load_backbone("resnet20", image_size=16), method, **{**SETTINGS, **settings})
        randomise(model.trained, scale=0.1)
        model.standardise(pictures)  # or scores would be at their limit
        return model

    return made


def lora_of(model):
    """The adapters of the extractor, by layer."""
    return {m.name: m for m in model.extractor.modules() if isinstance(m, AdaptedLayer)}


def storages(module):
    """Where the floating points of a network are, that of its preprocessing aside."""
    tensors = [*module.net.parameters(), *module.net.buffers()]
    return {t.untyped_storage().data_ptr() for t in tensors if t.is_floating_point()}


@pytest.mark.parametrize("extractor", ["self", "resnet20"])
def test_it_starts_as_the_frozen_one(extractor, tiny_resnet, pictures):
    learning, frozen = (tiny_resnet(extractor=extractor, extractor_rank=rank) for rank in (2, 0))
    assert torch.equal(learning.features(pictures), frozen.features(pictures))
    assert torch.equal(learning(pictures), frozen(pictures))


def test_features_are_those_of_a_network_with_the_updates_in_its_weights(make, pictures):
    model = make().double()
    pictures, layers = pictures.double(), lora_of(model)
    assert layers.keys() == model.layers.keys()
    plain = copy.deepcopy(model.backbone)
    for name, layer in layers.items():
        # The frozen weight of the adapted backbone, in a pass without its adapters.
        plain.net.get_submodule(name).base.weight.data += layer.delta()[0]
    wanted = make_extractor("self", plain)(pictures)
    torch.testing.assert_close(model.features(pictures), wanted, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(wanted, make_extractor("self", model.backbone)(pictures))


@pytest.mark.parametrize("extractor", ["self", "resnet20"])
@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr", "film"])
def test_the_gradient_reaches_every_factor(method, extractor, make, pictures):
    model = make(method, extractor=extractor).train()
    model(pictures).square().sum().backward()
    gradients = {name: p.grad for name, p in model.trained.extractor.named_parameters()}
    assert len(gradients) == 2 * len(lora_of(model)) and all(g.count_nonzero() for g in gradients.values())
    assert all(p.grad is None for p in model.frozen.parameters())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "efficientnet_b0"])
@pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")
def test_layers_behind_the_last_stage_are_left_alone(name, adapt, randomise):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "embed_dim": 48, "depth": 3} if name.startswith("vit") else {}
    net, images = timm.create_model(name, num_classes=0, **sizes).eval(), torch.rand(2, 3, 32, 32)
    model = randomise(adapt(net, "metalora-cp", example=images, extractor_rank=2), scale=0.05)
    assert ("conv_head" in model.layers) == name.startswith("efficientnet") and "conv_head" not in lora_of(model)
    model(images).square().sum().backward()
    assert all(p.grad.count_nonzero() for p in model.trained.extractor.parameters())


def test_the_output_of_a_foreign_network_is_read_by_its_twin(small_net, images, adapt, randomise):
    model = randomise(adapt(small_net, example=images, extractor_rank=2), scale=0.2)
    assert lora_of(model).keys() == {"conv", "grouped", "token"}  # the head's input is read
    model(images).sum().backward()
    assert all(p.grad.count_nonzero() for p in model.trained.extractor.parameters())
    with pytest.raises(InputError, match="found by a pass: give adapt\\(\\) an example"):
        adapt(small_net, extractor_rank=2)


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")
def test_a_transformer_s_twin_gets_the_mask_too(kind, adapt, randomise, small_transformer):
    net, ids, settings = small_transformer(kind)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model = randomise(adapt(net, example=inputs, extractor_rank=2, **settings), scale=0.1)
    assert "lm_head" not in lora_of(model)
    whole = model.generate(**inputs).flatten()
    inputs["attention_mask"][:, 4:] = 0
    assert not torch.allclose(model.generate(**inputs).flatten(), whole)
    output = model(**inputs)
    next(iter(output.values())).square().sum().backward()
    assert all(p.grad.count_nonzero() for p in model.trained.extractor.parameters())


def test_a_stage_that_is_a_layer_is_read_behind_its_update(randomise):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3)

        def forward(self, x):
            return self.second(self.first(x).relu()).mean((2, 3))

    torch.manual_seed(0)
    images = torch.rand(2, 3, 9, 9)
    network = Backbone(Two().eval(), stages={"first": 4, "second": 6})
    model = metalora.adapt(network, AdapterConfig(**SETTINGS), example=images)
    randomise(model.trained, scale=0.3)
    model(images).sum().backward()
    assert all(p.grad.count_nonzero() for p in model.trained.extractor.parameters())


def test_the_original_network_is_there_bit_for_bit(make, pictures):
    model, original = make(), metalora.load_backbone("resnet20", image_size=16)
    with model.disabled():
        assert torch.equal(model(pictures), original(pictures))
        assert torch.equal(model.features(pictures), make().features(pictures))


def test_weights_are_in_memory_once_also_after_moves_and_in_copies(make, pictures):
    model = make()
    wanted = model(pictures)
    for one in (model, copy.deepcopy(model), copy.deepcopy(model).bfloat16(), copy.deepcopy(model).to("cpu").double()):
        assert storages(one.extractor.own) == storages(one.backbone)
        assert all(p.dtype == next(one.backbone.parameters()).dtype for p in one.extractor.own.parameters())
    torch.testing.assert_close(model.double()(pictures.double()).float(), wanted, rtol=1e-3, atol=1e-4)
    assert model.bfloat16()(pictures.bfloat16()).isfinite().all()


def test_adapters_of_one_backbone_share_its_weights_with_their_twins(small_net, images, randomise):
    adapters = metalora.NamedAdapters(small_net)
    for name in ("cats", "dogs"):
        randomise(adapters.add(name, AdapterConfig(**SETTINGS), example=images).trained, len(adapters), scale=0.2)
    wanted = {name: model(images) for name, model in adapters.items()}
    assert not torch.allclose(wanted["cats"], wanted["dogs"])
    adapters.to(torch.float64)
    networks = [storages(net) for model in adapters.values() for net in (model.backbone, model.extractor.own)]
    assert all(found == networks[0] for found in networks)
    for name, model in adapters.items():
        torch.testing.assert_close(model(images.double()).float(), wanted[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("extractor", ["self", "resnet20"])
def test_it_is_saved_and_loaded(extractor, dtype, pictures, randomise, tmp_path):
    model = metalora.adapt("resnet20", AdapterConfig(extractor=extractor, **SETTINGS))
    randomise(model.trained, scale=0.1)
    model.to(dtype).save(tmp_path)
    loaded = metalora.load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded.generate(pictures.to(dtype)).flatten(), model.generate(pictures.to(dtype)).flatten())
    assert torch.equal(loaded(pictures.to(dtype)), model(pictures.to(dtype)))


def test_a_file_that_does_not_fit_is_refused_in_a_sentence(make, tiny_resnet, tmp_path):
    make().save(tmp_path)
    with pytest.raises(InputError, match="was made with extractor_rank 2, not 0"):
        restore(tiny_resnet(rank=2), tmp_path)
    settings = json.loads((tmp_path / CONFIG).read_text())
    tensors = read_tensors(tmp_path / WEIGHTS)[0]
    name = "extractor.adapters.conv1.A"
    write_tensors(tmp_path / WEIGHTS, {key: value for key, value in tensors.items() if key != name})
    with pytest.raises(InputError, match=f"lacks the tensor '{name}'"):
        restore(make(), tmp_path)
    write_tensors(tmp_path / WEIGHTS, tensors)
    settings["adapter"]["extractor_rank"] = 60_000
    (tmp_path / CONFIG).write_text(json.dumps(settings))
    with pytest.raises(InputError, match="extractor_rank is 60,000, but no tensor"):
        metalora.load(tmp_path, make().backbone)


def test_a_rank_is_a_layer_s_largest_where_that_is_smaller(make, tiny_resnet):
    layers = lora_of(make(extractor_rank=20))
    ranks = {name: layer.adapter.format.rank for name, layer in layers.items()}
    assert ranks["conv1"] == 16 and ranks["layer2.0.conv1"] == 20
    with pytest.raises(InputError, match="extractor_rank is 65, and no layer of the extractor takes above 64"):
        tiny_resnet(extractor_rank=65)


def test_what_it_costs_is_in_the_budget(make, tiny_resnet):
    model, frozen = make(), tiny_resnet(rank=2)
    own = sum(2 * (27 if name == "conv1" else layer.weight[0].numel()) for name, layer in lora_of(model).items())
    own += sum(2 * len(layer.weight) for layer in lora_of(model).values())
    budget, before = model.budget(), frozen.budget()
    row = budget.loc["(extractor)"]
    assert row["generator_parameters"] == own and row["frozen_parameters"] == 0
    assert row["generator_flops"] > before.loc["(extractor)", "generator_flops"]
    assert budget.loc["total", "frozen_parameters"] == before.loc["total", "frozen_parameters"]
    trained = sum(p.numel() for p in model.trained.parameters())
    assert budget.loc["total", ["adapter_parameters", "generator_parameters"]].sum() == trained
    assert trained == own + sum(p.numel() for p in frozen.trained.parameters())
    another = make(extractor="resnet20").budget().loc["(extractor)"]
    assert another["frozen_parameters"] == before.loc["total", "frozen_parameters"]


def test_a_network_without_a_layer_to_train_is_refused(images):
    class Norms(nn.Sequential):
        pass

    net = Norms(nn.Conv2d(3, 3, 3, groups=3, padding=1), nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Backbone(net.eval(), stages={"0": 3})
    with pytest.raises(InputError, match="has no layer that a LoRA could train: set extractor_rank to 0"):
        metalora.adapt(network, AdapterConfig(targets=r"^1$", **SETTINGS), example=images)


@pytest.mark.parametrize("name", ["lora", "metalora-cp", "arm-bn"])
def test_methods_of_equal_budget_count_it(name):
    backbone = metalora.load_backbone("resnet20", image_size=16)
    reference = AdapterConfig(extractor_rank=2, rank=2)
    goal = total_parameters(metalora.adapt(backbone, reference))
    assert goal > total_parameters(metalora.adapt(backbone, AdapterConfig(rank=2)))
    found = equal_budget(backbone, reference, name)
    assert found.extractor_rank == (2 if name == "metalora-cp" else 0)
    count = total_parameters(metalora.adapt(backbone, found))
    assert goal <= count < 1.1 * goal


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_it_is_exported_with_the_model(suffix, small_net, images, adapt, randomise, tmp_path):
    model = randomise(adapt(small_net, example=images, extractor_rank=2))
    assert export(model, tmp_path / f"model{suffix}") < 1e-4
    found = open_export(tmp_path / f"model{suffix}")(images)
    torch.testing.assert_close(found, model(images).detach(), rtol=1e-3, atol=1e-4)
    randomise(model.trained.extractor, scale=0.0)
    assert not torch.allclose(found, model(images), rtol=1e-2)


def test_folding_pruning_and_given_cores_are_as_ever(make, pictures):
    model = make()
    cores = model.generate(pictures)
    torch.testing.assert_close(model.fold(cores[1])(pictures[1:2]), model(pictures)[1:2], rtol=1e-3, atol=1e-4)
    pruned = prune(model, pictures, share=0.0).model
    torch.testing.assert_close(pruned(pictures), model(pictures), rtol=1e-4, atol=1e-5)


# torch says it of every checkpoint whose input requires no gradient.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.parametrize("reentrant", [False, True])
def test_the_backbone_may_checkpoint_and_its_twin_may_not(reentrant, adapt, randomise, monkeypatch):
    monkeypatch.setattr(timm.models._manipulate, "use_reentrant_ckpt", lambda: reentrant)
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, embed_dim=48, depth=3).double().eval()
    images, found = torch.rand(2, 3, 32, 32, dtype=torch.float64), []
    model = randomise(adapt(net, "metalora-cp", example=images, extractor_rank=2), scale=0.1)
    for checkpointing in (False, True):
        model.backbone.net.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        model(images).square().sum().backward()
        found.append({name: parameter.grad.clone() for name, parameter in model.trained.named_parameters()})
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    net.set_grad_checkpointing()
    model = adapt(net, "metalora-cp", example=images, extractor_rank=2)
    with pytest.raises(InputError, match="The extractor is trained, and activation checkpointing"):
        model(images)


def test_nothing_of_a_gradient_is_kept_without_one(make, pictures):
    model = make()
    with torch.no_grad():
        assert not model.features(pictures).requires_grad
    assert model.features(pictures).requires_grad
