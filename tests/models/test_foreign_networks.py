"""Networks that cannot be adapted, or only in part: a refusal names the layer."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import metalora
from metalora.adapters.methods import PAPER
from metalora.util.errors import InputError, LayersLeftOut

ROOT = Path(__file__).parents[2]
ADAPTING = [name for name, entry in PAPER.items() if entry.format is not None]
GENERATING = [name for name in ADAPTING if PAPER[name].generated]
STATIC = [name for name in PAPER if name not in GENERATING]


class Sequence(nn.Module):
    """Images → sequence first (3·H, N, W), a linear layer, (N, D)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 9)

    def forward(self, images):
        return self.layer(images.flatten(1, 2).transpose(0, 1)).mean(0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("rows", [2, 3, 6])
def test_a_leading_axis_that_is_not_the_batch_is_refused_whatever_the_first_batch(count, rows, adapt):
    images = torch.rand(count, rows, 1, 9)
    with pytest.raises(InputError, match=r"'layer' cannot be adapted, the leading axis of its input is not the batch"):
        adapt(Sequence())(images)
    with pytest.raises(InputError, match="No layer is left to adapt: not layer, since the leading axis of its input"):
        adapt(Sequence(), example=images)
    assert adapt(Sequence(), "lora")(images).shape == (count, 9)


class Windows(nn.Module):
    """Images of 8 by 8 pixels → windows of 4 by 4 in the batch, in one of two orders → (N, 6)."""

    def __init__(self, image_by_image):
        super().__init__()
        self.image_by_image = image_by_image
        self.inner, self.outer = nn.Linear(48, 8), nn.Linear(8, 6)

    def forward(self, images):
        windows = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        if self.image_by_image:
            return self.outer(self.inner(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]).mean(1))
        return self.outer(self.inner(windows.transpose(0, 1).flatten(0, 1)).unflatten(0, (4, -1)).mean(0))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_windows_of_an_image_that_lie_together_get_its_core(count, randomise, adapt, close):
    model, images = adapt(Windows(True).double()), torch.rand(count, 3, 8, 8, dtype=torch.float64)
    model.prepare(images)
    randomise(model.trained)
    assert list(model.layers) == ["inner", "outer"]
    close(model(images), torch.cat([model(image[None]) for image in images]), 1e-12)
    close(model.fold(model.generate(images)[0])(images[:1]), model(images[:1]), 1e-12)


def test_windows_of_several_images_that_lie_mixed_are_left_out(adapt):
    with pytest.warns(LayersLeftOut, match="since the leading axis of its input is not the batch: inner"):
        model = adapt(Windows(False), example=torch.rand(1, 3, 8, 8))
    assert list(model.layers) == ["outer"]
    assert list(adapt(Windows(False), "lora", example=torch.rand(1, 3, 8, 8)).layers) == ["inner", "outer"]


class Positions(nn.Module):
    """A layer of positions, which no image reaches, and one of the image."""

    def __init__(self):
        super().__init__()
        self.positions, self.out = nn.Linear(2, 9), nn.Linear(9, 5)

    def forward(self, images):
        places = torch.stack([torch.arange(9.0), torch.arange(9.0).flip(0)], dim=1)
        return self.out(images.flatten(1) * self.positions(places).mean(1))


def test_a_layer_that_no_image_reaches_is_left_out_by_a_generated_method_alone(adapt):
    example = torch.rand(2, 1, 3, 3)
    with pytest.warns(LayersLeftOut, match="is not the batch: positions"):
        assert list(adapt(Positions(), example=example).layers) == ["out"]
    assert list(adapt(Positions(), "lora", example=example).layers) == ["positions", "out"]
    with pytest.raises(InputError, match="'positions' cannot be adapted, the leading axis"):
        adapt(Positions(), targets="positions", example=example)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = self.again = nn.Linear(6, 6)
        self.unused, self.other = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.again(self.used(x).relu())


