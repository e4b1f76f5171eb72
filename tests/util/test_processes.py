"""Processes: what a started one can import, and how one is identified."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from metalora.util.processes import NICE, is_alive, launch, process, signals_blocked

SAYS = """
import importlib.util, os
print(os.environ["A_SETTING"], os.getsid(0) == os.getpid(), importlib.util.find_spec("metalora").name)
"""
WORKS = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
time.sleep(1)  # until the other is there as well
while True:
    pass
"""


POOL = """
import multiprocessing, os, time
from metalora.util.processes import NICE, end_with_parent

def work():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    end_with_parent()  # it belongs to no pool, and outlives whoever started it
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(600)
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


def test_a_process_of_a_pool_ends_with_the_one_that_started_it(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    log = tmp_path / "log.txt"
    started = launch([sys.executable, str(tmp_path / "pool.py")], log)
    wait_for(log.read_text)
    worker = process(int(log.read_text()))
    assert is_alive(worker)
    started.kill()
    started.wait(60)
    wait_for(lambda: not is_alive(worker))


def test_processes_that_are_started_while_signals_are_blocked_never_get_them():
    with signals_blocked():
        deaf = subprocess.Popen(["sleep", "60"])
    hearing = subprocess.Popen(["sleep", "60"])
    for started in (deaf, hearing):
        started.terminate()
    assert hearing.wait(60) == -signal.SIGTERM
    assert deaf.poll() is None
    deaf.kill()
    assert deaf.wait(60) == -signal.SIGKILL


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="two processes on one core, which Linux can arrange")
def test_a_process_yields_to_others(tmp_path, monkeypatch):
    monkeypatch.delenv(NICE)
    own = subprocess.Popen([sys.executable, "-c", WORKS], start_new_session=True)
    started = launch([sys.executable, "-c", WORKS], tmp_path / "log.txt")
    used = left = 0.0
    while used < 1:
        time.sleep(0.1)
        used, left = (psutil.Process(one.pid).cpu_times().user for one in (own, started))
    for one in (own, started):
        one.kill()
        one.wait(60)
    assert left < used / 4
