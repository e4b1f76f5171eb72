"""BatchNorm folded into frozen convolutions: where it may be, that results stay, and that changes are noticed."""

import copy
import io
import pickle

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.forward_context import forward_context
from metalora.models.adapt import adapt
from metalora.models.backbones import Backbone
from metalora.models.folding import fold_batchnorm, unfold_batchnorm
from metalora.models.survey import survey


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
    net = Net(**settings).requires_grad_(False)
    before, plain = net(X), copy.deepcopy(net)
    (fold,) = fold_batchnorm(net, X)
    assert (fold.conv, fold.norm) == (net.conv, net.norm) and fold.gain is not None
    torch.testing.assert_close(net(X), before, rtol=1e-12, atol=1e-12)
    with forward_context(exact=True):
        assert torch.equal(net(X), before)
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert fold_batchnorm(net, X) == []  # there is nothing left to fold
    unfold_batchnorm(net)
    assert [module.__dict__.keys() for module in net.modules()] == [m.__dict__.keys() for m in plain.modules()]
    assert torch.equal(net(X), before)


@torch.no_grad()
def test_modules_keep_their_classes_and_places():
    net = Net()
    modules = [(name, type(module), module) for name, module in net.named_modules()]
    fold_batchnorm(net, X)
    assert [(name, type(module), module) for name, module in net.named_modules()] == modules


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
def test_a_convolution_whose_output_goes_elsewhere_as_well_is_left_alone(between):
    net = Net(between)
    before = net(X)
    assert fold_batchnorm(net, X) == []
    assert torch.equal(net(X), before)


def test_a_batchnorm_that_trains_or_has_no_statistics_is_left_alone():
    net = Net()
    net.norm.train()
    assert fold_batchnorm(net, X) == []
    assert fold_batchnorm(Net(track_running_stats=False), X) == []


CHANGES = {
    "a weight written to": lambda net: net.conv.weight.mul_(2),
    "a bias written to": lambda net: net.conv.bias.add_(1),
    "statistics written to": lambda net: net.norm.running_var.fill_(0.25),
    "a weight written to through its data": lambda net: net.conv.weight.data.mul_(2),
    "statistics written to through their data": lambda net: net.norm.running_var.data.mul_(4),
    "a weight replaced": lambda net: setattr(net.conv, "weight", nn.Parameter(-net.conv.weight, requires_grad=False)),
    "the data of a weight replaced": lambda net: setattr(net.norm.weight, "data", -net.norm.weight),
    "a weight removed": lambda net: setattr(net.norm, "weight", None),
    "a state loaded": lambda net: net.load_state_dict({key: 2 * value for key, value in net.state_dict().items()}),
    "statistics reset": lambda net: net.norm.reset_running_stats(),
    "no statistics": lambda net: (setattr(net.norm, "running_mean", None), setattr(net.norm, "running_var", None)),
    "another eps": lambda net: setattr(net.norm, "eps", 0.5),
    "another precision and back": lambda net: net.bfloat16().double(),
    "the convolution alone in another precision and back": lambda net: net.conv.bfloat16().double(),
    "another BatchNorm": lambda net: setattr(net, "norm", nn.BatchNorm2d(4).double().eval()),
    "no BatchNorm": lambda net: setattr(net, "norm", nn.Identity()),
    "another convolution": lambda net: setattr(net, "conv", conv_norm(bias=False)[0].double()),
    "a BatchNorm for several processes": lambda net: nn.SyncBatchNorm.convert_sync_batchnorm(
        net
    ).norm.running_var.fill_(0.25),
}


