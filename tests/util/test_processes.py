"""Processes: what a started one can import, and how one is identified."""

import os
import sys

import pytest

from metalora.util.processes import is_alive, launch, process

SAYS = """
import importlib.util, os
print(os.environ["A_SETTING"], os.getsid(0) == os.getpid(), importlib.util.find_spec("metalora").name)
"""


@pytest.mark.parametrize(("before", "expected"), [(None, "default"), ("mine", "mine")])
def test_a_process_finds_the_package_anywhere_and_leads_a_session(tmp_path, monkeypatch, before, expected):
    if before:
        monkeypatch.setenv("A_SETTING", before)
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.txt"
    started = launch([sys.executable, "-c", SAYS], log, A_SETTING="default")
    assert started.wait(60) == 0, log.read_text()
    assert log.read_text().split() == [expected, "True", "metalora"]


def test_what_cannot_be_started_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        launch([str(tmp_path / "missing")], tmp_path / "log.txt")


def test_a_process_is_known_until_it_ends(tmp_path):
    started = launch([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log.txt")
    known = process(started.pid)
    assert is_alive(known) and is_alive(process(os.getpid()))
    started.kill()
    started.wait(60)
    assert not is_alive(known)
