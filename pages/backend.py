"""Where the app computes: here and in workers, or inside events on a Space that lends a GPU to one event at a time."""

import os
from pathlib import Path

from metalora.runs.cluster_run import runs_at_a_time
from metalora.runs.estimates import estimate
from metalora.runs.queue import RunQueue
from metalora.runs.run_folder import open_run
from metalora.runs.status import Backend
from metalora.runs.visitor_limits import server_limits
from metalora.runs.workspace import Workspace
from metalora.runs.zerogpu import InEvent
from metalora.util.device import AUTO

MAX_SECONDS = 120  # of a GPU that one event asks for; a longer run stops there and is resumed
INSPECT_SECONDS = 30  # that inspecting images asks for: the start of a process, a gallery, a few images


def backend(workspace: Workspace) -> Backend:
    """Return workers everywhere but on ZeroGPU, where a process of its own would get no GPU."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        limits = server_limits()
        return RunQueue(
            workspace,
            workers=runs_at_a_time(workspace.root),
            per_visitor=limits.per_visitor,
            per_address=limits.per_address,
            max_waiting=limits.waiting,
            max_seconds=60 * limits.minutes,
        )
    import spaces

    os.environ.setdefault(AUTO, "cpu")  # of this process: its events' children have the GPU
    return InEvent(workspace, spaces.GPU(duration=_seconds), spaces.GPU(duration=INSPECT_SECONDS), device="cuda")


def _seconds(folder: Path) -> int:
    """Return what a run asks for: its start, its steps and its evaluation."""
    return min(MAX_SECONDS, 2 * INSPECT_SECONDS + round(estimate(open_run(folder).config)))
