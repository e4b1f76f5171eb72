"""Ctrl-C and SIGTERM: trainings are saved, one sentence is said, and no process is left."""

import contextlib
import os
import signal

import psutil
import pytest
from killing import Compare, Study, Train, wait_for

LONG = 100_000  # steps


class LongTrain(Train):
    steps = LONG


class LongCompare(Compare):
    steps = LONG


class LongCompareHere(LongCompare):
    @property
    def words(self):
        return [*super().words, "--jobs", "1"]


class LongStudy(Study):
    steps = LONG


def members(group):
    """The processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LongTrain, LongCompare, LongCompareHere, LongStudy])
@pytest.mark.parametrize(("number", "to"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)])
def test_a_signal_saves_and_leaves(kind, number, to, tmp_path):
    subject = kind(tmp_path / "here")
    subject.start()
    wait_for(lambda: subject.done() >= 3)
    done = subject.done()
    to(subject.process.pid, number)  # Ctrl-C goes to the whole group, a batch system's SIGTERM to its leader
    assert subject.end() == 1
    said = subject.log.read_text()
    assert "Traceback" not in said
    words = (
        "it is saved, and `metalora train" if kind is LongTrain else "those that ran are saved, and the same command"
    )
    assert said.splitlines()[-1].startswith("Stopped") and words in said.splitlines()[-1]
    assert subject.saved() >= done
    wait_for(lambda: not members(subject.process.pid), 20)
    subject.start()
    wait_for(lambda: subject.done() > done)  # it goes on from there
    subject.kill()
    subject.end()


@pytest.mark.slow
def test_trainings_end_with_the_command_that_is_killed(tmp_path):
    subject = LongCompare(tmp_path / "here")
    subject.start()
    wait_for(lambda: subject.done() >= 3)
    os.kill(subject.process.pid, signal.SIGKILL)
    subject.end()
    wait_for(lambda: not members(subject.process.pid), 20)


@pytest.mark.slow
def test_a_training_whose_process_is_killed_is_said(tmp_path):
    subject = LongCompare(tmp_path / "here")
    subject.start()
    wait_for(lambda: subject.done() >= 3)
    children = [child for child in psutil.Process(subject.process.pid).children() if child.cpu_times().user > 1]
    children[0].kill()
    assert subject.end() == 1
    said = subject.log.read_text()
    assert "Traceback" not in said and "Error: The process of a training was killed" in said.splitlines()[-1]
