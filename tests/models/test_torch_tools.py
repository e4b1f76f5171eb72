"""An adapted model under torch's ordinary tools: gradients to images, torch.func, export, pickle, hooks, averaging."""

import io
import json
import pickle
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, grad, jvp, vmap
from torch.optim.swa_utils import AveragedModel, update_bn

import metalora
from metalora.adapters.config import AdapterConfig

METHODS = ["lora", "multi-lora", "metalora-cp", "metalora-tr", "film", "full"]
SOME = ["lora", "metalora-tr", "film"]
NETWORKS = ["resnet20", "mixer_nano"]


def pixels(count, seed=0, dtype=torch.float32):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def model(randomise):
    """model(name, method, …): a bundled backbone whose update is not zero."""

    def made(name="resnet20", method="metalora-tr", **settings):
        adapted = metalora.adapt(name, AdapterConfig(method, rank=2, **settings))
        randomise(adapted.trained, scale=0.1)
        return adapted

    return made


@pytest.fixture
def gap(close):
    """gap(model, images): how far the adapted network is from the original one, relative to its output."""

    @torch.no_grad()
    def measure(adapted, images):
        found = adapted(images).double()
        with adapted.disabled():
            original = adapted(images).double()
        return float((found - original).norm() / original.norm())

    return measure


