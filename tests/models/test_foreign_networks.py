"""Networks that cannot be adapted, or only in part: a refusal names the layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from metalora.adapters.methods import METHODS
from metalora.util.errors import InputError

ADAPTING = [name for name, entry in METHODS.items() if entry.format is not None]
GENERATING = [name for name in ADAPTING if METHODS[name].generated]
STATIC = [name for name in METHODS if name not in GENERATING]


class Sequence(nn.Module):
    """Images → sequence first (3·H, N, W), a linear layer, (N, D)."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 9)

    def forward(self, images):
        return self.layer(images.flatten(1, 2).transpose(0, 1)).mean(0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_a_leading_axis_that_is_not_the_batch_is_refused_whatever_the_first_batch(count, adapt):
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


def test_a_layer_that_is_never_called_is_refused(adapt):
    with pytest.raises(InputError, match=r"'unused' is never called .* \(nor are 1 more\): exclude it"):
        adapt(Odd(), example=torch.rand(2, 6))


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


@pytest.mark.parametrize("flag", ["grad_checkpointing", "gradient_checkpointing"])
def test_checkpointing_is_refused_where_cores_would_be_lost(flag, small_net, adapt):
    setattr(small_net, flag, True)
    with pytest.raises(InputError, match="checkpoints activations"):
        adapt(small_net)


@pytest.mark.parametrize("method", ["lora", "multi-lora"])
def test_static_methods_train_with_checkpointing(method, images, randomise, adapt):
    class Checkpointing(nn.Module):
        grad_checkpointing = True

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

        def forward(self, x):
            maps = checkpoint(self.conv, x, use_reentrant=False) if self.grad_checkpointing else self.conv(x)
            return self.head(maps.mean((2, 3)))

    model = randomise(adapt(Checkpointing(), method, example=images))
    gradients = []
    for flag in (True, False):
        model.backbone.net.grad_checkpointing = flag
        model.zero_grad()
        model(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.trained.parameters()])
    torch.testing.assert_close(*gradients)


def test_an_adapted_model_is_not_adapted_again(small_net, images, adapt):
    model = adapt(small_net, example=images)
    for again in (model, model.backbone, model.backbone.net):
        with pytest.raises(InputError, match="adapted already"):
            adapt(again)


def test_an_output_that_is_no_embedding_is_refused(adapt):
    for method in METHODS:
        with pytest.raises(InputError, match=r"gives \(\d, 4, 3, 3\) for \d images: make it give embeddings"):
            adapt(nn.Sequential(nn.Conv2d(3, 4, 3)), method, example=torch.rand(1, 3, 5, 5))
