"""A run on a cluster: a worker trains it, and the process that started it holds its folder, follows and stops it."""

import contextlib
import os
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metalora.runs.execute import execute
from metalora.runs.failures import reason_of
from metalora.runs.run_folder import RunFolder, RunState, open_held
from metalora.runs.run_log import last_event
from metalora.training.loop import Progress
from metalora.util.cluster import SCHEDULER, Cluster, connect, leave_if_cancelled
from metalora.util.processes import process

POLL_SECONDS = 1.0  # between two looks at the log of steps
STOP_SECONDS = 50.0  # for the step of a worker that was asked to stop, before its call is cancelled


def runs_at_a_time(workspace: Path) -> int:
    """Return how many runs an app trains at a time: one here, or one on each worker that METALORA_SCHEDULER has now.

    Raises:
        InputError: the scheduler does not answer, or a worker does not share the workspace.
    """
    with connect(os.environ.get(SCHEDULER)) as cluster:
        if cluster is None:
            return 1
        cluster.check_shared(workspace)
        return max(1, cluster.workers)


def execute_on_cluster(run: RunFolder, cluster: Cluster) -> Generator[Progress, None, None]:
    """Let a worker train a run as `execute` does; yield the last step about every second.

    Where the worker dies, another one resumes the run. Leaving early (closing the generator, Ctrl-C) stops it.

    Args:
        run: in a folder that the workers share.
        cluster: which trains it.

    Raises:
        InputError: as `execute`; the workers do not share the folder; or the cluster fails, see `Cluster.run`.
    """
    if run.state is RunState.FINISHED:
        return
    with run.locked():
        cluster.check_shared(run.path.absolute())
        if run.state is not RunState.QUEUED:
            run.clear()
        run.config = replace(run.config, suite=run.config.suite.absolute())
        run.record(RunState.RUNNING)
        future = cluster.submit(train_on_worker, run.path.absolute(), process())
        end: tuple[RunState, str | None] = RunState.STOPPED, None
        try:
            over = False
            while not over:
                over = bool(cluster.wait([future], POLL_SECONDS))
                if event := last_event(run.path):
                    yield Progress(**event)
            run.skipped = cluster.result(future)
        except (KeyboardInterrupt, GeneratorExit):
            if cluster.is_running(future):
                run.request_stop()
                cluster.wait([future], STOP_SECONDS)
            raise
        except Exception as error:
            end = RunState.FAILED, reason_of(error)
            raise
        finally:
            cluster.cancel([future])
            run.reload()
            run.record_end(*end)


def train_on_worker(folder: Path, holder: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Train a run that another process holds; return its images that could not be used."""
    run = open_held(folder, holder)
    run.record(RunState.RUNNING)  # on this machine
    with contextlib.closing(execute(run)) as steps:
        for _ in steps:
            leave_if_cancelled()
    return run.skipped
