"""Formats built on those of `EQUATIONS`: their trained tensors against the equations of their papers, with loops."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import metalora
from metalora.adapters.methods import METHODS, RIVALS
from metalora.adapters.tensor_train import split_width

sys.path.insert(0, str(Path(__file__).parent))
from cases import BUILT_ON, EQUATIONS, make_core, make_layer, relative_error

# test_rivals.py, test_places.py, tests/models/test_context.py
ELSEWHERE = {"film", "linear-probe", "vpt-deep", "llama-adapter", *RIVALS}
LAYERS = {"linear": lambda: nn.Linear(6, 8).double(), "conv": lambda: nn.Conv2d(6, 8, (3, 2)).double()}


def test_every_method_has_a_reference():
    adapting = {name for name, entry in METHODS.items() if entry.format is not None}
    assert adapting == {*EQUATIONS, *BUILT_ON, *ELSEWHERE}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", BUILT_ON)
def test_contracted_it_is_a_format_with_an_equation(method, kind, randomise, delta_reference):
    layer, core = make_layer(LAYERS[kind](), method, randomise, alpha=3.0), make_core(method, 3)
    wanted = [delta_reference(BUILT_ON[method], **layer.factors(), core=c) for c in ([None] if core is None else core)]
    assert relative_error(layer.delta(core), torch.stack(wanted)) < 1e-14


@pytest.mark.parametrize("kind", LAYERS)
def test_a_tensor_train_has_an_index_of_two_parts_on_either_side(kind, randomise):
    layer, core = make_layer(LAYERS[kind](), "metalora-tt", randomise), make_core("metalora-tt", 1)[0]
    A1, A2, B1, B2 = (getattr(layer.adapter, name) for name in ("A1", "A2", "B1", "B2"))
    (i1, i2), (o1, o2), ranks = (2, 3), (2, 4), range(2)
    delta = layer.delta(core[None])[0]
    for i in range(i1 * i2):
        for o in range(o1 * o2):
            left = [sum(A1[..., i // i2, a] * A2[a, i % i2, p] for a in ranks) for p in ranks]
            right = [sum(B1[q, o // o2, b] * B2[b, o % o2] for b in ranks) for q in ranks]
            wanted = sum(left[p] * core[p, q] * right[q] for p in ranks for q in ranks)
            torch.testing.assert_close(delta[o, i], wanted)


@pytest.mark.parametrize(("width", "parts"), [(64, (8, 8)), (12, (3, 4)), (7, (1, 7)), (1, (1, 1)), (512, (16, 32))])
def test_a_width_is_split_into_nearly_equal_factors(width, parts):
    assert split_width(width) == parts


def test_a_train_of_a_wide_layer_has_far_fewer_numbers_than_lora(randomise):
    wide = nn.Linear(1024, 1024)
    train, lora = (make_layer(wide, method, randomise, rank=8) for method in ("metalora-tt", "lora"))
    count = [sum(p.numel() for p in layer.adapter.parameters()) for layer in (train, lora)]
    assert count == [2 * (32 * 8 + 32 * 64), 2 * 1024 * 8]


@pytest.mark.parametrize("method", ["metalora-tt", "fact-tt", "fact-tucker"])
def test_products_of_factors_start_as_large_as_a_factor_of_lora(method):
    torch.manual_seed(0)
    base, spread = nn.Linear(256, 256), []
    for name in (method, "lora"):
        layer = make_layer(base, name, lambda adapter: None, rank=16)
        A, own = layer.factors()["A"], layer.adapter
        if name == "fact-tt":
            A = A @ own.S
        elif name == "fact-tucker":
            A = A @ torch.einsum("k,kpq->pq", own.P, own.C)
        spread.append(A.std().item())
    assert spread[0] == pytest.approx(spread[1], rel=0.3 if method == "fact-tucker" else 0.1)  # of 16 numbers P


@pytest.mark.parametrize("method", ["fact-tt", "fact-tucker"])
def test_layers_of_one_shape_share_a_and_b(method, small_net, images):
    model = metalora.adapt(metalora.load_backbone("resnet20"), metalora.AdapterConfig(method, rank=2))
    by_shape = {}
    for layer in model.layers.values():
        by_shape.setdefault(tuple(layer.weight.shape), []).append(layer.adapter)
    first = {shape: adapters[0] for shape, adapters in by_shape.items()}
    assert max(map(len, by_shape.values())) > 3
    for shape, adapters in by_shape.items():
        for adapter in adapters:
            assert all(getattr(adapter, name) is getattr(first[shape], name) for name in adapter.format.shared)
    own = "S" if method == "fact-tt" else "P"
    assert len({id(getattr(layer.adapter, own)) for layer in model.layers.values()}) == len(model.layers)
    counted = sum(parameter.numel() for parameter in model.trained.parameters())
    assert model.budget().loc["total", "adapter_parameters"] == counted


def test_fact_tucker_weighs_slices_of_a_shared_tensor(randomise):
    layer = make_layer(nn.Linear(5, 6).double(), "fact-tucker", randomise)
    A, P, C, B = (getattr(layer.adapter, name) for name in ("A", "P", "C", "B"))
    wanted = sum(P[k] * (A @ C[k] @ B) for k in range(2)).T
    torch.testing.assert_close(layer.delta()[0], wanted)


def test_mtlora_has_a_shared_expert_and_one_for_each_task(randomise):
    layer = make_layer(nn.Linear(5, 6).double(), "mtlora", randomise)
    A, B = layer.factors().values()
    told = layer.adapter.format.constrain(torch.eye(3, dtype=torch.float64))
    wanted = [(A[0] @ B[0] + A[1 + task] @ B[1 + task]).T for task in range(3)]
    torch.testing.assert_close(layer.delta(told), torch.stack(wanted))


def test_a_mixture_starts_with_equal_weights_and_keeps_them_positive(images):
    model = metalora.adapt("resnet20", metalora.AdapterConfig("lora-mixture", rank=2, branches=4))
    cores = model.cores(torch.zeros(1, 16))
    assert all(torch.allclose(core, torch.full((1, 4), 0.25)) for _, core in cores.items())
    strong = model.cores(100 * torch.randn(5, 16))
    for _, core in strong.items():
        assert core.min() >= 0 and torch.allclose(core.sum(1), torch.ones(5))
