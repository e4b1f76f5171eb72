"""Every format against dense weights, applied sample by sample in float64 on the CPU, with gradients."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from metalora.adapters.methods import METHODS
from metalora.util.device import autocast

sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))
from cases import BUILT_ON, EQUATIONS, make_core, make_layer, relative_error, run

# Of the norm. float32 rounds by 2⁻²⁴ at most, in sums of some hundred products; bfloat16 by 2⁻⁹, in up to eight places
# one behind the other: input, weight, A, B and core, the narrow activations, the update and its sum with the output.
TOLERANCES = {"float32": 2**-18, "bfloat16": 2**-7}
GRADIENTS = 4  # times that: they have been through all of it, and back
FORMATS = {name: name for name in EQUATIONS} | BUILT_ON  # → the equation of its dense weight
CASES = [(name, cores) for name in FORMATS for cores in ("own", "one")[: 1 + METHODS[name].generated]]
LAYERS = {
    "linear": lambda i, o: nn.Linear(i, o),
    "1x1, stride 2": lambda i, o: nn.Conv2d(i, o, 1, stride=2),
    "3x3": lambda i, o: nn.Conv2d(i, o, 3, padding=1),
    "3x3, groups": lambda i, o: nn.Conv2d(i, o, 3, padding=1, groups=2),
    "3x3, depthwise": lambda i, o: nn.Conv2d(i, i, 3, padding=1, groups=i),
}


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("method", "cores"), CASES)
def test_a_layer_is_its_dense_weight(method, kind, cores, precision, device, randomise, output_reference, record):
    inputs, outputs, samples, side = (64, 96, 16, 14) if device.type == "cuda" else (8, 12, 3, 5)
    torch.manual_seed(0)
    exact = make_layer(LAYERS[kind](inputs, outputs), method, lambda adapter: randomise(adapter, scale=0.3))
    layer = placed(exact, device)
    exact = placed(exact, torch.device("cpu"), torch.float64)
    x = torch.randn(samples, *((7, inputs) if kind == "linear" else (inputs, side, side)))
    core = make_core(method, samples if cores == "own" else 1)
    core = None if core is None else core.float()

    def computed(layer, device, dtype, forward):
        given = {"input": x, **({} if core is None else {"core": core})}
        given = {name: tensor.detach().to(device, dtype).requires_grad_() for name, tensor in given.items()}
        output = forward(layer, given["input"], given.get("core"))
        leaves = given | dict(layer.adapter.named_parameters())
        gradients = torch.autograd.grad(output.to(dtype).square().sum(), list(leaves.values()), allow_unused=True)
        named = {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
        return {"output": output.detach(), **named}

    with autocast(device, precision):
        found = computed(layer, device, torch.float32, run)
    wanted = computed(
        exact, "cpu", torch.float64, lambda layer, x, core: output_reference(layer, FORMATS[method], x, core)
    )
    errors = {name: relative_error(found[name].double().cpu(), wanted[name]) for name in wanted}
    record(test="format", method=method, layer=kind, cores=cores, precision=precision, errors=errors)
    assert found.keys() == wanted.keys()
    limits = {name: TOLERANCES[precision] * (1 if name == "output" else GRADIENTS) for name in errors}
    assert all(error < limits[name] for name, error in errors.items()), errors


def placed(layer, device, dtype=torch.float32):
    """A copy of a layer; its adapter is outside its tree of modules."""
    copied = copy.deepcopy(layer).to(device, dtype)
    copied.adapter.to(device, dtype)
    return copied
