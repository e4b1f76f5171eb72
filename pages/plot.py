"""An interactive plotly figure on the page: hover shows a card with the picture, clicks and lassos become events.

Gradio's own plot component has neither click nor selection, loses the zoom at every update and bundles another
plotly.js; no maintained component for plotly's events was found on the registries. This one loads plotly.js from
the installed plotly package.
"""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from plotly.graph_objects import Figure

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
FRAME = '<figure class="plot"><div class="plot-area"></div><div class="plot-card" hidden></div></figure>'
SCRIPT = Path(__file__).parent / "plot.js"


class Plot(gr.HTML):
    """A plotly figure.

    Events: `point` when a point is clicked, with its row; `lasso` when points are selected, with their rows; none
    when the selection is cleared. Rows are the first entry of the points' customdata.
    """

    def __init__(self, value: Figure | None = None, *, label: str, height: int = 420, **settings: Any):
        super().__init__(
            value=value,
            label=label,
            html_template=FRAME,
            css_template=f".plot-area {{ height: {height}px; }}",
            js_on_load=SCRIPT.read_text(encoding="utf-8"),
            head=f'<script src="/gradio_api/file={PLOTLY_JS}"></script>',
            apply_default_css=False,
            title=label,
            **settings,
        )

    def postprocess(self, value: Figure | dict[str, Any] | None) -> str | None:
        """A figure, or {"figure": …, "cards": …} (see `cards`), as JSON."""
        if value is None or isinstance(value, str):
            return value
        shown = value if isinstance(value, dict) else {"figure": value}
        return json.dumps({**shown, "figure": json.loads(shown["figure"].to_json())})

    def api_info(self) -> dict[str, Any]:
        return {"type": "string", "description": "A plotly figure as JSON."}


def cards(names: list[str], lines: list[str], sprite: str, columns: int, tile: int) -> dict[str, Any]:
    """What hover cards show: for every row a name, a line of text, and its tile in one large picture (a data URL)."""
    return {"names": names, "lines": lines, "sprite": sprite, "columns": columns, "tile": tile}