def test_a_layer_that_is_never_called_is_left_out_and_refused_by_name(adapt):
    example = torch.rand(2, 6)
    with pytest.warns(LayersLeftOut, match="since it is never called by the backbone's forward pass: unused, other"):
        model = adapt(Odd(), example=example)
    assert list(model.layers) == ["used"]
    with pytest.raises(InputError, match="'unused' cannot be adapted, it is never called"):
        adapt(Odd(), targets="used", example=example)
    with pytest.raises(
        InputError, match=r"'unused' cannot be adapted, it is never called .* or give adapt\(\) an example"
    ):
        adapt(Odd())(example)


class Reading(nn.Module):
    """Reads the weight of one layer, of another that it also calls, and asks a third for its dtype and shape only."""

    def __init__(self):
        super().__init__()
        self.read, self.both, self.called = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        x = F.linear(x, self.read.weight).to(self.called.weight.dtype)
        x = self.both(x) @ self.both.weight
        return self.called(x.expand(len(x), self.called.weight.shape[1]))


@pytest.mark.parametrize("method", ADAPTING)
def test_a_weight_that_is_read_is_left_out_so_that_the_fold_equals_the_adapted_model(method, adapt, randomise, close):
    x = torch.rand(1, 6)
    with pytest.warns(LayersLeftOut) as warned:
        model = adapt(Reading(), method, example=x)
    assert [str(warning.message) for warning in warned] == [
        "Not adapted, since its weight is read as well as called: both.",
        "Not adapted, since its weight is read by the module around it, not called: read.",
    ]
    randomise(model.trained)
    assert list(model.layers) == ["called"]
    close(model.fold(model.generate(x) if model.generated else None)(x), model(x), 1e-5)
    with pytest.raises(InputError, match="'both' cannot be adapted, its weight is read as well as called"):
        adapt(Reading(), method, targets="both", example=x)


def test_a_weight_that_is_tied_to_an_embedding_is_no_read(adapt, randomise, close):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 6), nn.Linear(6, 7)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens).mean(1))

    tokens = torch.randint(7, (3, 5))
    model = adapt(Tied(), "lora", exclude="embed", example=tokens)
    randomise(model.trained)
    close(model.fold()(tokens), model(tokens), 1e-5)


@pytest.mark.parametrize("method", ADAPTING)
def test_a_layer_in_two_places_is_adapted_in_both(method, randomise, adapt, close):
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


def test_layers_whose_weights_are_tied_get_their_own_updates_when_folded(randomise, adapt, close):
    net, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), torch.rand(3, 6)
    net[2].weight = net[0].weight
    model = adapt(net, "lora", example=x)
    randomise(model.trained)
    close(model.fold()(x), model(x), 1e-5)


def test_transformers_are_adapted_where_their_layers_are_called(randomise, adapt, close):
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


def test_an_adapted_model_is_not_adapted_again(small_net, images, adapt):
    model = adapt(small_net, example=images)
    for again in (model, model.backbone, model.backbone.net):
        with pytest.raises(InputError, match="adapted already"):
            adapt(again)


@pytest.mark.parametrize("method", PAPER)
def test_maps_are_a_network_s_output_too_but_not_embedded(method, adapt):
    images = torch.rand(3, 3, 5, 5)
    model = adapt(nn.Sequential(nn.Conv2d(3, 4, 3)), method, example=images)
    assert model(images).shape == (3, 4, 3, 3)
    with pytest.raises(InputError, match=r"gives \(3, 4, 3, 3\) for 3 images: make it give embeddings"):
        metalora.embed(model, images)


@pytest.mark.parametrize("method", ADAPTING)
def test_a_model_can_be_moved_to_channels_last(method, small_net, images, adapt, randomise, close):
    model = adapt(small_net, method, example=images)
    randomise(model.trained)
    with torch.no_grad():
        before = model(images)
        model.to(memory_format=torch.channels_last)
        assert model.backbone.net.conv.base.weight.is_contiguous(memory_format=torch.channels_last)
        close(model(images.contiguous(memory_format=torch.channels_last)), before, 1e-5)
    assert model.double().layers["conv"].weight.dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in model.trained.parameters())