@pytest.mark.parametrize("extractor", ["self", "stem"])
@pytest.mark.parametrize("method", ["lora", "metalora-cp", "metalora-tr", "film"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_of_an_image_is_that_of_finite_differences(name, method, extractor, model):
    network = model(name, method, extractor=extractor).double()
    images = pixels(2, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-8 * direction
    with torch.no_grad():
        ends = [network(images + sign * step).square().sum() for sign in (1, -1)]
    torch.testing.assert_close((gradient * direction).sum(), (ends[0] - ends[1]) / 2e-8, rtol=1e-5, atol=1e-5)


def test_a_channel_that_does_not_vary_leaves_the_gradient_of_an_image_finite(model):
    network, images = model("resnet20", "metalora-tr"), torch.zeros(2, 3, 32, 32, requires_grad=True)
    with torch.no_grad():
        network.backbone.net.layer1[-1].bn2.bias.fill_(-1e3)  # the ReLU behind the stage's last sum is dead
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    assert gradient.isfinite().all()


def test_images_that_need_no_gradient_record_none_of_the_extractor(model):
    network = model("resnet20", "metalora-tr")
    assert not network.features(pixels(2)).requires_grad
    assert network.features(pixels(2).requires_grad_()).requires_grad


@pytest.mark.parametrize("method", SOME)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_single_images_by_vmap_are_those_of_a_loop(name, method, model):
    network, images = model(name, method), pixels(3)
    parameters = {key: value.detach() for key, value in network.named_parameters() if key.startswith("trained")}

    def loss(values, image):
        return functional_call(network, values, (image[None],)).square().sum()

    together = vmap(grad(loss), (None, 0))(parameters, images)
    for n, image in enumerate(images):
        network.zero_grad()
        network(image[None]).square().sum().backward()
        for key, value in network.named_parameters():
            if key in parameters and value.grad is not None:
                torch.testing.assert_close(
                    together[key][n], value.grad, rtol=1e-3, atol=1e-4 * float(value.grad.norm())
                )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, of torch.jit
@pytest.mark.parametrize("method", SOME)
@pytest.mark.parametrize("name", NETWORKS)
def test_forward_differentiation_agrees_with_backward(name, method, model):
    network, images = model(name, method).double(), pixels(2, dtype=torch.float64)
    direction = pixels(2, seed=1, dtype=torch.float64)
    output, tangent = jvp(network, (images,), (direction,))
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    torch.testing.assert_close(tangent.sum(), (gradient * direction).sum())
    torch.testing.assert_close(output, network(images).detach())


@pytest.mark.slow
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("method", "extractor"), [("lora", "self"), ("metalora-cp", "self"), ("metalora-tr", "stem")])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_the_adapted_model_is_exported_for_batches_of_any_size(name, method, extractor, strict, model):
    network = model(name, method, extractor=extractor)
    sizes = ({0: torch.export.Dim("images", min=2, max=64)},)
    program = torch.export.export(network, (pixels(4),), strict=strict, dynamic_shapes=sizes)
    images = pixels(7, seed=1)
    torch.testing.assert_close(program.module()(images), network(images).detach(), rtol=1e-3, atol=1e-4)


EMBED = """
import pickle, sys, torch
network, images = pickle.load(sys.stdin.buffer)
with torch.no_grad():
    print(network(images).tolist())
"""


def test_a_pickled_model_embeds_the_same_in_a_fresh_process(model):
    network, images = model(), pixels(2)
    with torch.no_grad():
        expected = network(images)
    done = subprocess.run(
        [sys.executable, "-c", EMBED], input=pickle.dumps((network, images)), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), expected)


@pytest.mark.parametrize("method", METHODS)
def test_torch_save_keeps_the_model(method, model):
    network, images, file = model("mixer_nano", method), pixels(2), io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    copy = torch.load(file, weights_only=False)  # what this test has just written
    torch.testing.assert_close(copy(images), network(images))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_backbone_of_half_precision_trains_adapters_of_full_precision(name, method, autocast, randomise, close):
    backbone = metalora.load_backbone(name).bfloat16()
    network = metalora.adapt(backbone, AdapterConfig(method, rank=2))
    assert {p.dtype for p in network.trained.parameters()} == {torch.float32}
    assert {p.dtype for p in network.backbone.parameters()} == {torch.bfloat16}
    randomise(network.trained, scale=0.03)
    images = pixels(4)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = network(images)
        output.float().square().mean().backward()
    assert output.dtype == torch.bfloat16
    assert all(
        p.grad is None or (p.grad.dtype == torch.float32 and p.grad.isfinite().all()) for p in network.parameters()
    )
    close(output.float(), network.float()(images), 0.1)


def test_adapters_may_have_the_precision_of_the_backbone_and_follow_a_wider_one():
    small = AdapterConfig("metalora-tr", rank=2, adapter_dtype="backbone")
    network = metalora.adapt(metalora.load_backbone("resnet20").bfloat16(), small)
    assert {p.dtype for p in network.trained.parameters()} == {torch.bfloat16}
    network = metalora.adapt(metalora.load_backbone("resnet20").double(), AdapterConfig("metalora-tr", rank=2))
    assert {p.dtype for p in network.trained.parameters()} == {torch.float64}
    with pytest.raises(metalora.InputError, match="adapter_dtype is 'int8': use float32 or backbone"):
        AdapterConfig(adapter_dtype="int8")


def test_statistics_that_are_estimated_anew_are_those_of_the_images(gap):
    network, images = metalora.adapt("resnet20", AdapterConfig("lora", rank=2)), pixels(16)
    update_bn([images, images], network)
    norm, net = network.backbone.net.bn1, network.backbone.net
    with torch.no_grad():
        inputs = net.conv1(network.backbone.preprocess(images))
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, inputs.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=1e-5)
    assert not norm.training
    assert gap(network, images) < 1e-5


def test_an_average_of_models_is_one_network_adapted_and_disabled(gap):
    network = metalora.adapt("resnet20", AdapterConfig("lora", rank=2))
    average = AveragedModel(network, use_buffers=True)
    assert gap(average.module, pixels(2)) < 1e-5
    with torch.no_grad():
        for tensor in (*network.frozen.parameters(), *network.frozen.buffers()):
            tensor.mul_(1.25 if tensor.is_floating_point() else 1)
    for _ in range(2):
        average.update_parameters(network)
        assert gap(average.module, pixels(2)) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_hooks_see_what_a_frozen_module_gives_by_itself(name, model):
    network, images, seen = model(name, "metalora-tr"), pixels(2), {}
    adapted = list(network.layers.values())[-1]
    norms = [module for module in network.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in (adapted.base, *norms):
        module.register_forward_hook(lambda m, args, out: seen.update({m: (args[0].clone(), out.clone(), out)}))
    with torch.no_grad():
        network(images)
        for module, (value, output, _) in list(seen.items()):
            torch.testing.assert_close(output, module(value))
        torch.testing.assert_close(seen[adapted.base][2], seen[adapted.base][1])  # nothing is written into it later
