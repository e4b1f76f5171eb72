"""The queue: order and limits with workers that only write their name down, the life of a run with real ones."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable

import pytest

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.runs.addresses import coming_from
from metalora.runs.failures import KILLED
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import open_run
from metalora.runs.run_log import read_events, read_log
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.processes import is_alive, process

PATIENCE = 120  # seconds: a worker imports torch on a machine that may be busy


def config(steps=3):
    return RunConfig(
        suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
        adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
        training=TrainingConfig(steps=steps, batch_size=8, device="cpu"),
    )


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def make_queue(workspace):
    """Makes queues that are closed, with their workers stopped, at the end."""
    made = []

    def make(**options):
        made.append(RunQueue(workspace, **options))
        return made[-1]

    yield make
    for queue in made:
        queue.close(stop_runs=True)


class Scribe:
    """A worker that writes its run's id down, waits for leave to go on, and says that it is finished."""

    def __init__(self, folder):
        self.order, self.leave = folder / "order", folder / "leave"

    def __call__(self, run):
        paths = self.order, self.leave, run / "run.json", run / "result.json"
        order, leave, settings, result = (shlex.quote(str(path)) for path in paths)
        script = (
            f"echo {run.name} >> {order}; while [ ! -e {leave} ]; do sleep 0.02; done; touch {result}; "
            f'sed -i \'s/"queued"/"finished"/\' {settings}; echo $OMP_NUM_THREADS; cat'
        )
        return ["sh", "-c", script]

    def started(self):
        return self.order.read_text().split() if self.order.exists() else []


@pytest.fixture
def scribe(tmp_path):
    return Scribe(tmp_path)


def submitted(queue, visitor, count=1):
    ids = [queue.workspace.prepare_run(visitor, config()) for _ in range(count)]
    for run_id in ids:
        queue.submit(visitor, run_id)
    return ids


