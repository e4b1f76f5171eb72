"""Progress that `compare` and `study` print while trainings run."""

import json
import os
import signal
import time
import warnings

import pytest

from metalora.cli import progress
from metalora.cli.messages import show_errors
from metalora.experiments.job_files import JOBS, STOP
from metalora.experiments.runner import JobDone
from metalora.util.errors import InputError
from metalora.util.files import write_text
from metalora.util.locks import locked


def write_progress(folder, name, fraction):
    write_text(folder / JOBS / f"{name}.steps", json.dumps({"name": name, "fraction": fraction}))


def test_progress_of_running_trainings_is_printed_between_finished_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_IN_FILE", 0.05)
    monkeypatch.setattr("metalora.cli.messages.SECONDS_BETWEEN_LINES", 0)

    def jobs():
        write_progress(tmp_path, "lora", 0.25)
        write_progress(tmp_path, "metalora-tr", 0.75)
        yield from wait_for("lora: 25%; metalora-tr: 75%")
        yield JobDone(1, 3, "metalora-tr", {}, 1.0, 65.0)

    def wait_for(words):
        for _ in range(200):
            progress.time.sleep(0.05)
            printed.append(capsys.readouterr().err)
            if words in "".join(printed):
                return []
        pytest.fail(f"{words!r} was not printed: {printed}")

    printed = []
    assert [job.done for job in progress.follow("Training", jobs(), tmp_path, 3)] == [1]
    text = "".join(printed) + capsys.readouterr().err
    assert text.startswith("Training 0/3  the first trainings\n")
    assert "Training 0/3  0:0" in text  # two more trainings' worth of the time so far are left
    assert "Training 1/3  1:05 left  metalora-tr\n" in text


def test_a_comparison_that_another_process_runs_is_refused(tmp_path):
    with locked(tmp_path / "digits" / "jobs", ""), pytest.raises(InputError, match="in digits is running already"):
        list(progress.follow("Training", (job for job in ()), tmp_path / "digits", 1))


def test_the_watcher_ends_when_a_training_fails(tmp_path):
    def jobs():
        yield JobDone(1, 2, "lora", {}, 0.0, 0.0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(progress.follow("Training", jobs(), tmp_path, 2))
    assert not any(isinstance(thread, progress._Watcher) for thread in progress.threading.enumerate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_asks_the_trainings_to_stop_and_a_second_one_interrupts(tmp_path, number):
    before = signal.getsignal(number)
    asked = tmp_path / JOBS / STOP

    def jobs():
        os.kill(os.getpid(), number)
        assert asked.exists()  # what the trainings look for
        yield JobDone(1, 2, "lora", {}, 1.0, 0.0)
        os.kill(os.getpid(), number)
        pytest.fail("It was not interrupted.")

    finished = []
    with pytest.raises(KeyboardInterrupt):
        finished.extend(job.done for job in progress.follow("Training", jobs(), tmp_path, 2))
    assert signal.getsignal(number) is before


def test_a_training_that_does_not_stop_in_time_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("metalora.cli.signals.STOP_SECONDS", 0.2)

    def jobs():
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(2000):
            time.sleep(0.01)
        pytest.fail("It was not interrupted.")
        yield

    with pytest.raises(KeyboardInterrupt):
        list(progress.follow("Training", jobs(), tmp_path, 2))


def test_warnings_of_joblib_about_workers_are_not_printed(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # not the error that it is under test
        warn_twice()
    assert capsys.readouterr().err == "Note: Layers are left out.\n"


def warn_twice():
    with show_errors():
        warnings.warn("A worker stopped while some jobs were given to the executor.", UserWarning, stacklevel=1)
        warnings.warn("Layers are left out.", UserWarning, stacklevel=1)