STRIDED = """
import torch, metalora
from torch import nn
for channels in (2, 3, 7):
    for method in {methods}:
        net = nn.Sequential(nn.Conv2d(channels, 64, 1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        images = torch.rand(4, channels, 64, 64).contiguous(memory_format=torch.channels_last)
        model = metalora.adapt(net, metalora.AdapterConfig(method, rank=1), example=images)
        for _ in range(8):
            model(images).square().mean().backward()
"""


def test_training_a_strided_product_of_few_channels_does_not_crash():
    """In torch 2.14 the gradient of such a weight overwrites other memory, which ends the process."""
    script = STRIDED.format(methods=ADAPTING)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
@pytest.mark.parametrize("method", ADAPTING)
def test_a_strided_product_of_few_channels_is_that_of_the_folded_network(stride, method, adapt, randomise, close):
    net = nn.Sequential(nn.Conv2d(3, 8, 1, stride=stride), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    x = torch.rand(1, 3, 10, 9, dtype=torch.float64)
    model = randomise(adapt(net, method, rank=1, example=x))
    close(model.fold(model.generate(x) if model.generated else None)(x), model(x), 1e-10)


class SamePadding(nn.Conv2d):
    """As in the EfficientNets of other packages: pads in a way of its own."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight / self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


@pytest.mark.parametrize("method", ADAPTING)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_that_pads_in_a_way_of_its_own_is_adapted(groups, method, adapt, randomise, close):
    net = nn.Sequential(SamePadding(4, 8, 3, stride=2, groups=groups), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    x = torch.rand(1, 4, 9, 8, dtype=torch.float64)
    model = randomise(adapt(net, method, example=x))
    assert list(model.layers) == ["0"]
    close(model.fold(model.generate(x) if model.generated else None)(x), model(x), 1e-10)


def test_a_convolution_that_changes_its_weight_is_left_out_with_the_reason(adapt):
    net = nn.Sequential(Standardised(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="not 0, since Standardised computes with its weight in a way of its own"):
        adapt(net, example=torch.rand(1, 3, 8, 8))


class Conv1D(nn.Module):
    """As transformers' GPT-2 has them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 6))

    def forward(self, x):
        return x @ self.weight


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 3, 3), (3, 8)),
        (nn.Conv3d(3, 3, 3), (3, 4, 4, 4)),
        (nn.ConvTranspose2d(3, 3, 3), (3, 4, 4)),
        (nn.ConvTranspose1d(3, 3, 3), (3, 4)),
        (Conv1D(), (4, 6)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_of_other_kinds_are_named(layer, shape, adapt):
    net = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(5))
    with pytest.warns(LayersLeftOut, match=f"it is of class {type(layer).__name__}: 0"):
        model = adapt(net, example=torch.rand(1, *shape))
    assert (list(model.layers), list(model.left_out)) == (["2"], ["0"])
    with pytest.raises(InputError, match=f"'0' cannot be adapted, .* of class {type(layer).__name__}"):
        adapt(net, targets="0", example=torch.rand(1, *shape))


def depthwise():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    nn.init.uniform_(net[2].running_var, 0.5, 2)
    nn.init.uniform_(net[2].weight, 0.5, 2)
    return net


@pytest.mark.parametrize("method", [name for name in ADAPTING if name not in ("film", "full")])
def test_depthwise_convolutions_are_left_out_unless_they_are_asked_for(method, adapt, randomise, close):
    net, x = depthwise(), torch.rand(3, 3, 6, 5)
    with pytest.warns(LayersLeftOut, match=r"so narrow groups costs several times the layer .*: 1\.$"):
        assert list(adapt(net, method, rank=1, example=x).layers) == ["0"]
    model = randomise(adapt(net, method, rank=1, targets="[01]", example=x))
    assert list(model.layers) == ["0", "1"] and len(model.backbone.folds) == 1
    cores = model.generate(x) if model.generated else None
    for n in range(3):
        folded = model.fold(None if cores is None else cores[n])
        close(folded(x[n : n + 1]), model(x)[n : n + 1], 1e-5)
