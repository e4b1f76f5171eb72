"""Adapted layers against dense weights: every method in every geometry, and their gradients."""

import sys
import threading
from pathlib import Path

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from metalora.adapters.config import AdapterConfig
from metalora.adapters.cores import Cores
from metalora.adapters.formats import make_format
from metalora.adapters.forward_context import current, forward_context
from metalora.adapters.layers import ADAPTED, Adapter
from metalora.adapters.methods import METHODS
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator

sys.path.insert(0, str(Path(__file__).parent))
from cases import EQUATIONS, GEOMETRIES, RANK, config_of, make_core, make_layer, relative_error, run

GENERATING = [name for name in EQUATIONS if METHODS[name].generated]


def conv(outputs=6, **geometry):
    torch.manual_seed(0)
    return nn.Conv2d(6, outputs, **geometry).double()


@pytest.mark.parametrize("method", EQUATIONS)
@pytest.mark.parametrize("geometry", [{"stride": 2}, {"stride": 2, "groups": 6}, {"dilation": 2}])
def test_timm_s_dynamically_padded_convolution_is_one_too(method, geometry, randomise, output_reference):
    layer = make_layer(Conv2dSame(6, 6, 3, **geometry).double(), method, randomise, rank=1)
    x, core = torch.randn(3, 6, 9, 8, dtype=torch.float64), make_core(method, 3, rank=1)
    assert relative_error(run(layer, x, core), output_reference(layer, method, x, core)) < 1e-12


@pytest.mark.parametrize("cores", [3, 1])
@pytest.mark.parametrize("outputs", [6, 96])  # fewer and more than positions: both ways to apply a core
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("method", EQUATIONS)
def test_a_convolution_is_its_dense_weight_applied_sample_by_sample(
    method, geometry, outputs, cores, randomise, output_reference
):
    layer = make_layer(conv(outputs, **GEOMETRIES[geometry]), method, randomise, alpha=3.0)
    x, core = torch.randn(3, 6, 9, 8, dtype=torch.float64), make_core(method, cores)
    assert relative_error(run(layer, x, core), output_reference(layer, method, x, core)) < 1e-12


