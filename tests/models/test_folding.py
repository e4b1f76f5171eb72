"""BatchNorm folded into frozen convolutions: where it may be, and that results stay."""

import copy

import pytest
import torch
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.forward_context import forward_context
from metalora.models.adapt import adapt
from metalora.models.folding import FoldedBatchNorm2d, FoldedConv2d, fold_norms, unfold_norms


def conv_norm(**settings):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, bias=settings.pop("bias", True)), nn.BatchNorm2d(4, **settings)
    if norm.track_running_stats:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 2)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return conv, norm


class Net(nn.Module):
    """A convolution, a BatchNorm, and what `between` makes of the first one's output."""

    def __init__(self, between=lambda net, x: net.norm(x), **settings):
        super().__init__()
        self.conv, self.norm = conv_norm(**settings)
        self.between = between
        self.double().eval()

    def forward(self, x):
        return self.between(self, self.conv(x)).flatten(1)


X = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"affine": False}, {"affine": False, "bias": False}])
@torch.no_grad()
def test_folded_and_unfolded_are_the_same_network(settings):
    net = Net(**settings)
    before, plain = net(X), copy.deepcopy(net)
    assert [(type(conv), type(norm)) for conv, norm in fold_norms(net, X)] == [(FoldedConv2d, FoldedBatchNorm2d)]
    torch.testing.assert_close(net(X), before, rtol=1e-12, atol=1e-12)
    with forward_context(exact=True):
        assert torch.equal(net(X), before)
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert fold_norms(net, X) == []  # there is nothing left to fold
    unfold_norms(net)
    assert [type(module) for module in net.modules()] == [type(module) for module in plain.modules()]
    assert torch.equal(net(X), before)


@pytest.mark.parametrize(
    "between",
    [
        lambda net, x: net.norm(x) + x,
        lambda net, x: x + net.norm(x),
        lambda net, x: net.norm(x) * x.mean(),
        lambda net, x: net.norm(x.relu()),
        lambda net, x: net.norm(net.norm(x)),
        lambda net, x: net.norm(net.conv(x[:, :3])),
        lambda net, x: torch.cat([x, net.norm(x)]),
        lambda net, x: x,
    ],
    ids=["added behind", "added before", "mean", "between", "norm twice", "conv twice", "in a list", "unused"],
)
@torch.no_grad()
def test_an_output_that_goes_elsewhere_as_well_is_left_alone(between):
    net = Net(between)
    before = net(X)
    assert fold_norms(net, X) == []
    assert torch.equal(net(X), before)


def test_what_trains_or_has_no_statistics_is_left_alone():
    net = Net()
    net.norm.train()
    assert fold_norms(net, X) == []
    assert fold_norms(Net(track_running_stats=False), X) == []


@torch.no_grad()
def test_folds_follow_weights_and_precision(small_net, images):
    model = adapt(small_net, AdapterConfig("lora", rank=2), example=images)
    (conv, norm), *_ = model._folds
    assert conv.gain.dtype == torch.float32
    with torch.no_grad():
        norm.running_var.fill_(0.25)
    model.load_state_dict(model.state_dict())
    expected = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(conv.gain, expected)
    model.double()
    wanted = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    torch.testing.assert_close(conv.gain, wanted, rtol=1e-14, atol=0)
    twin = copy.deepcopy(model)
    with model.disabled():
        exact = model(images.double())
    torch.testing.assert_close(twin(images.double()), exact, rtol=1e-10, atol=1e-12)


def test_what_moves_in_inference_mode_can_be_trained_afterwards(small_net, images):
    model = adapt(small_net, AdapterConfig("lora", rank=2), example=images)
    with torch.inference_mode():
        model.to("cpu")
    model(images).sum().backward()


def layouts(backbone, images):
    """Of every adapted convolution's input and of every stage's gradient: whether it is channels-last."""
    model = adapt(backbone, AdapterConfig("lora", rank=2), example=images)
    found = {"inputs": [], "gradients": []}

    def look(kind, x):
        found[kind].append(x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous())

    def of_input(layer, args, output):
        if args[0].ndim == 4:
            look("inputs", args[0])

    def of_gradient(stage, args, output):
        # A second hook on the tensor sees what the first one makes of its gradient.
        output.register_hook(lambda gradient: look("gradients", gradient))

    for layer in model.layers.values():
        layer.register_forward_hook(of_input)
    for name in model.backbone.stages:
        model.backbone.net.get_submodule(name).register_forward_hook(of_gradient)
    model(images).square().sum().backward()
    return found


def test_a_named_backbone_is_channels_last_both_ways():
    found = layouts("resnet20", torch.rand(2, 3, 32, 32))
    assert len(found["inputs"]) == 21 and all(found["inputs"])
    assert len(found["gradients"]) == 3 and all(found["gradients"])


def test_a_foreign_backbone_gets_the_layout_that_it_came_with(small_net, images):
    assert not any(layouts(small_net, images)["inputs"])


def test_a_foreign_backbone_may_view_what_its_convolutions_give():
    net = Net(lambda net, x: net.norm(x).view(-1, 4 * 4 * 4))
    model = adapt(net, AdapterConfig("lora", rank=2), example=X)
    assert model._folds
    torch.testing.assert_close(model(X), net(X))
