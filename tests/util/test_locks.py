"""Locks of folders: one holder at a time, whatever becomes of it, and nothing left behind."""

import subprocess
import sys

import pytest

from metalora.util.errors import InputError
from metalora.util.locks import Busy, locked

HOLDS = """
import sys, time
from pathlib import Path
from metalora.util.locks import locked
with locked(Path(sys.argv[1]), ""):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_holds_a_folder_and_the_other_hears_why(tmp_path):
    (tmp_path / "mine.txt").touch()
    with locked(tmp_path, "first"), pytest.raises(Busy, match="Taken"), locked(tmp_path, "Taken."):
        pass
    with locked(tmp_path, "free again"):
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy), locked(folder, "Taken."):
            pass
        holder.kill()
    with locked(folder, "Taken."):
        assert (folder / ".lock").exists()


def test_a_folder_into_which_nothing_came_is_removed_with_those_made_for_it(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a" / "b", ""):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with locked(tmp_path, ""):  # which was there before
        pass
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a", ""):
        (tmp_path / "a" / "mine.txt").touch()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {".lock", "mine.txt"}


def test_a_folder_that_was_deleted_meanwhile_is_let_go(tmp_path):
    with locked(tmp_path / "a", ""):
        (tmp_path / "a" / ".lock").unlink()
        (tmp_path / "a").rmdir()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another folder"), locked(tmp_path / "file", ""):
        pass
