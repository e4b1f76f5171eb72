"""Files that are whole or absent, nested files, hashes and random streams."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from metalora.util import files
from metalora.util.errors import InputError
from metalora.util.files import (
    check_writable,
    hash_tensors,
    read_state,
    read_tensors,
    write_state,
    write_tensors,
    write_text,
    write_whole,
)
from metalora.util.seeding import seeded_generator


def full_disk(path):
    path.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_tensors_and_header_come_back(tmp_path):
    tensors = {"a": torch.randn(2, 3), "b": torch.tensor(7), "c": torch.zeros(0, 4), "d": torch.ones(2).bfloat16()}
    write_tensors(tmp_path / "deep" / "file", tensors, {"note": "ΔW"})
    found, header = read_tensors(tmp_path / "deep" / "file")
    assert header == {"note": "ΔW"}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())


def test_tensors_that_share_memory_are_written_apart(tmp_path):
    x = torch.arange(6.0)
    write_tensors(tmp_path / "file", {"all": x, "part": x[::2], "again": x})
    assert read_tensors(tmp_path / "file")[0]["part"].tolist() == [0.0, 2.0, 4.0]


def test_a_file_that_cannot_be_written_whole_is_not_written_at_all(tmp_path):
    with pytest.raises(InputError, match=r"Cannot write .*No space left.*free some space"):
        write_whole((tmp_path / "file", full_disk))
    assert list(tmp_path.iterdir()) == []


def test_files_that_belong_together_change_together(tmp_path):
    write_text(tmp_path / "first", "old")
    with pytest.raises(InputError, match=r"second: .*No space left"):
        write_whole(files.text_file(tmp_path / "first", "new"), (tmp_path / "second", full_disk))
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert (tmp_path / "first").read_text() == "old"


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        write_text(tmp_path / "file" / "inside", "text")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path} is a folder: name a file\.$"):
        write_text(tmp_path, "text")
    assert list(tmp_path.iterdir()) == []


def test_checking_a_folder_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path)
    check_writable(tmp_path / "deep" / "folder")
    for place in (tmp_path / "file", tmp_path / "file" / "inside" / "deeper"):
        with pytest.raises(InputError, match=f"Cannot write in {place}: .*choose another place"):
            check_writable(place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "There is no file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "not a whole safetensors file"),
        (lambda path: path.write_bytes(b""), "not a whole safetensors file"),
        (lambda path: path.write_text("hello, this is text"), "not a whole safetensors file"),
        (lambda path: (path.unlink(), path.mkdir()), "not a whole safetensors file"),
    ],
    ids=["missing", "truncated", "empty", "text", "folder"],
)
def test_a_damaged_file_is_refused(tmp_path, damage, message):
    write_tensors(tmp_path / "file", {"a": torch.ones(3)})
    damage(tmp_path / "file")
    with pytest.raises(InputError, match=message):
        read_tensors(tmp_path / "file")


def test_the_state_of_an_optimiser_comes_back(tmp_path):
    model = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    state = {"optimiser": optimiser.state_dict(), "step": 3, "name": "x", "none": None, "lr": 0.1, "list": [1, True]}
    write_state(tmp_path / "state", state)
    found = read_state(tmp_path / "state")
    assert {key: found[key] for key in ("step", "name", "none", "lr", "list")} == {
        key: state[key] for key in ("step", "name", "none", "lr", "list")
    }
    restored = torch.optim.AdamW(model.parameters())
    restored.load_state_dict(found["optimiser"])
    for old, new in zip(optimiser.state.values(), restored.state.values(), strict=True):
        assert torch.equal(old["exp_avg"], new["exp_avg"])
        assert torch.equal(old["step"], new["step"])


def test_a_torn_checkpoint_is_to_be_deleted(tmp_path):
    write_state(tmp_path / "state", {"step": torch.ones(3)})
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-3])
    with pytest.raises(InputError, match=r"state is not a whole .*delete it to train from the beginning\.$"):
        read_state(tmp_path / "state")


def test_a_hash_depends_on_names_and_values_but_not_on_order():
    a, b = torch.ones(2), torch.zeros(2, dtype=torch.bool)
    assert hash_tensors({"a": a, "b": b}) == hash_tensors({"b": b, "a": a})
    others = ({"a": b, "b": a}, {"a": a}, {"a": a, "c": b}, {"a": a.double(), "b": b})
    assert len({hash_tensors(tensors) for tensors in ({"a": a, "b": b}, *others)}) == 5


def test_streams_depend_on_every_seed_and_their_order():
    draws = {
        torch.rand(1, generator=seeded_generator(*seeds)).item() for seeds in ((0, 1), (1, 0), (0,), (1,), (0, 1, 0))
    }
    assert len(draws) == 5
    assert (
        torch.rand(1, generator=seeded_generator(-3, 2)).item()
        == torch.rand(1, generator=seeded_generator(-3, 2)).item()
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="the name of an open file is read from /proc")
def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(
        "metalora.util.files.os.fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("renamed"), replace(self, target)))
    write_text(tmp_path / "a.txt", "new")
    assert Path(done[0]).name.startswith(".a.txt.") and done[1:] == ["renamed", str(tmp_path)]