def test_visitors_take_turns(workspace, make_queue, scribe, monkeypatch):
    monkeypatch.setattr("metalora.runs.queue.joblib.cpu_count", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    queue = make_queue(command=scribe)
    many, one, late = (workspace.new_visitor() for _ in range(3))
    first, second, third = submitted(queue, many, 3)
    wait_for(scribe.started)
    (single,) = submitted(queue, one)
    assert queue.status(many, first).state == "running"
    waiting = ((one, single), (many, second), (many, third))
    assert [queue.status(visitor, run).queue_position for visitor, run in waiting] == [1, 2, 3]
    (other,) = submitted(queue, late)
    assert queue.status(late, other).queue_position == 2  # nobody has served this visitor either
    queue.stop(many, third)
    assert (queue.status(many, third).state, queue.status(many, third).queue_position) == ("stopped", None)
    scribe.leave.touch()
    wait_for(lambda: queue.status(many, second).state == "finished")
    assert scribe.started() == [first, single, other, second]
    assert read_log(workspace.run_folder(many, first)) == "3"  # threads


def test_runs_are_counted_and_logged_without_their_visitor(workspace, make_queue, scribe, caplog):
    caplog.set_level("INFO", "metalora")
    queue, visitor = make_queue(command=scribe), workspace.new_visitor()
    (run,) = submitted(queue, visitor)
    wait_for(scribe.started)
    assert queue.counts() == {"waiting": 0, "running": 1}
    scribe.leave.touch()
    wait_for(lambda: queue.counts() == {"waiting": 0, "running": 0})
    said = [(record.message, record.run) for record in caplog.records if hasattr(record, "run")]
    assert said == [("run queued", run), ("run started", run), ("run ended", run)]
    assert caplog.records[-1].state == "finished" and visitor not in caplog.text


def test_a_queue_is_bounded(workspace, make_queue, scribe):
    queue = make_queue(command=scribe, per_visitor=2, max_waiting=2)
    one, other, third = (workspace.new_visitor() for _ in range(3))
    submitted(queue, one, 2)
    wait_for(scribe.started)
    with pytest.raises(InputError, match="2 runs queued or running"):
        submitted(queue, one)
    submitted(queue, other)
    with pytest.raises(InputError, match="The queue is full, 2 runs are waiting"):
        submitted(queue, third)
    (refused,) = workspace.runs(third)
    assert queue.status(third, refused).state == "new"  # it can be submitted later
    scribe.leave.touch()
    wait_for(lambda: len(scribe.started()) == 3)
    queue.submit(third, refused)


def test_a_new_visitor_id_gets_no_further_place_and_no_earlier_turn(workspace, make_queue, scribe):
    queue = make_queue(command=scribe, per_address=3, max_waiting=9)
    with coming_from("6.6.6.6"):
        strangers = [workspace.new_visitor() for _ in range(4)]
        runs = [submitted(queue, stranger)[0] for stranger in strangers[:3]]
        wait_for(scribe.started)
        with pytest.raises(InputError, match="Your network address has 3 runs queued or running"):
            submitted(queue, strangers[3])
    with coming_from("1.2.3.4"):
        honest = workspace.new_visitor()
        (run,) = submitted(queue, honest)
    assert queue.status(honest, run).queue_position == 1
    assert queue.status(strangers[2], runs[2]).queue_position == 3
    again = RunQueue(workspace, workers=0, per_address=2)  # which knows addresses from the disk
    assert again.status(honest, run).queue_position == 2
    with pytest.raises(InputError, match="Your network address has 2 runs"):
        again.submit(strangers[3], workspace.runs(strangers[3])[0])
    again.close()
    scribe.leave.touch()


def test_long_runs_cost_turns(workspace, make_queue, scribe):
    queue = make_queue(command=scribe)
    with coming_from("6.6.6.6"):
        busy = workspace.new_visitor()
        (long,) = submitted(queue, busy)
        wait_for(scribe.started)
        queue._active[workspace.run_folder(busy, long)].began -= 300  # five minutes
    scribe.leave.touch()
    wait_for(lambda: queue.status(busy, long).state == "finished" and not queue._active)
    scribe.leave.unlink()
    with coming_from("1.2.3.4"):
        other = workspace.new_visitor()
        (first,) = submitted(queue, other)
        wait_for(lambda: first in scribe.started())
        (second,) = submitted(queue, other)
    with coming_from("6.6.6.6"):
        again = workspace.new_visitor()  # whose debt is that of the address
        (more,) = submitted(queue, again)
    assert queue.status(again, more).queue_position == 2
    assert queue.status(other, second).queue_position == 1
    scribe.leave.touch()


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_run_ends_when_its_time_is_over_and_can_be_resumed(workspace, make_queue, monkeypatch, stubborn):
    monkeypatch.setattr("metalora.runs.queue.GRACE_SECONDS", 0.5)
    script = "trap '' INT; while :; do sleep 0.1; done" if stubborn else "sleep 60"
    queue = make_queue(command=lambda folder: ["sh", "-c", script], max_seconds=0.6)
    visitor = workspace.new_visitor()
    (run,) = submitted(queue, visitor)
    wait_for(lambda: not queue.status(visitor, run).state.active)
    status = queue.status(visitor, run)
    assert status.state == "stopped" and "stopped after 0.01 minutes, which is the most here" in status.reason
    queue.command = lambda folder: ["true"]
    assert queue.resume(visitor, run).run == run


def test_a_run_of_an_earlier_app_ends_when_its_time_is_over(workspace, make_queue, scribe, monkeypatch):
    monkeypatch.setattr("metalora.runs.queue.GRACE_SECONDS", 0.1)
    old = RunQueue(workspace, command=scribe)
    visitor = workspace.new_visitor()
    (run,) = submitted(old, visitor)
    wait_for(lambda: scribe.started() and old._active[workspace.run_folder(visitor, run)].process is not None)
    worker = process(old._active[workspace.run_folder(visitor, run)].process.pid)
    settings = workspace.run_folder(visitor, run) / "run.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"status": "running", "worker": worker}))
    old.close()
    new = make_queue(command=scribe, max_seconds=0.1)
    wait_for(lambda: not new.status(visitor, run).state.active)
    assert not is_alive(worker) and new.status(visitor, run).state == "stopped"


def test_a_run_is_submitted_once(workspace, make_queue, scribe):
    queue = make_queue(command=scribe)
    visitor = workspace.new_visitor()
    (run,) = submitted(queue, visitor)
    for _ in range(2):
        with pytest.raises(InputError, match="queued or running already"):
            queue.resume(visitor, run)
    scribe.leave.touch()
    wait_for(lambda: queue.status(visitor, run).state == "finished")


def test_another_visitors_run_is_out_of_reach(workspace, make_queue, scribe):
    queue = make_queue(command=scribe)
    owner, other = workspace.new_visitor(), workspace.new_visitor()
    (run,) = submitted(queue, owner)
    for touch in (queue.submit, queue.resume, queue.stop, queue.status, queue.start):
        with pytest.raises(InputError, match="no such run of yours"):
            touch(other, run)
    assert queue.status(owner, run).state.active
    scribe.leave.touch()


def test_the_next_run_starts_after_one_that_cannot_be_launched(workspace, make_queue):
    commands = iter([["/nowhere/python"], ["sh", "-c", "echo 'Error: Wrong.'; exit 2"], ["sh", "-c", "kill -9 $$"]])
    queue = make_queue(command=lambda _: next(commands))
    visitor = workspace.new_visitor()
    ids = submitted(queue, visitor, 3)
    wait_for(lambda: not queue.status(visitor, ids[-1]).state.active)
    found = [queue.status(visitor, run) for run in ids]
    assert [status.state for status in found] == ["failed"] * 3
    assert "No such file" in found[0].reason
    assert [status.reason for status in found[1:]] == ["Wrong.", KILLED]


def test_a_reason_that_a_full_disk_refuses_to_record_is_told(workspace, make_queue, scribe, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    queue = make_queue(command=lambda _: ["sh", "-c", f"while [ ! -e {scribe.leave} ]; do sleep 0.02; done; exit 1"])
    visitor = workspace.new_visitor()
    (run,) = submitted(queue, visitor)
    with monkeypatch.context() as patch:
        patch.setattr("metalora.util.files.tempfile.mkstemp", full)
        scribe.leave.touch()
        wait_for(lambda: not queue.status(visitor, run).state.active)
        assert (queue.status(visitor, run).state, "exit code 1" in queue.status(visitor, run).reason) == (
            "failed",
            True,
        )
    queue.resume(visitor, run)


def test_a_new_queue_takes_up_what_an_old_one_left(workspace, make_queue, scribe):
    old = RunQueue(workspace, command=scribe)
    visitor = workspace.new_visitor()
    first, second = submitted(old, visitor, 2)
    wait_for(scribe.started)
    pid = old._active[workspace.run_folder(visitor, first)].process.pid
    settings = workspace.run_folder(visitor, first) / "run.json"
    content = json.loads(settings.read_text()) | {"status": "running", "worker": process(pid)}
    settings.write_text(json.dumps(content))  # as a real worker does
    old.close()
    new = make_queue(command=scribe)
    assert new.status(visitor, first).state == "running"
    assert (new.status(visitor, second).state, new.status(visitor, second).queue_position) == ("queued", 1)
    assert scribe.started() == [first]
    assert new.stop(visitor, first).state == "stopping"
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not new.status(visitor, first).state.active)
    assert new.status(visitor, first).state == "stopped"
    wait_for(lambda: len(scribe.started()) == 2)
    scribe.leave.touch()
    wait_for(lambda: new.status(visitor, second).state == "finished")


@pytest.mark.slow
def test_the_life_of_runs_with_real_workers(workspace, make_queue, monkeypatch):
    """One is killed, the next one starts, is stopped, resumed, and finishes."""
    # Threads that wait for each other are slow where other tests use the cores too.
    monkeypatch.setattr("metalora.runs.queue.joblib.cpu_count", lambda: 1)
    queue = make_queue()
    visitor = workspace.new_visitor()
    killed, stopped = (workspace.prepare_run(visitor, config(steps)) for steps in (100_000, 150))
    assert next(queue.start(visitor, killed)).run == killed
    wait_for(lambda: queue.status(visitor, killed).state == "running")
    assert queue.submit(visitor, stopped).queue_position == 1
    folder = workspace.run_folder(visitor, killed)
    wait_for(lambda: queue.status(visitor, killed).step >= 1)
    status = queue.status(visitor, killed)
    assert status.state == "running" and status.steps == 100_000
    assert status.seconds_left > 0 and status.metrics.keys() == {"loss", "accuracy", "waiting"}
    worker = json.loads((folder / "run.json").read_text())["worker"]
    os.kill(worker["pid"], signal.SIGKILL)
    wait_for(lambda: not queue.status(visitor, killed).state.active)
    assert not is_alive(worker)
    assert (queue.status(visitor, killed).state, queue.status(visitor, killed).reason) == ("failed", KILLED)

    folder = workspace.run_folder(visitor, stopped)
    wait_for(lambda: queue.status(visitor, stopped).step >= 1)
    assert queue.stop(visitor, stopped).state == "stopping"
    wait_for(lambda: not queue.status(visitor, stopped).state.active)
    found = queue.status(visitor, stopped)
    assert found.state == "stopped" and found.reason is None and 1 <= found.step < 150
    assert metalora.load(folder / "adapter").config == config().adapter
    assert "it is saved" in read_log(folder)

    queue.resume(visitor, stopped)
    wait_for(lambda: not queue.status(visitor, stopped).state.active)
    assert queue.status(visitor, stopped).state == "finished", read_log(folder)
    assert read_events(folder).step.tolist() == list(range(1, 151))
    assert open_run(folder).result["rows"]
    with pytest.raises(InputError, match="is finished"):
        queue.submit(visitor, stopped)
