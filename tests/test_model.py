"""The adapted model: against dense references, at its start, in threads, compiled, folded."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import metalora
from metalora.config import AdapterConfig
from metalora.cores import Cores
from metalora.errors import InputError
from metalora.layers import current
from metalora.methods import METHODS
from metalora.model import AdaptedModel
from metalora.states import hash_tensors

ADAPTING = [name for name, entry in METHODS.items() if entry.format is not None]
GENERATING = [name for name in ADAPTING if METHODS[name].generated]
STATIC = [name for name in METHODS if name not in GENERATING]


def adapt(net, method="metalora-tr", *, example=None, **settings):
    return metalora.adapt(net, AdapterConfig(method=method, **{"rank": 2, **settings}), example=example)


def tiny_resnet(**settings):
    torch.manual_seed(0)
    return adapt(metalora.load_backbone("resnet20", image_size=16, pretrained=False), **settings)


def close(found, wanted, tolerance):
    assert found.shape == wanted.shape
    assert float((found - wanted).detach().norm() / wanted.detach().norm()) < tolerance


# --- against the paper's equations


def dense_output(net, model, images, method, reference, cores=None):
    """Every image through the original network with W + ΔW_n in place of W."""
    rows = []
    for n in range(len(images)):
        own = copy.deepcopy(net).eval()
        for name, layer in model.layers.items():
            core = None if cores is None else cores[name][n if len(cores) > 1 else 0]
            with torch.no_grad():
                own.get_submodule(name).weight.add_(reference(method, **layer.factors(), core=core))
        rows.append(own(images[n : n + 1]))
    return torch.cat(rows)


@pytest.mark.parametrize("method", ADAPTING)
def test_every_image_gets_its_own_dense_update(method, small_net, images, randomise, delta_reference):
    net, images = small_net.double(), images.double()
    model = adapt(net, method, example=images, alpha=3.0)
    randomise(model.trained)
    cores = model.generate(images) if model.generated else None
    close(model(images), dense_output(net, model, images, method, delta_reference, cores), 1e-12)
    for n in range(len(images)):
        folded = model.fold(None if cores is None else cores[n])
        close(folded(images[n : n + 1]), model(images)[n : n + 1], 1e-12)
    if cores is not None:
        wanted = dense_output(net, model, images, method, delta_reference, cores[2])
        close(model(images, cores=cores[2]), wanted, 1e-12)
        assert (model(images) - wanted)[:2].abs().min() > 1e-6


@pytest.mark.parametrize("method", ADAPTING)
def test_delta_weight_is_the_layers_update(method, small_net, images, randomise, delta_reference):
    model = adapt(small_net, method, example=images)
    randomise(model.trained)
    cores = model.generate(images) if model.generated else None
    for name, layer in model.layers.items():
        deltas = model.delta_weight(name, cores)
        assert deltas.shape == (1 if cores is None else 4, *layer.weight.shape)
        core = None if cores is None else cores[name][-1]
        torch.testing.assert_close(deltas[-1], delta_reference(method, **layer.factors(), core=core))
    with pytest.raises(InputError, match="Layer 'norm' is not adapted: adapted are conv, grouped, token, head"):
        model.delta_weight("norm", cores)


# --- the start


@pytest.mark.parametrize("method", METHODS)
def test_the_start_is_the_original(method, small_net, images):
    model = adapt(small_net, method, example=images)
    small_net.eval()
    torch.testing.assert_close(model(images), small_net(images), rtol=1e-5, atol=1e-6)
    cores = model.generate(images) if model.generated else None
    assert all(model.delta_weight(name, cores).count_nonzero() == 0 for name in model.layers)


@pytest.mark.parametrize("method", ADAPTING)
def test_disabled_is_the_original_bit_for_bit_and_training_does_not_touch_it(method, small_net, images, randomise):
    before = hash_tensors(small_net.state_dict())
    model = adapt(small_net, method, example=images)
    randomise(model.trained)
    frozen = hash_tensors(model.frozen.state_dict())
    optimiser = torch.optim.SGD(model.trained.parameters(), 0.01)
    model.train()
    model(images).square().sum().backward()
    optimiser.step()
    assert hash_tensors(small_net.state_dict()) == before
    assert hash_tensors(model.frozen.state_dict()) == frozen
    assert all(p.requires_grad for p in small_net.parameters())
    small_net.eval()
    with model.disabled():
        assert torch.equal(model(images), small_net(images))
    assert not torch.allclose(model(images), small_net(images))
    assert current.enabled


@pytest.mark.parametrize("method", ADAPTING)
def test_gradients_reach_the_last_factor_first_and_the_mapping_net_next(method, small_net, images):
    model = adapt(small_net, method, example=images)
    optimiser = torch.optim.SGD(model.trained.parameters(), 0.1)

    def step():
        optimiser.zero_grad()
        F.cross_entropy(model(images), torch.arange(4)).backward()
        found = {name for name, p in model.trained.named_parameters() if p.grad is not None and p.grad.any()}
        optimiser.step()
        return found

    last = "s" if method == "multi-lora" else "B"
    assert step() == {f"adapters.{name}.{last}" for name in model.layers}
    assert step() == {name for name, _ in model.trained.named_parameters()}


@pytest.mark.parametrize("method", GENERATING)
def test_a_constant_core_starts_as_the_static_method(method, small_net, images, randomise):
    model = adapt(small_net, method, core="constant", example=images)
    randomise(model.trained.adapters)
    if method == "metalora-cp":
        static = adapt(small_net, "lora", example=images)
        static.trained.adapters.load_state_dict(model.trained.adapters.state_dict())
    else:  # R parallel LoRAs of rank R are one LoRA of rank R²
        static = adapt(small_net, "lora", rank=4, example=images)
        for name, layer in model.layers.items():
            A, B = layer.factors().values()
            with torch.no_grad():
                static.layers[name].adapter.A.copy_(A.movedim(0, -2).flatten(-2))
                static.layers[name].adapter.B.copy_(B.permute(2, 0, 1).flatten(0, 1))
    close(model(images), static(images), 1e-5)
    generated = adapt(small_net, method, example=images)
    generated.trained.adapters.load_state_dict(model.trained.adapters.state_dict())
    with torch.no_grad():
        generated.mapping.head.weight.zero_()
    close(generated(images), model(images), 1e-5)
    model(images).sum().backward()
    assert model.trained.constant.offset.grad.all()
    assert len(model.generate(images)) == 4


# --- precision and modes


@pytest.mark.parametrize("method", ADAPTING)
def test_bfloat16_autocast_gives_finite_outputs_and_gradients(method, small_net, images, randomise):
    model = adapt(small_net, method, example=images)
    randomise(model.trained, scale=0.2)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images)
        if model.generated:
            assert model.codes(images).dtype == model.generate(images)["conv"].dtype == torch.float32
    output.float().square().sum().backward()
    assert output.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() and p.dtype == torch.float32 for p in model.trained.parameters())
    close(output.float(), model(images), 0.1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ADAPTING)
def test_a_whole_model_in_another_precision(method, dtype, small_net, images, randomise):
    model = adapt(small_net, method, example=images)
    randomise(model.trained, scale=0.2)
    wanted = model(images)
    model.to(dtype)
    output = model(images.to(dtype))
    assert output.dtype == dtype
    if model.generated:
        assert model.generate(images.to(dtype))["conv"].dtype == dtype
    close(output.float(), wanted, 1e-5 if dtype == torch.float64 else 0.1)


def test_the_frozen_part_stays_in_evaluation_mode(small_net, images):
    model = adapt(small_net, "lora", dropout=0.5, example=images).train()
    assert model.trained.training
    assert model.layers["conv"].adapter.dropout.training
    assert not any(module.training for module in model.frozen.modules())
    before = model.backbone.net.norm.running_mean.clone()
    model(images)
    assert torch.equal(model.backbone.net.norm.running_mean, before)
    assert not model.eval().trained.training


def test_dropout_is_random_in_training_only(small_net, images, randomise):
    model = adapt(small_net, dropout=0.5, example=images)
    randomise(model.trained)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize("method", ADAPTING)
def test_single_images_no_images_and_channels_last(method, small_net, images, randomise):
    model = adapt(small_net, method, example=images)
    randomise(model.trained)
    whole = model(images)
    close(torch.cat([model(image[None]) for image in images]), whole, 1e-4)
    close(model(images.to(memory_format=torch.channels_last)), whole, 1e-4)
    assert model(images[:0]).shape == (0, 5)


def test_what_inference_mode_teaches_can_be_trained(small_net, images):
    model = adapt(small_net)
    with torch.inference_mode():
        model(images)
    model.standardise(images)
    model(images).sum().backward()
    assert model.layers["conv"].adapter.B.grad.any()
    assert not any(tensor.is_inference() for tensor in model.state_dict().values())


def test_a_state_has_a_trained_and_a_frozen_part(small_net, images):
    keys = adapt(small_net, example=images).state_dict().keys()
    assert all(key.startswith(("trained.", "frozen.")) for key in keys)
    assert {"trained.adapters.conv.A", "trained.mapping.head.weight", "frozen.backbone.net.conv.base.weight"} <= keys


@pytest.mark.parametrize("method", ADAPTING)
def test_a_copy_trains_on_its_own(method, small_net, images, randomise):
    model = adapt(small_net, method, example=images)
    randomise(model.trained)
    before = model(images)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(images), before)
    twin(images).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        twin.layers["conv"].adapter.A.add_(1)
    assert torch.equal(twin.trained.adapters.conv.A, twin.layers["conv"].factors()["A"])
    assert torch.equal(model(images), before)
    assert not torch.equal(twin(images), before)


# --- compiling and threads


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("method", "extractor"), [(method, "self") for method in ADAPTING] + [(method, "stem") for method in GENERATING]
)
def test_a_bundled_backbone_compiles_in_one_graph(method, extractor, randomise, fresh_compiler):
    model = tiny_resnet(method=method, extractor=extractor, targets="layer3.0.conv")
    randomise(model.trained, scale=0.1)
    images = torch.rand(2, 3, 20, 16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    close(compiled(images), model(images), 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_foreign_backbone_compiles_in_one_graph(method, small_net, images, randomise, fresh_compiler):
    model = adapt(small_net, method, example=images)
    randomise(model.trained, scale=0.1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    close(compiled(images), model(images), 1e-5)
    if model.generated:
        cores = model.generate(images)[0].detach()
        close(compiled(images, cores=cores), model(images, cores=cores), 1e-5)


def test_threads_do_not_disturb_each_other(small_net, images, randomise):
    models = [adapt(small_net, method, example=images) for method in ("metalora-tr", "metalora-cp")]
    for seed, model in enumerate(models):
        randomise(model.trained, seed)
    cores = models[0].generate(images)
    jobs = [
        lambda: models[0](images),
        lambda: models[0](images, cores=cores[1]),
        lambda: models[1](images),
        lambda: disabled(models[0]),
    ]

    def disabled(model):
        with model.disabled():
            return model(images)

    wanted = [job() for job in jobs]
    failures = []

    def repeat(index):
        if not all(torch.equal(jobs[index](), wanted[index]) for _ in range(30)):
            failures.append(index)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- generation


@pytest.fixture
def model(small_net, images, randomise):
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


def test_shuffling_deals_out_the_same_cores(model, many):
    plain, shuffled = model.generate(many).flatten(), model.generate(many, shuffle=3).flatten()
    assert torch.equal(shuffled, model.generate(many, shuffle=3).flatten())
    assert not torch.equal(shuffled, plain)
    assert not torch.equal(shuffled, model.generate(many, shuffle=4).flatten())
    origin = torch.cdist(shuffled, plain).argmin(1)
    assert sorted(origin.tolist()) == list(range(6))
    torch.testing.assert_close(shuffled, plain[origin])


def test_lengths_that_do_not_fit_are_told(model, many):
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


def test_cores_of_another_model_are_refused_by_layer(model, many):
    other = Cores({"elsewhere": torch.ones(6, 2, 2)})
    with pytest.raises(InputError, match="There is no core of layer 'conv'"):
        model(many, cores=other)


@pytest.mark.parametrize("method", STATIC)
def test_static_methods_generate_nothing_and_say_so(method, small_net, images, randomise):
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


def test_a_constant_core_needs_no_core_to_fold(small_net, images, randomise):
    model = adapt(small_net, core="constant", example=images)
    randomise(model.trained)
    close(model.fold()(images), model(images), 1e-5)
    assert model.delta_weight("conv").shape == (1, 8, 3, 3, 3)
    with pytest.raises(InputError, match="Meta-LoRA TR has one learned core for every image"):
        model.codes(images)


def test_the_stem_serves_generation_and_embedding_in_one_pass(randomise):
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


def test_an_extractor_can_be_another_backbone_or_a_module(small_net, images):
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


def test_sizes_of_a_foreign_backbone_come_from_its_first_batch(small_net, images):
    model = adapt(small_net)
    with pytest.raises(InputError, match="The first batch is empty"):
        model(images[:0])
    assert not model.mapping.materialised
    codes = model.codes(images)
    given = adapt(small_net, example=images)
    assert torch.equal(codes, given.codes(images))


# --- networks that cannot be adapted, or only just


class Sequence(nn.Module):
    """Images → sequence first (3·H, N, W), a linear layer, (N, D)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 9)

    def forward(self, images):
        return self.layer(images.flatten(1, 2).transpose(0, 1)).mean(0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_a_leading_axis_that_is_not_the_batch_is_told_whatever_the_first_batch(count):
    images = torch.rand(count, 3, 1, 9)  # three rows
    with pytest.raises(InputError, match=r"'layer' has 3 rows for 2 images: its leading axis is not the batch"):
        adapt(Sequence())(images)
    assert adapt(Sequence(), "lora")(images).shape == (count, 9)
    two = images[:, :2]
    with pytest.raises(InputError, match=r"'layer' has 2 rows for 3 images"):
        adapt(Sequence())(two)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = self.again = nn.Linear(6, 6)
        self.unused, self.other = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.again(self.used(x).relu())


def test_a_layer_that_is_never_called_is_told():
    with pytest.raises(InputError, match=r"'unused' is never called .* \(nor are 1 more\): exclude it"):
        adapt(Odd(), example=torch.rand(2, 6))


@pytest.mark.parametrize("method", ADAPTING)
def test_a_layer_in_two_places_is_adapted_in_both(method, randomise):
    net, x = Odd().double(), torch.rand(2, 6, dtype=torch.float64)
    model = adapt(net, method, exclude="unused|other", example=x)
    randomise(model.trained)
    assert list(model.layers) == ["used"]
    cores = model.generate(x)[0] if model.generated else None
    weight = net.used.weight + model.delta_weight("used", cores)[0]
    wanted = F.linear(F.linear(x, weight, net.used.bias).relu(), weight, net.used.bias)
    found = model(x, cores=cores) if model.generated else model(x)
    close(found, wanted, 1e-12)
    close(model.fold(cores)(x), wanted, 1e-12)


def test_layers_whose_weights_are_tied_fold_apart(randomise):
    net, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), torch.rand(3, 6)
    net[2].weight = net[0].weight
    model = adapt(net, "lora", example=x)
    randomise(model.trained)
    close(model.fold()(x), model(x), 1e-5)


