"""Several processes, as one of them sees them; what they compute together is in tests of training and of the verbs."""

import sys

import pytest
import torch

from metalora.util.distributed import Processes, current_processes, first_speaks, joined_processes, launched
from metalora.util.errors import InputError


@pytest.fixture
def second(monkeypatch):
    """The environment of the second of two processes."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("items", [0, 1, 3, 8, 21])
def test_parts_are_all_things_once_and_differ_by_one_at_most(count, items):
    parts = [range(items)[Processes(rank, count).part(items)] for rank in range(count)]
    assert [item for part in parts for item in part] == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_by_itself_is_alone_and_needs_no_other(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with joined_processes() as alone:
        assert alone == current_processes() == Processes(0, 1, 0) and alone.is_first
        with alone.together(in_turn=True):
            assert alone.any(True) and not alone.any(False)
        assert alone.map(lambda item: 2 * item, [1, 2]) == [2, 4] and alone.from_first(lambda: 3) == 3
        with pytest.raises(InputError, match="mine"), alone.together():
            raise InputError("mine")
        values = [torch.tensor(1.0)]
        assert alone.add_up([], values) is values


def test_the_launchers_variables_say_who_this_is(second, monkeypatch):
    assert launched() == Processes(1, 2, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() == Processes()


@pytest.mark.usefixtures("second")
def test_a_device_that_is_one_gpu_is_none_for_several_processes(monkeypatch):
    monkeypatch.setattr("metalora.util.device.pick_device", torch.device)
    for name in ("cuda:1", "mps"):
        with pytest.raises(InputError, match=f"--device {name} is one GPU for 2 processes"), joined_processes(name):
            pass


@pytest.mark.usefixtures("second")
def test_without_accelerate_several_processes_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(InputError, match=r"pip install 'metalora\[processes\]'"), joined_processes("cpu"):
        pass


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(("joined", "code", "shown"), [(True, 0, ""), (False, 2, "Error: no\n")])
def test_another_than_the_first_speaks_only_where_it_could_not_join(joined, code, shown, monkeypatch, capsys):
    monkeypatch.setattr("metalora.util.distributed.GRACE", 0.0)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: joined)
    with pytest.raises(SystemExit) as left, first_speaks():
        print("Error: no", file=sys.stderr)
        sys.exit(2)
    assert (left.value.code, capsys.readouterr().err) == (code, shown)
    with pytest.raises(RuntimeError, match="mine"), first_speaks():
        raise RuntimeError("mine")
