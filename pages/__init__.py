"""The app: layout and events of its pages. What they show is computed in `metalora`.

Installed, this package is called `metalora_app`; `metalora app`, `python app.py` and a Hugging Face Space call `main`.
"""

import gc
import importlib.util
import os
from pathlib import Path
from typing import Any

from metalora.runs.app_process import set_filters, set_folders, share_memory, workspace_root
from metalora.util.logs import set_up_logs

from .waiting import open_waiting_page


def main(root: str | Path | None = None, **settings: Any) -> None:
    """Start the app, with everything that it writes below `root`; `settings` go to gradio's `launch`.

    Raises:
        InputError: the disk refuses.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # After each event Gradio summarises the last 10,000 events, for a page of its own that is switched off here.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
    # Threads of torch that wait sleep, here and in workers: while they spin, visitors and a run wait for each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("METALORA_CACHE", "")  # what visitors send is kept in their own folders only
    gc.disable()  # imports create a million long-lived objects: collecting meanwhile is a quarter of the start
    share_memory()
    root = workspace_root(root)
    set_folders(root)
    set_filters()
    set_up_logs()
    waiting = open_waiting_page(settings)
    if waiting is not None:
        settings["server_port"] = waiting.port
        print(f"* Starting on http://127.0.0.1:{waiting.port}, where an example is shown meanwhile.", flush=True)
    if importlib.util.find_spec("spaces"):
        import spaces  # noqa: F401 - lends GPUs on ZeroGPU Spaces, and has to come before torch

    from .app import launch

    gc.freeze()
    gc.enable()
    launch(root, waiting, **settings)
