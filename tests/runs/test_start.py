"""Starting a run: in one go, or not at all."""

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.runs.queue import RunQueue
from metalora.runs.run_config import RunConfig
from metalora.runs.start import start_run
from metalora.runs.workspace import Workspace
from metalora.suites.config import SuiteConfig
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


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (RunConfig("../../etc/passwd"), "Unknown backbone"),
        (RunConfig("hf-hub:evil/model"), "Unknown backbone"),
        (RunConfig("local-dir:/etc"), "Unknown backbone"),
        (RunConfig("resnet18.a1_in1k"), "not on this machine"),
        (RunConfig("resnet20@/etc/passwd"), "a file of the server"),
        (RunConfig(adapter=AdapterConfig(extractor="resnet2000")), "Unknown backbone"),
        (RunConfig(adapter=AdapterConfig(extractor="resnet20@/etc/passwd")), "a file of the server"),
        (RunConfig(suite=SuiteConfig("../digits")), "Unknown suite"),
        (RunConfig(suite=SuiteConfig("cifar10", data="nowhere")), "CIFAR-10 is not on this machine"),
        (RunConfig(suite=SuiteConfig("folder:/etc")), "zip archive"),
        (RunConfig(start="../../etc"), "no bundled adapter|Unknown adapter"),
    ],
)
def test_a_name_that_leads_nowhere_takes_no_place_in_the_queue(workspace, queue, config, said):
    visitor = workspace.new_visitor()
    with pytest.raises(InputError, match=said):
        next(start_run(workspace, queue, visitor, config))
    assert workspace.runs(visitor) == []
