"""Cores: indexing, blending, files."""

import numpy as np
import pytest
import torch

from metalora.adapters.cores import Cores
from metalora.util.errors import InputError


@pytest.fixture
def cores():
    rng = torch.Generator().manual_seed(0)
    return Cores({"first": torch.randn(5, 3, generator=rng), "second": torch.randn(5, 2, 2, generator=rng)})


def same(a, b):
    return list(a.keys()) == list(b.keys()) and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        (0, [0]),
        (3, [3]),
        (-1, [4]),
        (-5, [0]),
        (np.int64(2), [2]),
        (torch.tensor(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        ([4, 0], [4, 0]),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        ([], []),
        (slice(5, None), []),
    ],
    ids=str,
)
def test_samples_are_chosen_and_keep_their_axis(cores, key, rows):
    chosen = cores[key]
    assert len(chosen) == len(rows)
    for name, tensor in cores.items():
        assert torch.equal(chosen[name], tensor[torch.tensor(rows, dtype=torch.long)])


@pytest.mark.parametrize("key", [5, -6, torch.tensor(5)])
def test_a_sample_that_is_not_there_is_an_index_error(cores, key):
    with pytest.raises(IndexError, match="of 5"):
        cores[key]


def test_a_layer_is_found_by_name_or_named_as_missing(cores):
    assert cores["first"].shape == (5, 3)
    assert "first" in cores
    assert "third" not in cores
    with pytest.raises(InputError, match="no core of layer 'third': layers are first, second"):
        cores["third"]


def test_iteration_gives_every_sample(cores):
    assert [len(sample) for sample in cores] == [1] * 5
    assert same(Cores.cat(list(cores)), cores)


def test_mean_and_blend(cores):
    assert torch.equal(cores.mean()["second"], cores["second"].mean(0, keepdim=True))
    a, b = cores[0], cores[1]
    assert same(Cores.lerp(a, b, 0.0), a)
    assert same(Cores.lerp(a, b, 1.0), b)
    torch.testing.assert_close(Cores.lerp(a, b, 0.25)["first"], 0.75 * a["first"] + 0.25 * b["first"])
    assert len(Cores.lerp(a, cores, 0.5)) == 5


def test_flatten_puts_layers_side_by_side(cores):
    flat = cores.flatten()
    assert flat.shape == (5, 7)
    assert torch.equal(flat[:, 3:], cores["second"].flatten(1))


def test_one_sample_expands_and_others_do_not(cores):
    assert len(cores[0].expand(4)) == 4
    assert cores.expand(5) is cores
    with pytest.raises(InputError, match="5 cores for 4 images"):
        cores.expand(4)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda c: Cores({"a": torch.ones(2, 1), "b": torch.ones(3, 1)}),
        lambda c: Cores({}),
        lambda c: Cores.lerp(c[:2], c[:3], 0.5),
        lambda c: Cores.lerp(c, Cores({"first": c["first"]}), 0.5),
        lambda c: Cores.cat([c, Cores({"first": c["first"], "second": c["first"]})]),
        lambda c: Cores.cat([Cores({"first": c["first"]}), c]),
        lambda c: Cores.cat([]),
    ],
)
def test_cores_that_do_not_fit_together_are_refused(cores, wrong):
    with pytest.raises(InputError):
        wrong(cores)


def test_a_file_brings_back_the_same_cores_in_order(cores, tmp_path):
    reverse = Cores(dict(reversed(list(cores.items()))))
    reverse.save(tmp_path / "cores.safetensors")
    assert same(Cores.load(tmp_path / "cores.safetensors"), reverse)


def test_expanded_cores_can_be_saved(cores, tmp_path):
    cores[0].expand(3).save(tmp_path / "cores.safetensors")
    assert same(Cores.load(tmp_path / "cores.safetensors"), cores[[0, 0, 0]])


def test_cast_and_cut_from_the_graph(cores):
    assert cores.to(torch.float64)["first"].dtype == torch.float64
    grown = Cores({"first": torch.ones(1, 2, requires_grad=True) * 2})
    assert grown["first"].requires_grad
    assert not grown.detach()["first"].requires_grad
