"""Generation by an adapted model: codes, cores, sets, shuffling, constant cores, extractors."""

import pytest
import torch
from torch import nn

from metalora.adapters.cores import Cores
from metalora.adapters.methods import PAPER
from metalora.util.errors import InputError

ADAPTING = [name for name, entry in PAPER.items() if entry.format is not None]
GENERATING = [name for name in ADAPTING if PAPER[name].generated]
STATIC = [name for name in PAPER if name not in GENERATING]


@pytest.fixture
def model(small_net, images, randomise, adapt):
    model = adapt(small_net.double(), example=images.double())
    randomise(model.trained)
    return model


@pytest.fixture
def many():
    return torch.rand(6, 3, 10, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def test_generation_is_codes_then_cores(model, many):
    codes = model.codes(many)
    assert codes.shape == (6, 16)
    assert torch.equal(model.cores(codes).flatten(), model.generate(many).flatten())


def test_a_set_shares_the_core_of_its_mean_code(model, many):
    groups = torch.tensor([70, -3, 70, 8, 70, -3])
    cores = model.generate(many, groups=groups).flatten()
    codes = model.codes(many)
    torch.testing.assert_close(cores[[0, 2, 4]], model.cores(codes[[0, 2, 4]].mean(0).expand(3, -1)).flatten())
    torch.testing.assert_close(cores[3], model.generate(many).flatten()[3])
    order = torch.tensor([4, 1, 0, 3, 2, 5])
    torch.testing.assert_close(model.generate(many[order], groups=groups[order]).flatten(), cores[order])
    torch.testing.assert_close(model(many, groups=groups), model(many, cores=model.generate(many, groups=groups)))


def test_shuffling_permutes_the_same_cores(model, many):
    plain, shuffled = model.generate(many).flatten(), model.generate(many, shuffle=3).flatten()
    assert torch.equal(shuffled, model.generate(many, shuffle=3).flatten())
    assert not torch.equal(shuffled, plain)
    assert not torch.equal(shuffled, model.generate(many, shuffle=4).flatten())
    origin = torch.cdist(shuffled, plain).argmin(1)
    assert sorted(origin.tolist()) == list(range(6))
    torch.testing.assert_close(shuffled, plain[origin])


def test_lengths_that_do_not_fit_are_refused(model, many):
    cores = model.generate(many)
    with pytest.raises(InputError, match="5 group numbers for 6 images"):
        model.generate(many, groups=torch.zeros(5, dtype=torch.long))
    with pytest.raises(InputError, match="5 group numbers for 6 images"):
        model(many, groups=torch.zeros(5, dtype=torch.long))
    with pytest.raises(InputError, match="6 cores for 4 images: give one, or one for each"):
        model(many[:4], cores=cores)
    with pytest.raises(InputError, match="One core can be folded at a time, not 6"):
        model.fold(cores)
    with pytest.raises(InputError, match="depends on the image: give the cores"):
        model.fold()
    with pytest.raises(InputError, match="depends on the image: give the cores"):
        model.delta_weight("conv")


def test_cores_of_another_model_are_refused_by_name_of_layer(model, many):
    other = Cores({"elsewhere": torch.ones(6, 2, 2)})
    with pytest.raises(InputError, match="There is no core of layer 'conv'"):
        model(many, cores=other)


@pytest.mark.parametrize("method", STATIC)
def test_static_methods_refuse_to_generate(method, small_net, images, randomise, adapt, close):
    model = adapt(small_net, method, example=images)
    cores = Cores({name: torch.ones(1, 2) for name in ("conv", "grouped", "token", "head")})
    calls = [
        lambda: model.generate(images),
        lambda: model.codes(images),
        lambda: model(images, cores=cores),
        lambda: model(images, groups=torch.arange(4)),
    ]
    for call in calls:
        with pytest.raises(InputError, match="for every image: nothing is generated"):
            call()
    close(model.fold()(images), model(images), 1e-5)


def test_a_constant_core_needs_no_core_to_fold(small_net, images, randomise, adapt, close):
    model = adapt(small_net, core="constant", example=images)
    randomise(model.trained)
    close(model.fold()(images), model(images), 1e-5)
    assert model.delta_weight("conv").shape == (1, 8, 3, 3, 3)
    with pytest.raises(InputError, match="Meta-LoRA TR has one learned core for every image"):
        model.codes(images)


def test_the_stem_is_read_in_the_pass_of_the_embedding(randomise, tiny_resnet):
    model = tiny_resnet(extractor="stem").double()
    randomise(model.trained, scale=0.05)
    images, groups = torch.rand(4, 3, 16, 16, dtype=torch.float64), torch.tensor([1, 0, 1, 0])
    assert not any(name.startswith(("conv1", "layer1")) for name in model.layers)
    passes = []
    model.backbone.net.conv1.register_forward_hook(lambda *_: passes.append(1))
    once = model(images)
    assert len(passes) == 1
    torch.testing.assert_close(once, model(images, cores=model.cores(model.codes(images))))
    torch.testing.assert_close(model(images, groups=groups), model(images, cores=model.generate(images, groups=groups)))
    with pytest.raises(InputError, match="3 group numbers for 4 images"):
        model(images, groups=groups[:3])
    once.square().sum().backward()
    assert model.mapping.hidden.weight.grad.any()


def test_an_extractor_can_be_another_backbone_or_a_module(small_net, images, adapt):
    other = adapt(small_net, extractor="resnet20", example=images)
    assert other.features(images).shape == (4, 12 + 6 * 112)
    module = nn.Sequential(nn.Flatten(), nn.Linear(270, 6), nn.Dropout())
    module.num_features = 6
    model = adapt(small_net, extractor=module)
    assert model.mapping.materialised
    assert model(images).shape == (4, 5)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    module.num_features = 7
    with pytest.raises(InputError, match=r"The extractor gives \(2, 6\) for 2 images: make it give \(2, 7\)"):
        adapt(small_net, extractor=module, example=images)


def test_sizes_of_a_foreign_backbone_come_from_its_first_batch(small_net, images, adapt):
    model = adapt(small_net)
    with pytest.raises(InputError, match="The first batch is empty"):
        model(images[:0])
    assert not model.mapping.materialised
    codes = model.codes(images)
    given = adapt(small_net, example=images)
    assert torch.equal(codes, given.codes(images))


def test_groups_beside_cores_are_refused(model, many):
    with pytest.raises(InputError, match="Groups say which images share generated cores, and cores are given"):
        model(many, cores=model.generate(many), groups=torch.zeros(6, dtype=torch.long))


@pytest.mark.parametrize(("method", "rank"), [("metalora-tr", 1), ("metalora-cp", 2)])
def test_cores_of_another_rank_or_format_are_refused(method, rank, model, many, small_net, adapt):
    other = adapt(small_net.double(), method, example=many, rank=rank, targets="token")
    cores = Cores(dict.fromkeys(model.layers, other.generate(many)["token"]))
    found = r"\(2,\)" if method == "metalora-cp" else r"\(1, 1\)"
    with pytest.raises(
        InputError, match=f"The core of layer 'conv' is {found} for each image, metalora-tr of its rank"
    ):
        model(many, cores=cores)