def folded(net):
    """The network behind a backbone that refreshes its folds."""
    backbone = Backbone(net.requires_grad_(False))
    backbone.fold(survey(backbone, X[:1]).pairs)
    assert len(backbone.folds) == 1
    return backbone


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_a_change_is_noticed(change):
    backbone = folded(Net())
    before = backbone(X)
    change(backbone.net)
    with forward_context(exact=True):
        exact = backbone(X)
    torch.testing.assert_close(backbone(X), exact, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(exact, before)


@torch.no_grad()
def test_a_fold_is_computed_once():
    backbone = folded(Net())
    before = backbone.folds[0].folded
    backbone(X)
    assert backbone.folds[0].folded is before


@torch.no_grad()
def test_a_batchnorm_in_training_mode_learns_statistics_and_is_folded_again_after_it():
    backbone = folded(Net())
    mean = backbone.net.norm.running_mean.clone()
    backbone.net.norm.train()
    backbone(X)
    assert not torch.equal(backbone.net.norm.running_mean, mean)
    assert backbone.folds[0].gain is None
    backbone.net.norm.eval()
    with forward_context(exact=True):
        exact = backbone(X)
    torch.testing.assert_close(backbone(X), exact, rtol=1e-10, atol=1e-12)
    assert backbone.folds[0].gain is not None


def test_weights_that_are_trained_get_their_gradient():
    backbone = folded(Net())
    backbone.net.requires_grad_(True)
    backbone(X).square().sum().backward()
    assert all(parameter.grad.any() for parameter in backbone.net.parameters())


def saved_and_loaded(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module)), saved_and_loaded])
@torch.no_grad()
def test_a_copy_has_folds_of_its_own(copied):
    backbone = folded(nn.Sequential(*conv_norm(), nn.Flatten()).double().eval())
    before, twin = backbone(X), copied(backbone)
    assert torch.equal(twin(X), before)
    twin.net[0].weight.mul_(2)
    with forward_context(exact=True):
        exact = twin(X)
    torch.testing.assert_close(twin(X), exact, rtol=1e-10, atol=1e-12)
    assert torch.equal(backbone(X), before)


@torch.no_grad()
def test_the_gain_of_an_update_follows_weights_and_precision(small_net, images):
    model = adapt(small_net, AdapterConfig("lora", rank=2), example=images)
    fold = model.backbone.folds[0]
    layer, norm = model.layers["conv"], fold.norm
    assert layer.output_gain.dtype == torch.float32
    norm.running_var.fill_(0.25)
    model.double()(images.double())
    wanted = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(layer.output_gain, wanted, rtol=1e-14, atol=0)
    twin = copy.deepcopy(model)
    with model.disabled():
        assert layer.output_gain is None
        exact = model(images.double())
    torch.testing.assert_close(twin(images.double()), exact, rtol=1e-10, atol=1e-12)


def test_a_model_that_moves_in_inference_mode_can_be_trained_afterwards(small_net, images):
    model = adapt(small_net, AdapterConfig("lora", rank=2), example=images)
    with torch.inference_mode():
        model.to("cpu")
    model(images).sum().backward()


def layouts(backbone, images):
    """Of every adapted convolution's input and of every stage's gradient: whether it is channels-last."""
    model = adapt(backbone, AdapterConfig("lora", rank=2), example=images)
    channels_last = {"inputs": [], "gradients": []}

    def record(kind, x):
        channels_last[kind].append(x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous())

    def of_input(layer, args, output):
        if args[0].ndim == 4:
            record("inputs", args[0])

    def of_gradient(stage, args, output):
        # A second hook on the tensor sees what the first one makes of its gradient.
        output.register_hook(lambda gradient: record("gradients", gradient))

    for layer in model.layers.values():
        layer.register_forward_hook(of_input)
    for name in model.backbone.stages:
        model.backbone.net.get_submodule(name).register_forward_hook(of_gradient)
    model(images).square().sum().backward()
    return channels_last


def test_a_named_backbone_is_channels_last_both_ways():
    channels_last = layouts("resnet20", torch.rand(2, 3, 32, 32))
    assert len(channels_last["inputs"]) == 21 and all(channels_last["inputs"])
    assert len(channels_last["gradients"]) == 3 and all(channels_last["gradients"])


def test_a_foreign_backbone_gets_the_layout_that_it_came_with(small_net, images):
    assert not any(layouts(small_net, images)["inputs"])


def test_a_foreign_backbone_may_view_the_output_of_its_convolutions():
    net = Net(lambda net, x: net.norm(x).view(-1, 4 * 4 * 4))
    model = adapt(net, AdapterConfig("lora", rank=2), example=X)
    assert model.backbone.folds
    torch.testing.assert_close(model(X), net(X))


@torch.no_grad()
def test_a_batchnorm_of_timm_with_its_activation_is_folded():
    torch.manual_seed(0)
    norm = BatchNormAct2d(6, act_layer=nn.ReLU6).eval()
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    net, x = nn.Sequential(nn.Conv2d(3, 6, 3), norm).requires_grad_(False), torch.rand(2, 3, 9, 9)
    wanted = net(x)
    assert len(fold_batchnorm(net, x)) == 1
    torch.testing.assert_close(net(x), wanted)
    assert not torch.equal(net[0](x), nn.Conv2d.forward(net[0], x))
    unfold_batchnorm(net)
    assert torch.equal(net(x), wanted)
    assert fold_batchnorm(nn.Sequential(norm, nn.Conv2d(6, 3, 1)), torch.rand(1, 6, 4, 4)) == []
