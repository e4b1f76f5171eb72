"""The whole page: a sidebar, a tab for each of the modules, endpoints for programs."""

import threading
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Route

from metalora.inspection.projection_process import warm_up_apart
from metalora.runs.app_process import share_cores
from metalora.runs.visitor_limits import server_limits
from metalora.util.paths import ASSETS
from metalora.views.app_state import AppState

from . import about, compare, look, map, train
from .api import HEALTH, STATUS, endpoints, health_route, status_route
from .api_mcp import resources
from .backend import backend
from .checked_blocks import CheckedBlocks
from .compressed_files import CompressedFiles
from .context import PRIVATE
from .gate import Gate
from .gradio_costs import quieten, rest_queue
from .links import wire_links
from .plot import PLOTLY_JS
from .security import credentials
from .shell import RUN_STATE, Shell, shell
from .waiting import WaitingPage

MAX_QUEUED = 64  # events that wait for their turn
WARM_AFTER = 15  # seconds: compiling UMAP would take a core from the first page
STYLE = ASSETS / "style.css"
TABS = {
    "Look": look,
    "Train": train,
    "Map": map,
    "Compare": compare,
    "About": about,
}


def launch(root: Path, waiting: WaitingPage | None = None, **settings: Any) -> gr.Blocks:
    """Start the app in place of the page that waits for it; `settings` go to gradio's `launch`."""
    share_cores()
    app_state = AppState(root, backend)
    app_state.prune_regularly()
    demo = build(app_state)
    warming = threading.Timer(WARM_AFTER, warm_up_apart)
    warming.daemon = True
    warming.start()
    if waiting is not None:
        waiting.close()
    demo.launch(
        theme=gr.themes.Monochrome(
            primary_hue="orange",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
            radius_size="none",
            spacing_size="sm",
            text_size="sm",
        ),
        css=STYLE.read_text(encoding="utf-8"),
        max_file_size="32mb",
        run_history=False,
        enable_monitoring=False,
        pwa=True,
        app_kwargs={
            "routes": [
                Route(RUN_STATE, Shell(app_state).run_state),
                Route(STATUS, status_route(app_state)),
                Route(HEALTH, health_route(app_state)),
            ],
            "middleware": [Middleware(Gate, demo.fns), Middleware(CompressedFiles)],
        },
        state_session_capacity=server_limits().sessions,
        **{"auth": credentials()} | settings,
    )
    return demo


def build(app_state: AppState) -> gr.Blocks:
    """Build the page and everything that it answers."""
    gr.set_static_paths([str(PLOTLY_JS)])
    with CheckedBlocks(title="MetaLoRA", delete_cache=(600, 3600), analytics_enabled=False) as demo:
        frame = shell(app_state)
        context, fields = frame.context, {}
        with context.tabs:
            for title, page in TABS.items():
                with gr.Tab(title, id=title.lower()) as tab:
                    fields[title] = page.build(context) or {}
                tab.select(lambda title=title: title, None, context.tab, show_progress="hidden", **PRIVATE)
        frame.start(wire_links(context, demo, fields, frame.copy, frame.said))
        endpoints(context)
        resources(context)
    demo.queue(max_size=MAX_QUEUED, api_open=False)  # what computes waits for its turn, whoever asks
    rest_queue(demo)
    quieten(demo, context.settled)
    return demo
