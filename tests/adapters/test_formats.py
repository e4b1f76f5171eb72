"""The formats' algebra on small cases worked out by hand, and its two ways to apply a core."""

import pytest
import torch

from metalora.adapters.cp import CP
from metalora.adapters.lora import LoRA
from metalora.adapters.multi_lora import MultiLoRA
from metalora.adapters.tr import TR


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(format, A, B, core=None):
    return format.dense(torch.empty(0), {"A": A, "B": B}, core)


def test_lora_by_hand():
    A, B = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), torch.tensor([[1.0, 10.0], [3.0, 0.0]])
    # ΔW[o, i] = Σ_r A[i, r] B[r, o]
    assert dense(LoRA(2), A, B).tolist() == [[[1.0, 6.0, 4.0], [10.0, 0.0, 10.0]]]


def test_cp_by_hand():
    A, B = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [1.0]])
    core = torch.tensor([[1.0, 1.0], [10.0, 100.0]])
    assert dense(CP(2), A, B, core).flatten().tolist() == [3.0, 210.0]


def test_tr_by_hand():
    # One input and one output: ΔW = trace(A B C) with A (2, 2), B (2, 2), C (2, 2).
    A, B, C = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]]), numbers(2, 2).float()
    ring = dense(TR(2), A[:, None], B[:, None], C[None])
    torch.testing.assert_close(ring.flatten(), torch.trace(A @ B @ C)[None])


def test_multi_lora_is_a_sum_over_branches():
    A, B = numbers(3, 4, 2), numbers(3, 2, 5)
    wanted = sum((A[m] @ B[m]).T for m in range(3))
    torch.testing.assert_close(dense(MultiLoRA(2, 3), A, B)[0], wanted)


@pytest.mark.parametrize("format", [CP(3), TR(2)])
def test_mixing_activations_and_folding_into_the_weight_agree(format):
    shapes = format.parameter_shapes((), 4, 5)
    B, z, core = numbers(*shapes["B"]), numbers(2, 7, format.width, seed=1), numbers(2, *format.core_shape, seed=2)
    mixed = format.mix(z, core) @ format.up(B)
    folded = z @ format.fold(format.up(B), core)
    torch.testing.assert_close(mixed, folded)


@pytest.mark.parametrize("format", [LoRA(3), MultiLoRA(2, 3), CP(3), TR(2)])
def test_down_then_up_is_the_dense_update_without_a_core(format):
    shapes = {name: shape for name, shape in format.parameter_shapes((3, 2), 4, 5).items() if name != "s"}
    A, B = (numbers(*shape) for shape in shapes.values())
    core = format.identity_core().double()[None] if format.core_shape else None
    wanted = dense(format, A, B, core)[0]
    # In TR the identity keeps, of each pair (a, c) of the ring, only a = c.
    up = format.fold(format.up(B), core)[0] if isinstance(format, TR) else format.up(B)
    torch.testing.assert_close(torch.einsum("mihw,mo->oihw", format.down(A), up), wanted)
    assert format.down(A).shape == (format.width, 4, 3, 2)
    assert up.shape == (format.width, 5)


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "max_rank"),
    [(LoRA, 27, 16, 16), (CP, 9, 64, 9), (MultiLoRA, 5, 7, 5), (TR, 27, 16, 4), (TR, 15, 64, 3), (TR, 1, 8, 1)],
)
def test_the_largest_rank_is_the_smaller_side_and_its_root_for_tr(kind, inputs, outputs, max_rank):
    assert kind.max_rank(inputs, outputs) == max_rank


@pytest.mark.parametrize("kind", [LoRA, CP, MultiLoRA])
def test_only_rings_gain_from_a_rank_beyond_the_smaller_side(kind):
    assert kind.max_rank(27, 16, by_pattern=True) == kind.max_rank(27, 16)
    assert TR.max_rank(27, 16, by_pattern=True) == 20


def test_a_ring_of_the_kernels_size_exchanges_channels_exactly():
    """Why the first convolution wants R = K²: there is a ring whose core is the exchange itself."""
    weight, positions = numbers(5, 3, 3, 3), 9
    format = TR(positions)
    A, B = (torch.zeros(shape, dtype=torch.float64) for shape in format.parameter_shapes((3, 3), 3, 5).values())
    for k in range(positions):
        for channel in range(3):
            A[channel, k // 3, k % 3, channel, k] = 1
            B[k, :, channel] = weight[:, channel, k // 3, k % 3]
    for order in ((1, 2, 0), (2, 1, 0)):
        core = torch.zeros(1, positions, positions, dtype=torch.float64)
        for channel, source in enumerate(order):
            core[0, source, channel] = 1
        wanted = torch.stack([weight[:, source] for source in order], dim=1)
        torch.testing.assert_close(dense(format, A, B, core)[0], wanted)
