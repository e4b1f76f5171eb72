"""A comparison in processes of its own: what it yields, what it leaves, and that it ends with whoever watches it."""

import os
import shlex
import sys
import time

import pytest
from typer.testing import CliRunner

from metalora.cli import app
from metalora.cli.as_code import as_compare_command
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.job_files import RunningJob, job_file
from metalora.experiments.results import own_config
from metalora.experiments.runner import jobs_of
from metalora.runs import comparison_process
from metalora.runs.comparison_process import Stage, clear_stop, request_stop, run_in_subprocess, stage
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.files import write_text

STEPS = TrainingConfig().steps
CONFIG = own_config(["resnet20"], ["metalora-tr-constant", "lora"], 2, 7)
# What a stand-in for `python -m metalora` does; argv[1] is a file to write.
WRITES = "import pathlib, sys, time; time.sleep(.3); pathlib.Path(sys.argv[1]).write_text('{}'); time.sleep(.3)"
SPAWNS = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Makes the command a small program instead, with a file as its argument."""
    monkeypatch.setattr(comparison_process, "POLL_SECONDS", 0.1)
    popen = comparison_process.subprocess.Popen
    started = []

    def set_use(program, file):
        def launch(words, **settings):
            started.append((words, popen([sys.executable, "-c", program, str(file)], **settings)))
            return started[-1][1]

        monkeypatch.setattr(comparison_process.subprocess, "Popen", launch)
        return started

    return set_use


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # an orphan that init has not collected yet is as good as gone
        return file.read().rpartition(")")[2].split()[0] == "Z"


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_the_command_says_what_is_not_at_its_default():
    assert as_compare_command(ComparisonConfig()) == "python -m metalora compare --steps 64"
    config = ComparisonConfig(
        suite=SuiteConfig("digits", max_queries=60),
        backbones=("resnet20",),
        methods=("original", "metalora-tr@8"),
        seeds=2,
        ks=(1, 3),
        controls=True,
        training=TrainingConfig(steps=2, lr=1e-3),
    )
    command = as_compare_command(config)
    assert set(command.split(" --")[1:]) == {
        *("method original", "method metalora-tr@8", "controls", "backbone resnet20", "seeds 2", "k 1", "k 3"),
        *("max-queries 60", "steps 2", "lr 0.001"),
    }


def test_the_command_line_reads_its_own_command_back(monkeypatch):
    read = []

    def check(config, progress):
        read.append(config)
        raise InputError("Enough.")

    monkeypatch.setattr("metalora.experiments.checks.check_comparison", check)
    CliRunner().invoke(app, shlex.split(as_compare_command(CONFIG))[3:])
    assert read == [CONFIG]


def test_progress_counts_cells_and_knows_the_time_left(stand_in, tmp_path):
    jobs = jobs_of(CONFIG)
    write_text(job_file(tmp_path, jobs[0]), "{}")
    started = stand_in(WRITES, job_file(tmp_path, jobs[1]))
    stages = list(run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG)))
    assert stages[0] == Stage(1, 4) and stages[-1].done == 2
    assert 0 < stages[-1].seconds_left < 60
    words = started[0][0]
    assert words[:4] == [sys.executable, "-m", "metalora", "compare"] and words[-2:] == ["--out", str(tmp_path)]


def test_the_time_left_is_known_while_the_first_training_runs(stand_in, tmp_path):
    steps = job_file(tmp_path, jobs_of(CONFIG)[0]).with_suffix(".steps")
    write_text(steps, '{"name": "killed", "fraction": 0.9}')
    said = '{"name": "lora", "fraction": 0.5}'
    # What a killed process said is gone before the next one begins, or this one fails.
    program = f"file = pathlib.Path(sys.argv[1]); assert not file.exists(); file.write_text('{said}'); time.sleep(1.5)"
    stand_in(f"import pathlib, sys, time; {program}", steps)
    stages = list(run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG)))
    # Half of one of four trainings is done: seven times as long as so far.
    assert stages[0].seconds_left is None and 0.7 < stages[-1].seconds_left < 60


def test_what_an_earlier_run_did_of_a_training_took_no_time_here():
    running = [RunningJob("lora", 0.75, resumed_at=0.5)]
    now = comparison_process._timed(Stage(0, 1), Stage(0, 1), time.monotonic() - 100, running)
    assert now.seconds_left == pytest.approx(100, abs=1)  # a quarter took so long, a quarter is left


def test_it_ends_with_the_last_cell(stand_in, tmp_path):
    jobs = jobs_of(CONFIG)
    for job in jobs[:-1]:
        write_text(job_file(tmp_path, job), "{}")
    started = stand_in(f"{WRITES}; time.sleep(60)", job_file(tmp_path, jobs[-1]))
    assert list(run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG)))[-1] == Stage(4, 4, 0)
    assert until(lambda: started[0][1].poll() is not None)


def test_nothing_is_started_when_nothing_is_missing(stand_in, tmp_path):
    for job in jobs_of(CONFIG):
        write_text(job_file(tmp_path, job), "{}")
    started = stand_in(WRITES, tmp_path / "x")
    assert list(run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG))) == [Stage(4, 4)] and not started


def test_closing_ends_the_process_and_what_it_started(stand_in, tmp_path):
    told = tmp_path / "pid"
    started = stand_in(SPAWNS, told)
    stages = run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG))
    for _ in stages:
        if told.exists() and told.read_text():
            break
    before = time.monotonic()
    stages.close()
    assert time.monotonic() - before < 1  # nobody has to wait for the end
    process, child = started[0][1], int(told.read_text())
    assert until(lambda: process.poll() is not None) and until(lambda: gone(child))


def test_it_stops_when_asked_and_goes_on_when_allowed(stand_in, tmp_path):
    started = stand_in(SPAWNS, tmp_path / "pid")
    stages = run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG))
    assert [next(stages), next(stages)] == [Stage(0, 4)] * 2
    request_stop(tmp_path)
    assert len(list(stages)) <= 2 and until(lambda: started[0][1].poll() is not None)
    assert (
        list(run_in_subprocess(CONFIG, tmp_path, "")) == [Stage(0, 4)] and len(started) == 1
    )  # one that waited stops too
    clear_stop(tmp_path)
    again = run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG))
    assert [next(again), next(again)] == [Stage(0, 4)] * 2 and len(started) == 2
    again.close()
    assert until(lambda: started[1][1].poll() is not None)


def test_what_does_not_end_when_asked_is_killed(stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_process, "KILL_SECONDS", 0.2)
    told = tmp_path / "deaf"
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SPAWNS}"
    started = stand_in(deaf, told)
    stages = run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG))
    for _ in stages:
        if told.exists() and told.read_text():
            break
    stages.close()
    assert until(lambda: started[0][1].poll() == -9)


def test_a_failure_is_told_in_a_sentence(stand_in, tmp_path):
    stand_in("print('Error: The disk is odd: free some.'); raise SystemExit(2)", "")
    with pytest.raises(InputError, match=r"^The disk is odd: free some.$"):
        list(run_in_subprocess(CONFIG, tmp_path, as_compare_command(CONFIG)))


def test_bundled_trainings_count(tmp_path):
    config = own_config(["resnet20"], ["lora", "metalora-tr-constant"], 1, STEPS)
    assert stage(config, tmp_path) == Stage(1, 2)
