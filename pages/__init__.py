"""The app's pages: layout and events. What they show is computed in `metalora`."""

import os
import threading
from pathlib import Path
from typing import Any

import gradio as gr

from metalora.inspection.projection import warm_up
from metalora.views.app_state import AppState
from pages import about, compare, configure, embeddings, inspect, train
from pages.api import endpoints
from pages.api_runs import run_endpoints
from pages.context import PRIVATE
from pages.plot import PLOTLY_JS
from pages.shell import shell
from pages.space import backend

WORKSPACE = "workspace"
WARM_AFTER = 15  # seconds: compiling UMAP would take a core from the first page
BETWEEN_LOOKS = 0.05, 0.1  # seconds between looks for events and for progress; Gradio's 1 and 10 ms take 5 % of a core
STYLE = Path(__file__).parents[1] / "assets" / "style.css"
TABS = {
    "Configure": configure,
    "Train": train,
    "Inspect": inspect,
    "Embeddings": embeddings,
    "Compare": compare,
    "About": about,
}


def build(app_state: AppState) -> gr.Blocks:
    """The whole page."""
    gr.set_static_paths([str(PLOTLY_JS)])
    with gr.Blocks(title="MetaLoRA", delete_cache=(600, 3600), analytics_enabled=False) as demo:
        context = shell(app_state, demo)
        with gr.Tabs(overflow_behavior="wrap"):
            for title, page in TABS.items():
                with gr.Tab(title, id=title.lower()) as tab:
                    page.build(context)
                tab.select(lambda title=title: title, None, context.tab, show_progress="hidden", **PRIVATE)
        endpoints(context)
        run_endpoints(context)
    demo.queue(max_size=16)
    demo._queue.sleep_when_free, demo._queue.progress_update_sleep_when_free = BETWEEN_LOOKS
    return demo


def launch(root: str | Path | None = None, **settings: Any) -> gr.Blocks:
    """Start the app; `settings` go to gradio's `launch`."""
    demo = build(AppState(root or os.environ.get("METALORA_WORKSPACE", WORKSPACE), backend))
    warming = threading.Timer(WARM_AFTER, warm_up)
    warming.daemon = True
    warming.start()
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
        **settings,
    )
    return demo
