"""Full disks, deleted folders, losses that are not finite, lack of memory: failed for a reason, nothing torn.

What is good is kept: the last checkpoint is whole, the run resumes from it, and the next run of a queue starts.
"""

import errno
import os
import shutil
from dataclasses import replace

import pytest
import torch
from killing import FAULT, FAULTS, ROOT, Write, step_of, wait_for

from metalora.adapters.config import AdapterConfig
from metalora.runs.execute import execute
from metalora.runs.failures import FULL_DISK, NO_MEMORY
from metalora.runs.queue import RunQueue, worker_command
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, create_run, open_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
from metalora.training import loop
from metalora.training.config import TrainingConfig
from metalora.util.errors import InputError
from metalora.util.files import write_state

CONFIG = RunConfig(
    suite=SuiteConfig(image_size=8, max_queries=20, max_train_images=20),
    adapter=AdapterConfig("metalora-cp", rank=2, targets=("layer1.0",)),
    training=TrainingConfig(steps=4, batch_size=8, device="cpu"),
)
NAN = "The loss or its gradient is not finite at step 3: lower the learning rate (now 0.00225)."


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The adapter of a run that nothing disturbed."""
    run = create_run(tmp_path_factory.mktemp("whole") / "run", CONFIG)
    list(execute(run))
    return weights(run)


def weights(run):
    return (run.adapter / "adapter.safetensors").read_bytes()


@pytest.fixture
def saved_after_two(tmp_path):
    """A run that was stopped after two steps."""
    run = create_run(tmp_path / "run", CONFIG)
    events = execute(run)
    next(events), next(events)
    events.close()
    assert step_of(run.checkpoint) == 2
    return open_run(run.path)


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("target", "fault", "reason"),
    [
        ("torch.Tensor.backward", raising(RuntimeError("DefaultCPUAllocator: can't allocate memory")), NO_MEMORY),
        ("torch.Tensor.backward", raising(torch.OutOfMemoryError("CUDA out of memory.")), NO_MEMORY),
        ("torch.nn.functional.cross_entropy", lambda *_: torch.tensor(torch.nan, requires_grad=True), NAN),
        ("torch.nn.utils.clip_grad_norm_", lambda *_: torch.tensor(torch.inf), NAN),
        ("metalora.training.loop.write_state", raising(OSError(errno.ENOSPC, "No space left on device")), FULL_DISK),
        ("metalora.training.fit.Prefetch.__call__", raising(OSError(errno.EDQUOT, "Quota exceeded")), FULL_DISK),
    ],
    ids=["memory", "memory of a GPU", "loss", "gradient", "disk", "quota"],
)
def test_a_run_that_fails_has_its_reason_and_its_last_checkpoint(
    saved_after_two, whole, target, fault, reason, monkeypatch
):
    run = saved_after_two
    with monkeypatch.context() as patch:
        patch.setattr(target, fault)
        with pytest.raises((InputError, RuntimeError, OSError)):
            list(execute(run))
    again = open_run(run.path)
    assert (again.state, again.reason) == (RunState.FAILED, reason)
    assert step_of(run.checkpoint) == 2
    assert [event.step for event in execute(again)] == [3, 4]
    assert weights(run) == whole


def test_a_run_whose_folder_is_deleted_fails_and_does_not_come_back(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    events = execute(run)
    next(events)
    shutil.rmtree(run.path)
    with pytest.raises(InputError, match="was deleted meanwhile"):
        list(events)
    assert not run.path.exists()
    assert len(list(execute(create_run(tmp_path / "run", CONFIG)))) == 4


def test_a_disk_that_fills_up_while_a_checkpoint_is_written_leaves_the_one_before(saved_after_two, whole, monkeypatch):
    run = saved_after_two

    def half(path, state):
        with monkeypatch.context() as patch:
            patch.setattr("metalora.util.files._sync", raising(OSError(errno.ENOSPC, "No space left on device")))
            write_state(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_state", half)
        with pytest.raises(InputError, match="No space left on device; free some space"):
            list(execute(run))
    assert step_of(run.checkpoint) == 2
    assert not list(run.path.glob(".*.tmp"))
    again = open_run(run.path)
    assert again.state is RunState.FAILED and "free some space" in again.reason
    assert [event.step for event in execute(again)] == [3, 4] and weights(run) == whole


def limited(gigabytes):
    """The command of a worker that may have so much memory."""
    return lambda folder: ["sh", "-c", f'ulimit -v {gigabytes * 2**20}; exec "$@"', "sh", *worker_command(folder)]


def with_full_disk(folder):
    """The command of a worker whose second checkpoint meets a full disk."""
    fault = Write("checkpoint.safetensors", "full", 2)
    return ["env", f"PYTHONPATH={FAULTS}{os.pathsep}{ROOT}", f"{FAULT}={fault}", *worker_command(folder)]


def settings(**training):
    return replace(CONFIG, training=replace(CONFIG.training, **training))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "command", "reason"),
    [
        (settings(steps=3000), with_full_disk, "No space left on device"),
        (
            replace(CONFIG, adapter=replace(CONFIG.adapter, alpha=1e37)),
            worker_command,
            "The loss or its gradient is not",
        ),
        (replace(settings(batch_size=4096), suite=SuiteConfig(image_size=96)), limited(5), "Memory ran out"),
    ],
    ids=["disk", "loss", "memory"],
)
def test_a_worker_that_fails_says_why_and_the_next_run_starts(config, command, reason, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    visitor = workspace.new_visitor()
    failing, fine = workspace.prepare_run(visitor, config), workspace.prepare_run(visitor, CONFIG)
    folder = workspace.run_folder(visitor, failing)
    queue = RunQueue(workspace, command=lambda path: (command if path == folder else worker_command)(path))
    for run in (failing, fine):
        queue.submit(visitor, run)
    wait_for(lambda: not queue.status(visitor, fine).state.active)
    assert queue.status(visitor, fine).state is RunState.FINISHED
    status = queue.status(visitor, failing)
    assert status.state is RunState.FAILED and reason in status.reason and "\n" not in status.reason
    if command is with_full_disk:
        queue.command = worker_command
        assert 1 <= step_of(folder / "checkpoint.safetensors") < 3000  # which is whole
    queue.close()


@pytest.mark.slow
def test_the_next_run_starts_after_one_whose_folder_is_deleted(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    visitor = workspace.new_visitor()
    deleted, fine = workspace.prepare_run(visitor, settings(steps=100_000)), workspace.prepare_run(visitor, CONFIG)
    folder = workspace.run_folder(visitor, deleted)
    queue = RunQueue(workspace)
    for run in (deleted, fine):
        queue.submit(visitor, run)
    wait_for(lambda: queue.status(visitor, deleted).step >= 3)
    shutil.rmtree(folder)
    wait_for(lambda: not queue.status(visitor, fine).state.active)
    assert queue.status(visitor, fine).state is RunState.FINISHED
    assert not folder.exists()
    queue.close()