def test_transformers_run_with_what_can_be_adapted(randomise):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(9, 8)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, images):
            return self.encoder(self.embed(images.flatten(1, 2))).mean(1)

    torch.manual_seed(0)
    net, images = Attending().eval(), torch.rand(3, 3, 4, 9)
    with pytest.warns(UserWarning, match="read by the attention"):
        model = adapt(net, example=images)
    randomise(model.trained)
    assert list(model.layers) == ["embed"]
    with torch.no_grad():
        close(model(images), torch.cat([model(image[None]) for image in images]), 1e-4)
        with model.disabled():
            close(model(images), net(images), 1e-5)


@pytest.mark.parametrize("flag", ["grad_checkpointing", "gradient_checkpointing"])
def test_checkpointing_is_refused(flag, small_net):
    setattr(small_net, flag, True)
    with pytest.raises(InputError, match="checkpoints activations"):
        adapt(small_net)


def test_what_is_adapted_is_not_adapted_again(small_net, images):
    model = adapt(small_net, example=images)
    for again in (model, model.backbone, model.backbone.net):
        with pytest.raises(InputError, match="adapted already"):
            adapt(again)


def test_an_output_that_is_no_embedding_is_told():
    for method in METHODS:
        with pytest.raises(InputError, match=r"gives \(\d, 4, 3, 3\) for \d images: make it give embeddings"):
            adapt(nn.Sequential(nn.Conv2d(3, 4, 3)), method, example=torch.rand(1, 3, 5, 5))


