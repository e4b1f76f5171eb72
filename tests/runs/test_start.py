"""Starting a run: in one go, or not at all."""

import pytest

from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.start import start_run
from metalora.runs.workspace import Workspace
from metalora.util.errors import InputError


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def queue(workspace):
    """A queue that starts nothing."""
    queue = RunQueue(workspace, workers=0, per_visitor=1)
    yield queue
    queue.close()


def test_a_run_is_queued_before_anything_is_told_of_it(workspace, queue):
    visitor = workspace.new_visitor()
    status = next(start_run(workspace, queue, visitor, RunConfig()))  # and the page is gone
    assert status.state == "queued" and workspace.runs(visitor) == [status.run]
    assert queue.status(visitor, status.run).queue_position == 1


def test_a_run_that_is_refused_leaves_nothing(workspace, queue):
    visitor = workspace.new_visitor()
    list(start_run(workspace, queue, visitor, RunConfig()))
    with pytest.raises(InputError, match="1 runs queued or running"):
        list(start_run(workspace, queue, visitor, RunConfig()))
    assert len(workspace.runs(visitor)) == 1


def test_a_run_that_was_never_started_can_be_started_or_deleted(workspace, queue):
    visitor = workspace.new_visitor()
    fresh, other = (workspace.prepare_run(visitor, RunConfig()) for _ in range(2))
    assert queue.status(visitor, fresh).state == "new"
    assert next(queue.start(visitor, fresh)).state == "queued"
    workspace.delete_run(visitor, other)
    assert workspace.runs(visitor) == [fresh]
