"""An interactive plotly figure on the page, with images as points; docs/how-to/scatter-component.md describes it.

Hover shows a card with the image, clicks and lassos become events. Gradio's own plot component has neither click nor
selection, loses the zoom at every update and bundles another plotly.js; no maintained component for plotly's events was
found on the registries. This one loads plotly.js from the installed plotly package. It needs nothing of this app.
"""

import json
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from plotly.graph_objects import Figure

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
FRAME = """<figure class="plot"><div class="plot-tools" hidden>
<div class="plot-morph" hidden><button type="button" class="plot-play" aria-label="Play">▶</button>
<span class="from"></span>
<input type="range" min="0" max="100" step="any" value="0" aria-label="From the first adapter to the second">
<span class="to"></span></div>
<input type="search" class="plot-search" placeholder="Search class, task, image"
  aria-label="Search class, task or image" hidden>
<output class="plot-count"></output>
<label class="plot-pictures" hidden><input type="checkbox" checked> images as points</label></div>
<div class="plot-stage"><div class="plot-area" role="group" aria-label="LABEL"></div>
<canvas class="plot-over" aria-hidden="true"></canvas>
<div class="plot-wait" role="status" HIDDEN><p>WAITING</p><progress aria-label="At work"></progress>
<span class="plot-seconds"></span></div></div>
<div class="plot-card" hidden></div></figure>"""
SCRIPT = Path(__file__).parent / "plot.js"
PARTS = (SCRIPT, SCRIPT.with_name("plot_overlay.js"), SCRIPT.with_name("plot_events.js"))  # one script, in this order
EXTRAS = ("cards", "marks", "morph", "labels", "guests", "link", "busy")  # parts of a value beside its figure
STYLE = SCRIPT.with_suffix(".css")


class Plot(gr.HTML):
    """A plotly figure, `height` pixels high; with `follows` so is the empty box only, and figures bring their own.

    Events: `point` when a point is clicked, with its row; `lasso` when points are selected, with their rows; none
    when the selection is cleared. Rows are the first entry of the points' customdata.

    Args:
        value: the first one, see `postprocess`.
        label: name of the figure, for screen readers.
        height: in pixels.
        follows: figures bring their own height.
        waiting: what to say while there is no figure yet; "": nothing.
        drops: CSS selector of a `gr.File` that images dropped on the figure go to; "": none.
        settings: of `gr.HTML`.
    """

    def __init__(
        self,
        value: Figure | dict[str, Any] | None = None,
        *,
        label: str,
        height: int = 420,
        follows: bool = False,
        waiting: str = "",
        drops: str = "",
        **settings: Any,
    ):
        super().__init__(
            value=value,
            label=label,
            html_template=_frame(label, waiting),
            css_template=_style(height),
            js_on_load=_script(),
            head=f'<script src="/gradio_api/file={PLOTLY_JS}"></script>',
            apply_default_css=False,
            follows=follows,
            waiting=waiting,
            drops=drops,
            **settings,
        )

    def postprocess(self, value: Figure | dict[str, Any] | None) -> str | None:
        """Return a figure, or a dict of the parts that change, as JSON; parts that are not in it stay as they are.

        "figure": a figure, or plotly's JSON of one; "cards": see `cards`, or None; "marks": see `marks`; "morph": see
        `morph`, or None; "labels": names of clusters, [{"text", "row", "end" (of the slider: 0 or 1; both without)}];
        "guests": further images, [{"name", "image" (a data URL), "lines", "place" ([x, y]), "towards" (the same, or
        None)}]; "link": plots with the same link show the same rows, so that what is hovered or selected on one is
        marked on the others; "busy": what the server is doing, shown above the figure.
        """
        if value is None or isinstance(value, str):
            return value
        is_figure = isinstance(value, Figure) or "data" in value
        shown = {"figure": value, **dict.fromkeys(EXTRAS)} if is_figure else value
        if isinstance(shown.get("figure"), Figure):
            shown = {**shown, "figure": json.loads(shown["figure"].to_json())}
        return json.dumps(shown)

    def api_info(self) -> dict[str, Any]:
        """Describe the value for programs."""
        return {"type": "string", "description": "A plotly figure as JSON."}


# One text for all plots, of which each visitor's page may have its own.
@cache
def _style(height: int) -> str:
    return f".plot-area {{ height: {height}px; }}\n{STYLE.read_text(encoding='utf-8')}"


@cache
def _script() -> str:
    return "\n".join(part.read_text(encoding="utf-8") for part in PARTS)


@cache
def _frame(label: str, waiting: str) -> str:
    """Return the HTML, which says what it waits for before any script runs."""
    parts = {"LABEL": escape(label), "WAITING": escape(waiting), "HIDDEN": "" if waiting else "hidden"}
    text = FRAME
    for name, value in parts.items():
        text = text.replace(name, value)
    return text


def cards(
    names: list[str],
    lines: list[str],
    sprite: str,
    columns: int,
    tile: int,
    strips: dict[str, Any] | None = None,
    keys: list[list[str]] | None = None,
) -> dict[str, Any]:
    """Return what hover cards show: for every row a name, a line of text, and its tile in one large image (a data URL).

    Args:
        names: by row.
        lines: by row.
        sprite: all images in one, row by row.
        columns: of the sprite.
        tile: side of an image in it, in pixels.
        strips: a second such image, with "sprite", "columns" and "rows", whose parts are shown below the text.
        keys: words by which a search finds each row; None: there is no search.
    """
    images = {"sprite": sprite, "columns": columns, "tile": tile, "strips": strips}
    return {"names": names, "lines": lines, **images, "keys": keys}


def marks(
    row: int | None = None, neighbours: list[int] | None = None, towards: list[int] | None = None
) -> dict[str, Any]:
    """Return rings around a point and its neighbours, by row; none without a row.

    `towards`: its neighbours at the other end of a `morph`, where they differ.
    """
    return {"row": row, "neighbours": neighbours or [], "towards": towards}


def morph(towards: list[list[float]], start: str, end: str, play: bool = False) -> dict[str, Any]:
    """Return a slider that moves points to `towards`, [x, y] by row; `start` and `end` name its ends.

    `play`: it moves by itself, once, as soon as it is seen.
    """
    return {"towards": towards, "from": start, "to": end, "play": play}
