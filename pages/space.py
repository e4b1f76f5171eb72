"""Where the app computes: here and in workers, or inside events on a Space that lends a GPU to one event at a time."""

import os
from pathlib import Path

from metalora.runs.estimates import estimate
from metalora.runs.queue import RunQueue
from metalora.runs.status import Backend
from metalora.runs.store import open_run
from metalora.runs.workspace import Workspace
from metalora.runs.zerogpu import InEvent
from metalora.util.device import AUTO

LONGEST = 120  # seconds of a GPU that one event asks for; a longer run stops there and is resumed
SHORT = 30  # seconds that looking at pictures asks for: the start of a process, a gallery, a few pictures


def backend(workspace: Workspace) -> Backend:
    """Workers everywhere but on ZeroGPU, where a process of its own would get no GPU."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        return RunQueue(workspace)
    import spaces

    os.environ.setdefault(AUTO, "cpu")  # of this process: its events' children have the GPU
    return InEvent(workspace, spaces.GPU(duration=_seconds), spaces.GPU(duration=SHORT))


def _seconds(folder: Path) -> int:
    return min(LONGEST, round(estimate(open_run(folder).config)))
