"""Merged weights: the outputs of thin layers, taken only where they are less work and nothing else is lost."""

import sys
from pathlib import Path

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from metalora.adapters import layers
from metalora.adapters.cores import Cores
from metalora.adapters.forward_context import forward_context

sys.path.insert(0, str(Path(__file__).parent))
from cases import GEOMETRIES, make_core, make_layer, relative_error, run

METHODS = ("lora", "multi-lora", "metalora-cp", "metalora-tr")
NARROW_GROUPS = ("depthwise", "groups, stride, circular")
SIDE = 20  # pixels: so many positions that merging is less work


def apart(layer, x, core):
    with forward_context(cores=None if core is None else Cores({"layer": core}), apart=True):
        return layer(x)


@pytest.fixture
def merged(monkeypatch):
    """Grows with every weight that is merged."""
    calls, own = [], layers.merged_weight
    monkeypatch.setattr(layers, "merged_weight", lambda *given: calls.append(given) or own(*given))
    return calls


@torch.no_grad()
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("method", METHODS)
def test_a_convolution_gives_what_thin_layers_give(randomise, merged, method, geometry, samples, memory_format):
    layer = make_layer(nn.Conv2d(6, 12, **GEOMETRIES[geometry]).double(), method, randomise).eval()
    x = torch.randn(3, 6, SIDE, SIDE, dtype=torch.float64).to(memory_format=memory_format)
    core = make_core(method, samples)
    found = run(layer, x, core)
    expected = geometry not in NARROW_GROUPS and (core is None or samples == 1)
    assert len(merged) == expected
    wanted = apart(layer, x, core)
    assert relative_error(found, wanted) < 1e-12 and found.stride() == wanted.stride()
    assert len(merged) == expected  # nothing was merged apart


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_linear_layer_gives_what_thin_layers_give(randomise, merged, method, bias, samples):
    layer = make_layer(nn.Linear(6, 10, bias=bias).double(), method, randomise).eval()
    x, core = torch.randn(3, 4, 5, 6, dtype=torch.float64), make_core(method, samples)
    found = run(layer, x, core)
    assert len(merged) == (core is None or samples == 1)
    assert relative_error(found, apart(layer, x, core)) < 1e-12


@torch.no_grad()
def test_a_convolution_that_pads_as_tensorflow_does(randomise, merged):
    layer = make_layer(Conv2dSame(6, 12, 3, stride=2).double(), "lora", randomise).eval()
    x = torch.randn(3, 6, SIDE, SIDE + 1, dtype=torch.float64)
    assert relative_error(run(layer, x, None), apart(layer, x, None)) < 1e-12 and merged


@torch.no_grad()
@pytest.mark.parametrize(("rows", "expected"), [(32, 0), (33, 1)])
def test_it_is_done_where_positions_are_many(randomise, merged, rows, expected):
    layer = make_layer(nn.Linear(96, 48), "lora", randomise)  # I·O is 32 times I + O
    run(layer, torch.randn(rows, 96), None)
    assert len(merged) == expected


def test_where_a_gradient_is_wanted_nothing_is_merged(randomise, merged):
    layer = make_layer(nn.Linear(6, 10).double(), "lora", randomise)
    run(layer, torch.randn(99, 6, dtype=torch.float64), None).sum().backward()
    assert not merged


@torch.no_grad()
@pytest.mark.parametrize("case", ["half", "autocast", "hook", "dropout", "film"])
def test_what_would_be_lost_keeps_weights_apart(randomise, merged, case):
    method = "film" if case == "film" else "lora"
    base = nn.Conv2d(6, 12, 1).to(torch.bfloat16 if case == "half" else torch.float32)
    layer = make_layer(base, method, randomise, dropout=0.5 * (case == "dropout"))
    core = None
    if case == "film":
        core = torch.randn(3, 2, 12)
    if case == "hook":
        base.register_forward_hook(lambda *_: None)
    layer.adapter.train(case == "dropout")
    x = torch.randn(3, 6, SIDE, SIDE).to(base.weight.dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        run(layer, x, core)
    assert not merged
