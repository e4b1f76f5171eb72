"""An interactive plotly figure on the page: hover shows a card with the image, clicks and lassos become events.

Gradio's own plot component has neither click nor selection, loses the zoom at every update and bundles another
plotly.js; no maintained component for plotly's events was found on the registries. This one loads plotly.js from
the installed plotly package.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from plotly.graph_objects import Figure

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
FRAME = (
    '<figure class="plot"><div class="plot-area" role="group" aria-label="LABEL"></div>'
    '<label class="plot-morph" hidden><span class="from"></span>'
    '<input type="range" min="0" max="100" value="0" aria-label="From the first adapter to the second">'
    '<span class="to"></span></label>'
    '<div class="plot-card" hidden></div></figure>'
)
SCRIPT = Path(__file__).parent / "plot.js"


class Plot(gr.HTML):
    """A plotly figure, `height` pixels high; with `follows` so is the empty box only, and figures bring their own.

    Events: `point` when a point is clicked, with its row; `lasso` when points are selected, with their rows; none
    when the selection is cleared. Rows are the first entry of the points' customdata.
    """

    def __init__(
        self, value: Figure | None = None, *, label: str, height: int = 420, follows: bool = False, **settings: Any
    ):
        super().__init__(
            value=value,
            label=label,
            html_template=FRAME.replace("LABEL", escape(label)),
            css_template=f".plot-area {{ height: {height}px; }}",
            js_on_load=SCRIPT.read_text(encoding="utf-8"),
            head=f'<script src="/gradio_api/file={PLOTLY_JS}"></script>',
            apply_default_css=False,
            follows=follows,
            **settings,
        )

    def postprocess(self, value: Figure | dict[str, Any] | None) -> str | None:
        """Return a figure, or a dict of the parts that change, as JSON; parts that are not in it stay as they are.

        "figure": a figure; "cards": see `cards`, or None; "marks": see `marks`; "morph": see `morph`, or None.
        """
        if value is None or isinstance(value, str):
            return value
        shown = value if isinstance(value, dict) else {"figure": value, "cards": None, "marks": None, "morph": None}
        if "figure" in shown:
            shown = {**shown, "figure": json.loads(shown["figure"].to_json())}
        return json.dumps(shown)

    def api_info(self) -> dict[str, Any]:
        """Describe the value for programs."""
        return {"type": "string", "description": "A plotly figure as JSON."}


def cards(
    names: list[str],
    lines: list[str],
    sprite: str,
    columns: int,
    tile: int,
    strips: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what hover cards show: for every row a name, a line of text, and its tile in one large image (a data URL).

    `strips`: a second such image, with "sprite", "columns" and "rows", whose parts are shown below the text.
    """
    return {"names": names, "lines": lines, "sprite": sprite, "columns": columns, "tile": tile, "strips": strips}


def marks(row: int | None = None, neighbours: list[int] | None = None) -> dict[str, Any]:
    """Return rings around a point and its neighbours, by row; none without a row."""
    return {"row": row, "neighbours": neighbours or []}


def morph(towards: list[list[float]], start: str, end: str) -> dict[str, Any]:
    """Return a slider that moves points to `towards`, [x, y] by row; `start` and `end` name its ends."""
    return {"towards": towards, "from": start, "to": end}