# --- folding


@pytest.mark.parametrize("method", METHODS)
def test_a_folded_module_is_an_ordinary_one(method, randomise):
    model = tiny_resnet(method=method)
    randomise(model.trained, scale=0.05)
    images = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        cores = model.generate(images)[0] if model.generated else None
        folded = model.fold(cores)
        close(folded(images[:1]), model(images[:1]), 1e-5)
    modules = list(folded.modules())
    assert not any(type(module).__module__.startswith("metalora") for module in modules)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    assert not any(getattr(module, name) for module in modules for name in hooks)
    assert not any(p.requires_grad for p in folded.parameters())
    original = metalora.load_backbone("resnet20", pretrained=False).net.state_dict()
    assert folded[1].state_dict().keys() == original.keys()


def test_a_fold_removes_the_hook_of_a_stage_that_is_an_adapted_layer(small_net, images):
    backbone = metalora.Backbone(small_net, stages={"conv": 8})
    model = adapt(backbone, example=images)
    assert not model.fold(model.generate(images)[0]).conv._forward_hooks


def test_a_fold_leaves_the_model_alone(small_net, images, randomise):
    model = adapt(small_net, "lora", example=images)
    randomise(model.trained)
    before = hash_tensors(model.state_dict())
    with torch.no_grad():
        model.fold().conv.weight.zero_()
    assert hash_tensors(model.state_dict()) == before


def test_the_default_is_tr_of_rank_4(small_net, images):
    model = metalora.adapt("resnet20")
    assert isinstance(model, AdaptedModel)
    assert (model.config.method, model.config.rank) == ("metalora-tr", 4)
    assert metalora.adapt("resnet20", AdapterConfig(seed=0)).mapping.head.weight.equal(model.mapping.head.weight)
