"""Several adapters of one backbone: each as if it were alone, the weights of the backbone once."""

import pytest
import timm
import torch
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.models.folding import Fold
from metalora.util.errors import InputError

CONFIGS = {
    "cats": AdapterConfig("metalora-tr", rank=2),
    "dogs": AdapterConfig("metalora-cp", rank=3, code=4, hidden=8),
    "all": AdapterConfig("lora", rank=2, exclude="head"),
}


@pytest.fixture
def adapters(small_net, images, randomise):
    made = metalora.NamedAdapters(small_net)
    for seed, (name, config) in enumerate(CONFIGS.items()):
        randomise(made.add(name, config, example=images).trained, seed, scale=0.2)
    return made


def tensors_of(*models):
    """The tensors that models hold, folded ones included, each once: address → bytes."""
    found = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    for model in models:
        folds = [module.__dict__["fold"] for module in model.modules() if isinstance(module.__dict__.get("fold"), Fold)]
        found += [t for fold in folds for t in (fold.folded.weight, fold.folded.bias, fold.folded.gain)]
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in found}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_gives_what_it_gives_alone(name, adapters, small_net, images, randomise):
    alone = metalora.adapt(small_net, CONFIGS[name], example=images)
    randomise(alone.trained, list(CONFIGS).index(name), scale=0.2)
    torch.testing.assert_close(adapters[name](images), alone(images), rtol=0, atol=0)


def test_using_or_training_one_changes_no_other(adapters, small_net, images):
    before = {name: model(images) for name, model in adapters.items()}
    frozen = [p.clone() for p in adapters["cats"].frozen.parameters()]
    model = adapters["cats"].train()
    optimizer = torch.optim.SGD(model.trained.parameters(), lr=0.1)
    model(images).square().sum().backward()
    optimizer.step()
    model.eval()
    with model.disabled():
        assert torch.allclose(model(images), small_net.eval()(images))
    assert not torch.allclose(model(images), before["cats"])
    for name in ("dogs", "all", "dogs"):
        torch.testing.assert_close(adapters[name](images), before[name], rtol=0, atol=0)
    torch.testing.assert_close(list(model.frozen.parameters()), frozen, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224"])
def test_the_backbone_is_in_memory_once(architecture, images):
    images = torch.rand(2, 3, 32, 32)
    sizes = {"img_size": 32, "embed_dim": 48, "depth": 3} if architecture.startswith("vit") else {}
    made = metalora.NamedAdapters(timm.create_model(architecture, num_classes=0, **sizes))
    one = made.add("a", AdapterConfig("metalora-cp", rank=2), example=images)
    alone = sum(tensors_of(one).values())
    for name in "bcd":
        made.add(name, AdapterConfig("metalora-cp", rank=2), example=images)
    trained = sum(tensors_of(one.trained).values()) + one.example.nbytes
    assert sum(tensors_of(*made.values()).values()) <= alone + 3 * 1.1 * trained
    made.to(torch.float64)
    images = images.double()
    assert {model(images).dtype for model in made.values()} == {torch.float64}
    assert sum(tensors_of(*made.values()).values()) <= 2 * (alone + 3 * 1.1 * trained)


def test_the_person_s_network_is_left_as_it_was(small_net, images):
    before = {name: tensor.clone() for name, tensor in small_net.state_dict().items()}
    made = metalora.NamedAdapters(small_net)
    made.add("cats", CONFIGS["cats"], example=images)
    made.to(torch.float64)
    torch.testing.assert_close(dict(small_net.state_dict()), before)
    assert all(parameter.requires_grad for parameter in small_net.parameters())


def test_one_is_saved_and_loaded_by_itself(adapters, small_net, images, tmp_path):
    for name in ("cats", "all"):
        adapters[name].save(tmp_path / name)
    assert torch.equal(metalora.load(tmp_path / "cats", small_net)(images), adapters["cats"](images))
    others = metalora.NamedAdapters(small_net)
    others.load("mine", tmp_path / "all")
    others.load("yours", tmp_path / "cats")
    assert torch.equal(others["mine"](images), adapters["all"](images))
    assert torch.equal(others["yours"](images), adapters["cats"](images))
    shared = [{p.data_ptr() for p in model.frozen.parameters()} for model in others.values()]
    assert shared[0] == shared[1]
    others.to(torch.float64)
    with pytest.raises(InputError, match="is shared in float64: load it alone"):
        others.load("again", tmp_path / "cats")


def test_names_that_are_unknown_or_taken_are_told_in_a_sentence(adapters, small_net, images):
    with pytest.raises(InputError, match="There is no adapter 'cat': there are cats, dogs, all"):
        adapters["cat"]
    with pytest.raises(InputError, match="There is no adapter 'cat'"):
        adapters.delete("cat")
    for add in (adapters.add, lambda name: adapters.load(name, "nowhere")):
        with pytest.raises(InputError, match="There is an adapter 'cats' already: choose another name"):
            add("cats")
    adapters.delete("cats")
    assert list(adapters) == ["dogs", "all"] and "cats" not in adapters
    adapters.add("cats", CONFIGS["cats"], example=images)
    with pytest.raises(InputError, match="'x': there is none yet"):
        metalora.NamedAdapters(small_net)["x"]
    with pytest.raises(InputError, match="adapted already"):
        metalora.NamedAdapters(adapters["cats"])


def test_a_name_that_could_not_be_added_stays_free(small_net, images):
    made = metalora.NamedAdapters(small_net)
    with pytest.raises(InputError, match="matches no layer"):
        made.add("cats", AdapterConfig(targets="nothing"), example=images)
    assert not made
    made.add("cats", CONFIGS["cats"], example=images)


def test_a_named_backbone_is_taken_too(tmp_path):
    made = metalora.NamedAdapters(metalora.load_backbone("resnet20", image_size=16))
    made.load("tr", "resnet20/metalora-tr")
    made.add("lora", AdapterConfig("lora", rank=2))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(made["tr"](images), metalora.load("resnet20/metalora-tr")(images))
    assert isinstance(made["lora"].fold(), nn.Module)
    assert metalora.NamedAdapters("resnet20").add("lora", AdapterConfig("lora", rank=2))(images).shape == (2, 64)
