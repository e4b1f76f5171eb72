"""Runs inside an event: in this process, and in a child that a stand-in for `@spaces.GPU` forks."""

import multiprocessing
import warnings

import pytest
import torch

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, open_run
from metalora.runs.run_log import read_log
from metalora.runs.workspace import Workspace
from metalora.runs.zerogpu import InEvent, execute_here
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig
from metalora.util.device import AUTO, pick_device
from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.examples import OF_DIGITS
from metalora.views.inspect import inspect_view

STEPS = 3


def config(**training):
    return RunConfig(
        suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
        adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
        training=TrainingConfig(**{"steps": STEPS, "batch_size": 8, "device": "cpu", **training}),
    )


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def visitor(workspace):
    return workspace.new_visitor()


def forking(function):
    """Runs a generator function in a forked child; its values come back through a queue, and closing it kills it."""

    def child(queue, folder):
        torch.set_num_threads(1)  # threads of the parent do not survive the fork
        for value in function(folder):
            queue.put(value)
        queue.put(None)

    def call(folder):
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=child, args=(queue, folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: ZeroGPU does it as well
            process.start()
        try:
            while (value := queue.get()) is not None:
                yield value
        finally:
            process.kill()
            process.join()

    return call


forks = pytest.mark.skipif(torch.cuda.is_available(), reason="autograd's threads for a GPU do not survive a fork")


@pytest.mark.parametrize("decorate", [None, pytest.param(forking, marks=forks)])
def test_a_run_from_start_to_finish(workspace, visitor, decorate):
    backend = InEvent(workspace, *filter(None, [decorate]))
    run = workspace.prepare_run(visitor, config())
    statuses = list(backend.start(visitor, run))
    assert [(status.state, status.step) for status in statuses] == [
        *(("running", step) for step in range(1, STEPS + 1)),
        ("finished", STEPS),
    ]
    assert "loss" in statuses[0].metrics and statuses[-1] == backend.status(visitor, run)
    assert metalora.load(workspace.run_folder(visitor, run) / "adapter").config == config().adapter


def test_a_stop_is_heard_and_the_run_resumed(workspace, visitor):
    backend = InEvent(workspace)
    run = workspace.prepare_run(visitor, config())
    states = []
    for status in backend.start(visitor, run):
        states.append(status.state)
        if status.step == 1 and status.state == "running":
            assert backend.stop(visitor, run).state == "stopping"
    assert states == ["running", "stopped"]
    assert (workspace.run_folder(visitor, run) / "adapter").is_dir()
    assert [status.step for status in backend.start(visitor, run)] == [2, 3, 3]
    assert backend.stop(visitor, run).state == "finished"


@pytest.mark.parametrize("decorate", [None, pytest.param(forking, marks=forks)])
def test_a_run_stops_with_its_page(workspace, visitor, decorate):
    backend = InEvent(workspace, *filter(None, [decorate]))
    run = workspace.prepare_run(visitor, config(steps=100_000))
    event = backend.start(visitor, run)
    assert next(event).state == "running"
    event.close()
    assert backend.status(visitor, run).state == "stopped"
    resumed = backend.start(visitor, run)
    assert next(resumed).state == "running"
    resumed.close()


@forks
def test_a_child_that_dies_fails_the_run(workspace, visitor):
    backend = InEvent(workspace, mortal)
    run = workspace.prepare_run(visitor, config())
    *_, last = backend.start(visitor, run)
    assert last.state == "failed" and "time is over" in last.reason
    assert [status.state for status in InEvent(workspace).start(visitor, run)][-1] == "finished"


def mortal(function):
    """Kills its child after the first value, as a lender whose time is over."""

    def call(folder):
        values = forking(function)(folder)
        yield next(values)
        values.close()
        raise RuntimeError("the GPU's time is over")

    return call


def test_what_goes_wrong_is_a_status(workspace, visitor, monkeypatch):
    backend = InEvent(workspace)
    run = workspace.prepare_run(visitor, RunConfig("resnet2000"))
    (last,) = backend.start(visitor, run)
    assert last.state == "failed" and "Unknown backbone" in last.reason

    def broken(*_, **__):
        raise ZeroDivisionError("a bug")
        yield

    monkeypatch.setattr("metalora.runs.execute.fit", broken)
    run = workspace.prepare_run(visitor, config())
    (last,) = backend.start(visitor, run)
    assert (last.state, last.reason) == ("failed", "a bug")
    assert "Traceback" in read_log(workspace.run_folder(visitor, run))


def test_what_is_not_to_be_started_is_refused(workspace, visitor):
    backend, run = InEvent(workspace), workspace.prepare_run(visitor, config())
    with pytest.raises(InputError, match="no such run of yours"):
        next(backend.start(workspace.new_visitor(), run))
    open_run(workspace.run_folder(visitor, run)).record(RunState.RUNNING)
    with pytest.raises(InputError, match="being trained already"):
        next(execute_here(workspace.run_folder(visitor, run)))
    with pytest.raises(InputError, match="being trained already"):
        next(backend.start(visitor, run))
    assert backend.status(visitor, run).state == "running"


def forking_short(function):
    """As `forking`, for a function that returns; what it raises loses its text, as with ZeroGPU."""

    def child(queue, received, arguments):
        torch.set_num_threads(1)
        try:
            queue.put((function(*arguments), None))
        except Exception as error:
            queue.put((None, type(error).__name__))
        received.wait()  # tensors are handed over by a living process

    def call(*arguments):
        context = multiprocessing.get_context("fork")
        queue, received = context.SimpleQueue(), context.Event()
        process = context.Process(target=child, args=(queue, received, arguments))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        result, error = queue.get()
        received.set()
        process.join()
        if error:
            raise RuntimeError(error)
        return result

    return call


@forks
def test_events_compute_on_a_device_that_the_parent_does_not_use(tmp_path, monkeypatch):
    app_state = AppState(tmp_path, lambda workspace: InEvent(workspace, forking, forking_short, device="cpu"))
    lent = app_state.wrap_for_gpu(lambda app_state, name: (str(pick_device()), app_state.open("", name).title))
    with monkeypatch.context() as parent:
        parent.setenv(AUTO, "cuda:99")
        assert lent("resnet20/metalora-tr") == ("cpu", "Meta-LoRA TR on resnet20")
        with pytest.raises(InputError, match="cuda:99"):
            pick_device()

    visitor = app_state.ensure_visitor(None)
    lent_view = app_state.wrap_for_gpu(inspect_view)(visitor, "resnet20/metalora-cp", OF_DIGITS, False)
    view = inspect_view(app_state, visitor, "resnet20/metalora-cp", OF_DIGITS, False)
    assert lent_view.headline == view.headline
    torch.testing.assert_close(lent_view.report.after, view.report.after)
    with pytest.raises(InputError, match="There are no images"):
        app_state.wrap_for_gpu(inspect_view)(visitor, "resnet20/metalora-cp", [], False)