@pytest.mark.parametrize("cores", [4, 1])
@pytest.mark.parametrize("middle", [(), (7,), (3, 2), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", EQUATIONS)
def test_a_linear_layer_is_its_dense_weight_applied_sample_by_sample(
    method, bias, middle, cores, randomise, output_reference
):
    layer = make_layer(nn.Linear(5, 6, bias=bias).double(), method, randomise, alpha=3.0)
    x, core = torch.randn(4, *middle, 5, dtype=torch.float64), make_core(method, cores)
    assert relative_error(run(layer, x, core), output_reference(layer, method, x, core)) < 1e-12


@pytest.mark.parametrize("method", EQUATIONS)
@pytest.mark.parametrize("base", [nn.Linear(5, 6), nn.Conv2d(4, 6, (3, 2), groups=2)], ids=["linear", "conv"])
def test_delta_is_the_equation_of_the_paper(method, base, randomise, delta_reference):
    if method == "bottleneck":
        pytest.skip("not linear: it has no ΔW")
    layer = make_layer(base.double(), method, randomise, alpha=3.0)
    core = make_core(method, 3)
    if method in ("molora", "condconv"):  # without an input, experts count as they do where scores are 0
        core = layer.adapter.format.constrain(torch.zeros(1, 2, dtype=torch.float64))
    wanted = [delta_reference(method, **layer.factors(), core=c) for c in ([None] if core is None else core)]
    assert relative_error(layer.delta(make_core(method, 3)), torch.stack(wanted)) < 1e-14


@pytest.mark.parametrize(
    ("method", "A", "B"),
    [
        ("lora", (3, 2, 2, 2), (2, 6)),
        ("multi-lora", (2, 3, 2, 2, 2), (2, 2, 6)),
        ("metalora-cp", (3, 2, 2, 2), (2, 6)),
        ("metalora-tr", (2, 3, 2, 2, 2), (2, 6, 2)),
    ],
)
def test_factors_of_a_grouped_convolution_have_the_width_of_one_group(method, A, B, randomise):
    layer = make_layer(nn.Conv2d(4, 6, (3, 2), groups=2), method, randomise)
    assert {name: tuple(factor.shape) for name, factor in layer.factors().items()} == {"A": A, "B": B}


@pytest.mark.parametrize("method", EQUATIONS)
def test_the_scale_is_alpha_over_rank_and_belongs_to_A(method, randomise):
    plain, scaled = (make_layer(nn.Linear(5, 6), method, randomise, alpha=alpha) for alpha in (None, 3.0))
    assert torch.equal(plain.factors()["A"], plain.adapter.A)
    assert torch.equal(scaled.factors()["A"], scaled.adapter.A * (3.0 / RANK))
    assert torch.equal(scaled.factors()["B"], plain.factors()["B"])


def test_a_branch_of_multi_lora_is_scaled_by_its_own_s(randomise):
    layer = make_layer(nn.Linear(5, 6), "multi-lora", randomise)
    A, B, s = layer.adapter.A, layer.adapter.B, layer.adapter.s
    wanted = sum((A[m] @ B[m]) * s[m] for m in range(2)).T
    torch.testing.assert_close(layer.delta()[0], wanted)


@pytest.mark.parametrize("cores", [3, 1])
@pytest.mark.parametrize("base", ["linear", "conv, folded", "conv, mixed"])
@pytest.mark.parametrize("method", GENERATING)
def test_gradients_with_respect_to_input_factors_and_core(method, base, cores, randomise):
    x = torch.randn(3, 4, dtype=torch.float64) if base == "linear" else torch.randn(3, 4, 3, 3, dtype=torch.float64)
    net = {
        "linear": lambda: nn.Linear(4, 5),
        "conv, folded": lambda: nn.Conv2d(4, 2, 3, padding=1, groups=2),
        "conv, mixed": lambda: nn.Conv2d(4, 10, 3, padding=1, groups=2),
    }[base]()
    layer = make_layer(net.double().requires_grad_(False), method, randomise, alpha=3.0)
    core = make_core(method, cores)
    inputs = tuple(t.detach().clone().requires_grad_() for t in (x, layer.adapter.A, layer.adapter.B, core))

    def update(x, A, B, core):
        values = {"A": A, "B": B}
        return torch.func.functional_call(_Update(layer), {f"adapter.{k}": v for k, v in values.items()}, (x, core))

    assert torch.autograd.gradcheck(update, inputs, fast_mode=True)


class _Update(nn.Module):
    """A layer's update as a module whose parameters are the adapter's."""

    def __init__(self, layer):
        super().__init__()
        self.adapter, self._layer = layer.adapter, (layer,)

    def forward(self, x, core):
        layer = self._layer[0]
        return self.adapter.format.apply(layer, layer.base(x), x, core, len(x))


@pytest.mark.parametrize("method", EQUATIONS)
def test_a_core_of_ones_or_the_identity_is_the_static_method(method, randomise):
    layer = make_layer(nn.Conv2d(4, 6, 3).double(), method, randomise)
    if method == "metalora-cp":
        static = make_layer(layer.base, "lora", randomise)
        static.adapter.load_state_dict(layer.adapter.state_dict())
        torch.testing.assert_close(layer.delta(torch.ones(1, RANK).double()), static.delta())
    if method == "metalora-tr":
        # R parallel LoRAs, the p-th with A[p] and B[:, :, p].
        A, B = layer.factors().values()
        parallel = [torch.einsum("hwir,ro->oihw", A[p], B[:, :, p]) for p in range(RANK)]
        torch.testing.assert_close(layer.delta(torch.eye(RANK)[None].double())[0], sum(parallel))


def test_tr_is_r_loras_that_share_one_generated_core(randomise):
    layer, core = make_layer(nn.Linear(5, 6).double(), "metalora-tr", randomise), make_core("metalora-tr", 3)
    A, B = layer.factors().values()
    # The p-th LoRA reads with A[p] and writes with the p-th row of (C_n applied to B).
    written = torch.einsum("qos,nsp->npqo", B, core)
    wanted = sum(torch.einsum("iq,nqo->noi", A[p], written[:, p]) for p in range(RANK))
    torch.testing.assert_close(layer.delta(core), wanted)


@pytest.mark.parametrize("method", EQUATIONS)
@pytest.mark.parametrize("base", [nn.Linear(6, 6), nn.Conv2d(6, 6, 3)], ids=["linear", "conv"])
def test_the_update_is_zero_at_the_start(method, base):
    config = config_of(method)
    adapter = Adapter(base, make_format(config, 2, len(base.weight)), 1.0, 0.0, seeded_generator(0))
    layer = ADAPTED[type(base)]("layer", base, adapter)
    core = make_core(method, 2)
    assert layer.delta(None if core is None else core.float()).count_nonzero() == 0
    *others, last = adapter.parameters()
    assert last.count_nonzero() == 0 and all(other.count_nonzero() == other.numel() for other in others)


def test_the_start_is_the_same_in_every_precision():
    starts = []
    for dtype in (torch.float32, torch.float64):
        base = nn.Linear(6, 6, dtype=dtype)
        starts.append(Adapter(base, make_format(AdapterConfig(rank=2), 2, 6), 1.0, 0.0, seeded_generator(0)).A)
    assert [start.dtype for start in starts] == [torch.float32, torch.float64]
    assert torch.equal(starts[0], starts[1].float())


@pytest.mark.parametrize("method", EQUATIONS)
@pytest.mark.parametrize("base", ["linear", "conv"])
def test_an_empty_batch_gives_an_empty_output(method, base, randomise):
    net, shape = (nn.Linear(6, 7), (0, 3, 6)) if base == "linear" else (nn.Conv2d(6, 8, 3, groups=2), (0, 6, 5, 5))
    layer = make_layer(net.double(), method, randomise)
    for count in (0, 1):
        x = torch.zeros(shape, dtype=torch.float64)
        assert run(layer, x, make_core(method, count)).shape == layer.base(x).shape


@pytest.mark.parametrize("outputs", [6, 96])
@pytest.mark.parametrize("method", EQUATIONS)
def test_channels_last_changes_nothing(method, outputs, randomise):
    layer, core = make_layer(conv(outputs, kernel_size=3, groups=2), method, randomise), make_core(method, 3)
    x = torch.randn(3, 6, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(run(layer, x.to(memory_format=torch.channels_last), core), run(layer, x, core))


@pytest.mark.parametrize("method", EQUATIONS)
def test_an_activation_in_place_behind_the_layer_does_not_reach_its_input(method, randomise):
    layer, core = make_layer(conv(kernel_size=3, padding=1), method, randomise), make_core(method, 2)
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    before = x.clone()
    run(layer, x, core).relu_().sum().backward()
    assert torch.equal(x, before)
    assert layer.adapter.A.grad.isfinite().all()


def test_a_core_of_another_precision_is_cast(randomise):
    layer, core = make_layer(nn.Linear(5, 6).double(), "metalora-tr", randomise), make_core("metalora-tr", 2)
    x = torch.randn(2, 5, dtype=torch.float64)
    assert torch.equal(run(layer, x, core.float()), run(layer, x, core.float().double()))


def test_dropout_acts_in_training_only(randomise):
    layer = make_layer(nn.Linear(50, 6).double(), "lora", randomise, dropout=0.5)
    x = torch.randn(2, 50, dtype=torch.float64)
    layer.adapter.eval()
    assert torch.equal(run(layer, x, None), run(layer, x, None))
    layer.adapter.train()
    assert not torch.equal(run(layer, x, None), run(layer, x, None))


def test_rows_that_are_not_images_are_refused_by_name(randomise):
    layer, x = make_layer(nn.Linear(5, 6).double(), "metalora-tr", randomise), torch.randn(6, 5, dtype=torch.float64)
    with pytest.raises(InputError, match=r"input of layer 'layer' has 6 rows for 3 images"):
        run(layer, x, make_core("metalora-tr", 3))
    with pytest.raises(InputError, match=r"'layer' was called without cores"):
        run(layer, x, None)


def test_rows_of_an_image_share_its_core_where_the_backbone_says_so(randomise, output_reference):
    layer = make_layer(nn.Linear(5, 6).double(), "metalora-tr", randomise, rows_by_image=True)
    x, core = torch.randn(6, 2, 5, dtype=torch.float64), make_core("metalora-tr", 3)
    wanted = output_reference(layer, "metalora-tr", x, core[[0, 0, 1, 1, 2, 2]])
    torch.testing.assert_close(run(layer, x, core), wanted)
    with pytest.raises(InputError, match="6 rows for 4 images"):
        run(layer, x, make_core("metalora-tr", 4))


def test_the_context_belongs_to_one_thread_and_ends_with_the_pass():
    seen = {}

    def look():
        seen["cores"], seen["enabled"] = current.cores, current.enabled

    cores = Cores({"layer": torch.ones(1, 2)})
    with pytest.raises(KeyError), forward_context(cores=cores, enabled=False):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert (current.cores, current.enabled) == (cores, False)
        with forward_context(cores=None):
            assert (current.cores, current.enabled) == (None, False)
        assert current.cores is cores
        raise KeyError
    assert seen == {"cores": None, "enabled": True}
    assert (current.cores, current.enabled, current.stage_hook) == (None, True, None)


@pytest.mark.parametrize("base", [nn.Linear(6, 4), nn.Conv2d(6, 4, 3, stride=2, padding=1, dilation=2)])
def test_a_layer_has_the_attributes_and_keyword_arguments_of_its_base(base, randomise):
    layer, x = make_layer(base, "lora", randomise), torch.rand(2, 6, *([9, 9] if isinstance(base, nn.Conv2d) else []))
    for name in base.__constants__:
        assert getattr(layer, name) == getattr(base, name)
    assert torch.equal(layer(input=x), layer(x))
    with forward_context(enabled=False):
        assert torch.equal(layer(input=x), base(input=x))
    assert not hasattr(layer, "no_such_attribute")


@pytest.mark.parametrize("method", EQUATIONS)
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_hook_on_the_frozen_layer_sees_its_own_output(kind, method, randomise):
    base, x = (conv(kernel_size=3), (2, 6, 5, 5)) if kind == "conv" else (nn.Linear(6, 4).double(), (2, 5, 6))
    layer, x, seen = make_layer(base, method, randomise), torch.rand(x, dtype=torch.float64), []
    shape = layer.adapter.format.core_shape
    core = torch.rand(2, *shape, dtype=torch.float64) if shape else None
    expected = run(layer, x, core)
    base.register_forward_hook(lambda module, args, output: seen.append(output))
    torch.testing.assert_close(run(layer, x, core), expected)
    assert torch.equal(seen[0], base(x))
