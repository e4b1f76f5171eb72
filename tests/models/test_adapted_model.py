"""The adapted model: against dense references, at its start, in threads, compiled, folded."""

import copy
import threading

import pytest
import torch
from torch.nn import functional as F

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.adapters.forward_context import current
from metalora.adapters.methods import PAPER
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError
from metalora.util.files import hash_tensors

ADAPTING = [name for name, entry in PAPER.items() if entry.format is not None]
GENERATING = [name for name in ADAPTING if PAPER[name].generated]
STATIC = [name for name in PAPER if name not in GENERATING]


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
def test_every_image_gets_its_own_dense_update(method, small_net, images, randomise, delta_reference, adapt, close):
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
def test_delta_weight_is_the_layers_update(method, small_net, images, randomise, delta_reference, adapt):
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


# --- at the start


@pytest.mark.parametrize("method", PAPER)
def test_the_start_is_the_original(method, small_net, images, adapt):
    model = adapt(small_net, method, example=images)
    small_net.eval()
    torch.testing.assert_close(model(images), small_net(images), rtol=1e-5, atol=1e-6)
    cores = model.generate(images) if model.generated else None
    assert all(model.delta_weight(name, cores).count_nonzero() == 0 for name in model.layers)


@pytest.mark.parametrize("method", ADAPTING)
def test_disabled_is_the_original_bit_for_bit_and_training_does_not_touch_it(
    method, small_net, images, randomise, adapt
):
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
def test_gradients_reach_the_last_factor_first_and_the_mapping_net_next(method, small_net, images, adapt):
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
def test_a_constant_core_starts_as_the_static_method(method, small_net, images, randomise, adapt, close):
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
def test_bfloat16_autocast_gives_finite_outputs_and_gradients(method, small_net, images, randomise, adapt, close):
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
def test_a_whole_model_in_another_precision(method, dtype, small_net, images, randomise, adapt, close):
    model = adapt(small_net, method, example=images)
    randomise(model.trained, scale=0.2)
    wanted = model(images)
    model.to(dtype)
    output = model(images.to(dtype))
    assert output.dtype == dtype
    if model.generated:
        assert model.generate(images.to(dtype))["conv"].dtype == dtype
    close(output.float(), wanted, 1e-5 if dtype == torch.float64 else 0.1)


def test_the_frozen_part_stays_in_evaluation_mode(small_net, images, adapt):
    model = adapt(small_net, "lora", dropout=0.5, example=images).train()
    assert model.trained.training
    assert model.layers["conv"].adapter.dropout.training
    assert not any(module.training for module in model.frozen.modules())
    before = model.backbone.net.norm.running_mean.clone()
    model(images)
    assert torch.equal(model.backbone.net.norm.running_mean, before)
    assert not model.eval().trained.training


def test_dropout_is_random_in_training_only(small_net, images, randomise, adapt):
    model = adapt(small_net, dropout=0.5, example=images)
    randomise(model.trained)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize("method", ADAPTING)
def test_single_images_no_images_and_channels_last(method, small_net, images, randomise, adapt, close):
    model = adapt(small_net, method, example=images)
    randomise(model.trained)
    whole = model(images)
    close(torch.cat([model(image[None]) for image in images]), whole, 1e-4)
    close(model(images.to(memory_format=torch.channels_last)), whole, 1e-4)
    assert model(images[:0]).shape == (0, 5)


def test_a_model_whose_first_batch_is_in_inference_mode_can_be_trained(small_net, images, adapt):
    model = adapt(small_net)
    with torch.inference_mode():
        model(images)
    model.standardise(images)
    model(images).sum().backward()
    assert model.layers["conv"].adapter.B.grad.any()
    assert not any(tensor.is_inference() for tensor in model.state_dict().values())


def test_a_state_has_a_trained_and_a_frozen_part(small_net, images, adapt):
    keys = adapt(small_net, example=images).state_dict().keys()
    assert all(key.startswith(("trained.", "frozen.")) for key in keys)
    assert {"trained.adapters.conv.A", "trained.mapping.head.weight", "frozen.backbone.net.conv.base.weight"} <= keys


@pytest.mark.parametrize("method", ADAPTING)
def test_a_copy_trains_on_its_own(method, small_net, images, randomise, adapt):
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
def test_a_bundled_backbone_compiles_in_one_graph(method, extractor, randomise, fresh_compiler, close, tiny_resnet):
    model = tiny_resnet(method=method, extractor=extractor, targets="layer3.0.conv")
    randomise(model.trained, scale=0.1)
    images = torch.rand(2, 3, 20, 16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    close(compiled(images), model(images), 1e-6)


@pytest.mark.parametrize("method", PAPER)
def test_a_foreign_backbone_compiles_in_one_graph(method, small_net, images, randomise, fresh_compiler, adapt, close):
    model = adapt(small_net, method, example=images)
    randomise(model.trained, scale=0.1)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    close(compiled(images), model(images), 1e-5)
    if model.generated:
        cores = model.generate(images)[0].detach()
        close(compiled(images, cores=cores), model(images, cores=cores), 1e-5)


def test_threads_do_not_disturb_each_other(small_net, images, randomise, adapt):
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


# --- folding


@pytest.mark.parametrize("method", PAPER)
def test_a_folded_module_is_an_ordinary_one(method, randomise, close, tiny_resnet):
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


def test_a_fold_removes_the_hook_of_a_stage_that_is_an_adapted_layer(small_net, images, adapt):
    backbone = metalora.Backbone(small_net, stages={"conv": 8})
    model = adapt(backbone, example=images)
    assert not model.fold(model.generate(images)[0]).conv._forward_hooks


def test_a_fold_leaves_the_model_alone(small_net, images, randomise, adapt):
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
