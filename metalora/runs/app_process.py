"""What an app sets for its whole process: folders of temporary files and caches, and which warnings are of no interest.

All that is written lies below the workspace, since a server may have no home:

temporary/ID   what visitors send, of one app; deleted when that app has ended
numba          what UMAP compiles, for the next start
matplotlib     if installed, its list of fonts
"""

import ctypes
import os
import secrets
import shutil
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from metalora.util.errors import InputError, LayersLeftOut
from metalora.util.locks import LOCK, Busy, locked
from metalora.util.paths import expand
from metalora.util.quiet import UMAP

WORKSPACE = "workspace"
CACHES = {"NUMBA_CACHE_DIR": "numba", "MPLCONFIGDIR": "matplotlib"}
TEMPORARY = "GRADIO_TEMP_DIR"
DOWNLOAD = "METALORA_DOWNLOAD"
M_TRIM_THRESHOLD, M_ARENA_MAX = -1, -8  # of malloc.h
LOCAL = ("localhost", "127.0.0.1", "::1")

_held: list[FileLock] = []  # of this process, until it ends


def workspace_root(root: str | Path | None = None) -> Path:
    """Return the folder of the app: the given one, else that of METALORA_WORKSPACE, else "workspace"."""
    return expand(root or os.environ.get("METALORA_WORKSPACE") or WORKSPACE).absolute()


def set_folders(root: Path) -> None:
    """Set the variables of folders that the person has not set, before gradio and numba are imported.

    Raises:
        InputError: the disk refuses.
    """
    for variable, name in CACHES.items():
        os.environ.setdefault(variable, str(root / name))
    if TEMPORARY not in os.environ:
        os.environ[TEMPORARY] = str(_temporary_folder(root / "temporary"))


def set_filters() -> None:
    """Ignore warnings that the page shows itself, or that say nothing to a person; call it before threads start."""
    warnings.simplefilter("ignore", LayersLeftOut)
    warnings.filterwarnings("ignore", module=UMAP)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd metadata


def share_memory() -> None:
    """Let all threads take memory from two places, and give back what is free; call it before threads start.

    Otherwise each of the 40 threads that answer events keeps a place of its own, and all of them grow.
    A variable of glibc's, such as MALLOC_ARENA_MAX, that the person has set stays; other systems have none of this.
    """
    set_by_hand = any(name.startswith("MALLOC_") for name in os.environ)
    mallopt = None if set_by_hand or sys.platform != "linux" else getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_TRIM_THRESHOLD, 2**20)


def share_cores() -> None:
    """Let torch use half of the cores in this process: the others answer pages meanwhile, and train runs."""
    import joblib  # slow to import, as is torch; a first page is there before
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, joblib.cpu_count() // 2))


def on_own_machine() -> bool:
    """Return whether the app answers at this machine's own address only, for the person who started it."""
    local = os.environ.get("GRADIO_SERVER_NAME", "localhost") in LOCAL
    return local and "SPACE_ID" not in os.environ and os.environ.get("GRADIO_SHARE", "").lower() not in ("true", "1")


def may_download() -> bool:
    """Return whether a person at the page may fetch weights: by METALORA_DOWNLOAD, else on their own machine only."""
    said = os.environ.get(DOWNLOAD)
    return on_own_machine() if said is None else said == "1"


def _temporary_folder(parent: Path) -> Path:
    """Make a folder for this process, and delete those of processes that have ended."""
    folder = parent / secrets.token_hex(8)
    try:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(parent / LOCK):  # no other app takes the new folder for an old one
            for old in parent.glob("*"):
                if old.is_dir():
                    with suppress(Busy, OSError), locked(old, "in use"):
                        shutil.rmtree(old)
            folder.mkdir()
            _held.append(FileLock(folder / LOCK))
            _held[-1].acquire()
    except OSError as error:
        raise InputError(f"Cannot write in {parent}: {error}; name another folder in METALORA_WORKSPACE.") from error
    return folder
