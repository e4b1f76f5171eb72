"""Starting a new run: its folder is made and handed to what executes it in one go."""

from collections.abc import Iterator

from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import RunState, open_run
from metalora.runs.status import Backend, RunStatus
from metalora.runs.visitor_limits import check_names
from metalora.runs.workspace import Workspace
from metalora.util.errors import InputError


def start_run(workspace: Workspace, backend: Backend, visitor: str, config: RunConfig) -> Iterator[RunStatus]:
    """Make a visitor's run and start it; yield its status as `Backend.start` does.

    The run is queued before the first status is yielded, so that a page that closes leaves none that waits for it. A
    run that the back end refuses leaves nothing.

    Raises:
        InputError: as `check_names` and `Workspace.prepare_run`, or the back end refuses it.
    """
    check_names(config)
    run = workspace.prepare_run(visitor, config)
    try:
        yield from backend.start(visitor, run)
    except InputError:
        if open_run(workspace.run_folder(visitor, run)).state is RunState.NEW:
            workspace.delete_run(visitor, run)
        raise
