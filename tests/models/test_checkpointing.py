"""Activation checkpointing: what is computed again in the backward pass has the cores of the forward pass."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from metalora.util.errors import InputError

# torch says it of every checkpoint whose input requires no gradient, as in the pass that reads the features.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")


class Blocks(nn.Module):
    """Images → a convolution, two blocks that may be checkpointed, a head."""

    def __init__(self):
        super().__init__()
        self.gradient_checkpointing = self.reentrant = False
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh()) for _ in range(2)
        )
        self.head = nn.Linear(6, 5)
        self.calls = 0

    def _block(self, i, x):
        self.calls += 1
        return self.blocks[i](x)

    def forward(self, images):
        x = self.stem(images)
        for i in range(len(self.blocks)):
            if self.gradient_checkpointing:
                x = checkpoint(self._block, i, x, use_reentrant=self.reentrant)
            else:
                x = self._block(i, x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def images():
    return torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def blocks(adapt, randomise, images):
    """blocks(method): an adapted network in float64."""

    def made(method="metalora-tr", **settings):
        torch.manual_seed(0)
        model = adapt(Blocks().double().eval(), method, example=images, **settings)
        randomise(model.trained)
        return model

    return made


def gradients(model, loss):
    """The gradients of everything that is trained, and how much they weigh."""
    model.zero_grad()
    loss(model).backward()
    return {name: parameter.grad.clone() for name, parameter in model.trained.named_parameters()}


def same(model, switch, loss):
    """Compare the gradients without and with checkpointing."""
    wanted = gradients(model, loss)
    switch(model)
    found = gradients(model, loss)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert all(gradient.count_nonzero() for gradient in wanted.values())


def by_torch(reentrant):
    def switch(model):
        model.backbone.net.gradient_checkpointing, model.backbone.net.reentrant = True, reentrant
        model.backbone.net.calls = 0

    return switch


LOSSES = {
    "one pass": lambda images: lambda model: model(images).square().sum(),
    "two passes before one backward": lambda images: (
        lambda model: model(images).square().sum() + (model(images.flip(0)[:3]) * model(images)[:3]).sum()
    ),
    "sets": lambda images: lambda model: model(images, groups=torch.tensor([0, 0, 1, 1])).square().sum(),
    "one image": lambda images: lambda model: model(images[:1]).square().sum(),
    "other cores": lambda images: (
        lambda model: model(images, cores=model.generate(images).mean()).square().sum() - model(images).sum()
    ),
}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", ["metalora-cp", "metalora-tr"])
def test_gradients_are_those_without_checkpointing(method, loss, reentrant, blocks, images):
    model = blocks(method)
    same(model, by_torch(reentrant), LOSSES[loss](images))
    assert model.backbone.net.calls > 2 * len(model.backbone.net.blocks)  # something was computed again


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("settings", [{"method": "lora"}, {"core": "constant"}, {"modules_to_save": r"blocks\.0\.1"}])
def test_other_adapters_learn_the_same_too(settings, reentrant, blocks, images):
    same(blocks(**settings), by_torch(reentrant), LOSSES["two passes before one backward"](images))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_networks_of_timm_learn_the_same_by_set_grad_checkpointing(name, reentrant, adapt, randomise, monkeypatch):
    torch.manual_seed(0)
    sizes = {"img_size": 32, "embed_dim": 48, "depth": 3} if name.startswith("vit") else {}
    net = timm.create_model(name, num_classes=0, **sizes).double().eval()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    model = randomise(adapt(net, "metalora-cp", example=images), scale=0.1)
    assert len(model.backbone.stages) > 1  # which report in checkpoints as well
    monkeypatch.setattr(timm.models._manipulate, "use_reentrant_ckpt", lambda: reentrant)
    same(model, lambda model: model.backbone.net.set_grad_checkpointing(), LOSSES["one pass"](images))
    net.set_grad_checkpointing()
    assert adapt(net, "metalora-cp", example=images).backbone.stages == model.backbone.stages


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_reach_images_but_not_through_features_of_stages(reentrant, adapt, randomise, monkeypatch):
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, embed_dim=48, depth=3).double().eval()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    model = randomise(adapt(net, "metalora-cp", example=images), scale=0.1)
    monkeypatch.setattr(timm.models._manipulate, "use_reentrant_ckpt", lambda: reentrant)
    found = []
    for checkpointing in (False, True):
        model.backbone.net.set_grad_checkpointing(checkpointing)
        images.grad = None
        model(images, features=model.features(images.detach())).square().sum().backward()
        found.append(images.grad.clone())
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="A gradient goes through the features"):
        model(images)
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None


@pytest.mark.filterwarnings("ignore::metalora.util.errors.LayersLeftOut")
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_networks_of_transformers_learn_the_same(kind, adapt, randomise, small_transformer):
    net, ids, settings = small_transformer(kind)
    model = randomise(adapt(net.double(), example={"input_ids": ids}, **settings), scale=0.2).train()
    calls, net = [], model.backbone.net
    attention = net.encoder.layer[0].attention if kind == "bert" else net.model.layers[0].self_attn
    attention.register_forward_pre_hook(lambda *args: calls.append(1))

    def loss(model):
        output = model(input_ids=ids) if kind == "bert" else model(input_ids=ids, labels=ids)
        return output.last_hidden_state.square().sum() if kind == "bert" else output.loss

    for reentrant in (False, True):

        def switch(model, reentrant=reentrant):
            net.activation_checkpointing_enable({"use_reentrant": reentrant})
            model.train()
            calls.clear()

        same(model, switch, loss)
        assert len(calls) == 3  # features, output, and the output again
        net.activation_checkpointing_disable()


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_backward_pass_may_run_in_another_thread_as_that_of_a_gpu_does(reentrant, blocks, images):
    model, loss = blocks(), LOSSES["two passes before one backward"](images)
    wanted = gradients(model, loss)
    by_torch(reentrant)(model)
    model.zero_grad()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loss(model).backward).result()
    found = {name: parameter.grad for name, parameter in model.trained.named_parameters()}
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_pass_without_adapters_is_computed_again_without_them(blocks, images):
    model = blocks()
    images.requires_grad_()
    found = []
    for checkpointing in (False, True):
        model.backbone.net.gradient_checkpointing, images.grad = checkpointing, None
        with model.disabled():
            output = model(images).square().sum()
        output.backward()
        found.append(images.grad.clone())
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_network_s_own_methods_can_be_checkpointed_inside_applied(blocks, images):
    model = blocks()

    def loss(model):
        with model.applied(model.generate(images)) as net:
            return net(images).square().sum()

    same(model, by_torch(False), loss)
    by_torch(True)(model)
    with pytest.raises(InputError, match="use_reentrant=False"):
        loss(model).backward()


def test_an_output_without_tensors_is_refused_where_gradients_have_to_pass_it(blocks, images):
    class Hidden:
        def __init__(self, tensor):
            self.tensor = tensor

    model = blocks()
    model.backbone.net.register_forward_hook(lambda module, args, output: Hidden(output))
    by_torch(False)(model)
    model(images).tensor.sum().backward()
    by_torch(True)(model)
    with pytest.raises(InputError, match=r"Gradients cannot reach the cores through Hidden.*use_reentrant=False"):
        model(images)


def test_tensors_that_are_changed_in_place_are_noticed(blocks, images):
    model = blocks()
    by_torch(False)(model)
    model.backbone.net.head.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    kept = []
    output = model(images).square().sum()
    kept[-1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_hooks_around_a_pass_keep_their_effect(blocks, images):
    model, packed = blocks(), []
    by_torch(False)(model)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        with torch.no_grad():
            cores = model.generate(images)
        model(images, cores=cores).sum().backward()
    assert packed


def test_a_model_can_be_checkpointed_as_a_whole(blocks, images):
    model = blocks()

    def loss(model):
        return checkpoint(model, images, use_reentrant=False).square().sum()

    same(model, by_torch(False), loss)


def test_nothing_of_a_pass_stays_behind_its_backward_pass(blocks, images):
    model = blocks()
    by_torch(False)(model)
    output = model(images)
    recorded = weakref.ref(output.grad_fn.recorded)
    del output
    assert recorded() is None  # without a backward pass as well
    model(images).sum().backward()
    with pytest.raises(InputError, match="called without cores"):
        model.layers["head"](torch.rand(2, 6, dtype=torch.float64))


def test_a_network_that_does_not_say_that_it_checkpoints_is_told_to(blocks, images):
    model = blocks()
    net = model.backbone.net
    net.blocks[0].register_forward_hook(lambda *args: None)

    class Silent(Blocks):
        def forward(self, images):
            return self.head(checkpoint(self._block, 0, self.stem(images), use_reentrant=False).mean((2, 3)))

    net.__class__ = Silent
    with pytest.raises(InputError, match=r"called without cores.*gradient_checkpointing = True"):
        model(images).sum().backward()


def test_cores_of_the_stem_are_refused(adapt):
    images = torch.rand(2, 3, 32, 32)
    model = adapt(timm.create_model("resnet18", num_classes=0), extractor="stem", example=images)
    model.backbone.net.set_grad_checkpointing()
    with pytest.raises(InputError, match="extractor 'stem' are made inside the pass"):
        model(images)
    with torch.no_grad():
        model(images)
