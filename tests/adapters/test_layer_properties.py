"""Adapted layers of any shape, rank and geometry against dense weights, by examples that hypothesis draws."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from metalora.adapters.methods import METHODS
from metalora.util.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from cases import EQUATIONS, make_core, make_layer, run

SMALL = st.integers(1, 4)


@st.composite
def convolutions(draw):
    """(convolution, height, width) with an output of at least one pixel."""
    groups, kernel = draw(st.integers(1, 3)), (draw(SMALL), draw(SMALL))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = draw(st.sampled_from(["valid", "same", "numbers"]))
    if padding == "same":  # torch warns that even kernels are padded by a copy
        stride, kernel = (1, 1), (2 * (kernel[0] // 2) + 1, 2 * (kernel[1] // 2) + 1)
    if padding == "numbers":
        padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    net = nn.Conv2d(
        groups * draw(SMALL),
        groups * draw(st.sampled_from([1, 2, 5, 40])),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        draw(st.booleans()),
        mode,
    )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    height, width = (draw(st.integers(size, size + 6)) for size in reach)
    if padding != "valid" and mode == "reflect":  # torch reflects less than the image is wide
        assume(min(height, width) > max(reach))
    return net.double(), height, width


def filled(net, seed):
    """Give a layer seeded weights."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return net


def check(net, x, method, rank, cores, alpha, randomise, output_reference):
    """Compare an adapted layer with its dense reference."""
    layer = make_layer(net, method, randomise, rank=rank, alpha=alpha)
    core = make_core(method, cores, rank=rank)
    torch.testing.assert_close(
        run(layer, x, core), output_reference(layer, method, x, core), rtol=1e-9, atol=1e-9, msg=f"{net} {x.shape}"
    )


@given(st.data())
@pytest.mark.parametrize("method", EQUATIONS)
def test_a_convolution_of_any_geometry_is_its_dense_weight(method, randomise, output_reference, data):
    net, height, width = data.draw(convolutions())
    count, rank = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    x = torch.randn(
        count, net.in_channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    cores, alpha = data.draw(st.sampled_from([1, count])), data.draw(st.sampled_from([None, 0.5, 7.0]))
    check(filled(net, count), x, method, rank, cores, alpha, randomise, output_reference)


@given(st.data())
@pytest.mark.parametrize("method", EQUATIONS)
def test_a_linear_layer_of_any_shape_is_its_dense_weight(method, randomise, output_reference, data):
    inputs, outputs = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    middle = data.draw(st.lists(st.integers(1, 3), max_size=3))
    count, rank = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    x = torch.randn(count, *middle, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net = filled(nn.Linear(inputs, outputs, data.draw(st.booleans())).double(), count)
    check(net, x, method, rank, data.draw(st.sampled_from([1, count])), None, randomise, output_reference)


@given(st.data())
@pytest.mark.parametrize("method", [name for name in EQUATIONS if METHODS[name].generated])
def test_another_number_of_cores_than_samples_is_a_sentence(method, randomise, data):
    count, cores = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 5))
    assume(count != cores)
    layer = make_layer(nn.Linear(3, 4).double(), method, randomise)
    with pytest.raises(InputError):
        run(layer, torch.randn(count, 3, dtype=torch.float64), make_core(method, cores))
