"""Files with changed bytes give exactly what was written, or one sentence: never anything else."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from metalora.util.errors import InputError
from metalora.util.files import parse_json, read_shapes, read_state, read_tensors, write_state, write_tensors

DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
PLAIN = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=6)


@st.composite
def tensors(draw):
    """A tensor of a few values."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count, dtype = math.prod(shape), draw(DTYPES)
    values = draw(st.lists(st.integers(0, 1 if dtype == torch.bool else 200), min_size=count, max_size=count))
    return torch.tensor(values, dtype=dtype).reshape(shape)


STATES = st.dictionaries(
    NAMES,
    st.recursive(
        PLAIN | tensors(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers(0, 9), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def same(a, b):
    """Whether two states hold the same values of the same kinds."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@st.composite
def changes(draw):
    """A change of some bytes of a file, in words: kind, where as a fraction, and new bytes."""
    kind = draw(st.sampled_from(["replace", "insert", "delete", "cut", "swap bits"]))
    return kind, draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=6))


def changed(content, change):
    """Content after a change."""
    kind, part, new = change
    place = int(part * len(content))
    if kind == "replace":
        return content[:place] + new + content[place + len(new) :]
    if kind == "insert":
        return content[:place] + new + content[place:]
    if kind == "delete":
        return content[:place] + content[place + len(new) :]
    if kind == "cut":
        return content[:place]
    return content[:place] + bytes([content[place] ^ (1 << new[0] % 8)]) + content[place + 1 :]


@given(state=STATES)
def test_a_state_comes_back(state, tmp_path):
    write_state(tmp_path / "state", state)
    assert same(read_state(tmp_path / "state"), state)


@given(state=STATES, change=changes())
def test_a_state_with_changed_bytes_is_the_same_or_a_sentence(state, change, tmp_path):
    write_state(tmp_path / "state", state)
    (tmp_path / "state").write_bytes(changed((tmp_path / "state").read_bytes(), change))
    try:
        assert same(read_state(tmp_path / "state"), state)
    except InputError as error:
        assert str(tmp_path / "state") in str(error)


@given(values=st.dictionaries(NAMES, tensors(), max_size=3), change=changes())
def test_shapes_of_a_changed_file_are_no_larger_than_the_file(values, change, tmp_path):
    write_tensors(tmp_path / "file", values)
    (tmp_path / "file").write_bytes(changed((tmp_path / "file").read_bytes(), change))
    try:
        shapes = read_shapes(tmp_path / "file")
    except InputError:
        return
    assert sum(map(math.prod, shapes.values())) <= (tmp_path / "file").stat().st_size


@given(content=st.binary(max_size=200))
def test_any_bytes_are_no_tensors_or_a_sentence(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError):
        read_tensors(tmp_path / "file")


def test_a_file_of_another_program_needs_no_sum(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "file")
    assert torch.equal(read_tensors(tmp_path / "file")[0]["a"], torch.ones(2))


def test_json_that_nobody_wrote_is_an_error_like_others():
    for text in ("[" * 100_000, "{", "9" * 5_000):
        with pytest.raises(ValueError):
            parse_json(text)
