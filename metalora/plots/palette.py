"""Colours, scales and the common layout: the same thing looks the same in every figure, table and page.

Okabe & Ito, Color Universal Design (2008), and Paul Tol's schemes (SRON/EPS/TN/09-002): both stay apart
for people with red-green blindness.
"""

import colorsys
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io as pio

from metalora.experiments.variants import parse_variant
from metalora.util.errors import InputError

Theme = Literal["light", "dark", "print"]  # on a light page, on a dark page, on white paper

SIGNED, MAGNITUDE = "RdBu", "Viridis"  # diverging around zero; sequential, perceptually even
INK = {"light": "#333333", "dark": "#e6e6e6", "print": "#333333"}
GRID = {"light": "#e3e3e3", "dark": "#3a3a3a", "print": "#e3e3e3"}
FONT = "system-ui, sans-serif"
TRACES = ("bar", "heatmap", "scatter", "scattergl")  # what the figures here are made of
DRAWN = ("coloraxis", "colorscale", "font", "hoverlabel", "title", "xaxis", "yaxis")  # parts of a layout
NEUTRAL = "#8A8A8A"  # what has no class, or is not known
RIGHT, WRONG = "#0072B2", "#D55E00"

HUES = {
    "original": NEUTRAL,
    "lora": "#0072B2",
    "multi-lora": "#56B4E9",
    "metalora-cp": "#E69F00",
    "metalora-tr": "#D55E00",
    "full": "#CC79A7",
    "film": "#009E73",
}
# Variant → hatch of a bar, symbol of a marker.
_VARIANTS = {
    None: ("", "circle"),
    "constant": ("/", "triangle-up"),
    "shuffled": ("x", "x"),
    "equal-budget": ("\\", "square"),
    "oracle": ("+", "star"),
}
# Six of Okabe and Ito's, then four of Tol's that stay at least 14 ΔE from them and from each other, red-green
# blindness simulated as well. Their yellow and black are left out: one vanishes on white, one on black.
_CLASSES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#117733",
    "#AA3377",
    "#EE6677",
    "#FFAABB",
)
_GOLDEN = 0.618034  # of a turn: hues that follow each other never come close


@dataclass(frozen=True)
class VariantStyle:
    """How a row of a comparison looks.

    Attributes:
        colour: "#rrggbb", the method's; lighter for a control.
        pattern: plotly's hatch of a bar, "" for none.
        symbol: plotly's marker.
        title: as tables print it.
    """

    colour: str
    pattern: str
    symbol: str
    title: str


def variant_style(name: str) -> VariantStyle:
    """The style of an arm: the method's colour; variants lighter and hatched, sets dotted with an open marker.

    Raises:
        InputError: no arm is called so.
    """
    row = parse_variant(name)
    pattern, symbol = _VARIANTS[row.control]
    if row.set_size != 1:
        pattern, symbol = pattern or ".", "diamond-open" if row.set_size is None else f"{symbol}-open"
    colour = HUES[row.method]
    return VariantStyle(lighter(colour) if row.control else colour, pattern, symbol, row.title)


def lighter(colour: str, share: float = 0.4) -> str:
    """A "#rrggbb" mixed with `share` of white."""
    values = bytes.fromhex(colour[1:])
    return "#" + bytes(round(value + (255 - value) * share) for value in values).hex().upper()


def class_colours(names: Iterable[str]) -> dict[str, str]:
    """Name of a class → "#rrggbb", decided by the sorted names: give the whole label space, in any order.

    Ten stay apart for everyone. Beyond, hues step by the golden angle through three levels of lightness:
    all differ, but names have to be written as well.
    """
    return {name: _class_colour(i) for i, name in enumerate(sorted(set(names)))}


def _class_colour(index: int) -> str:
    if index < len(_CLASSES):
        return _CLASSES[index]
    extra = index - len(_CLASSES)
    rgb = colorsys.hls_to_rgb(extra * _GOLDEN % 1, (0.42, 0.58, 0.72)[extra % 3], 0.55)
    return "#" + bytes(round(255 * value) for value in rgb).hex().upper()


def layout(theme: Theme) -> dict[str, Any]:
    """What all figures share, for `Figure.update_layout`: ink and font; no background of their own but on paper.

    Raises:
        InputError: no such theme.
    """
    if theme not in INK:
        raise InputError(f"There is no theme {theme!r}: use {', '.join(INK)}.")
    background = "white" if theme == "print" else "rgba(0,0,0,0)"
    return {
        "template": _template(theme, background),
        "autosize": True,
        "paper_bgcolor": background,
        "plot_bgcolor": background,
        "font": {"family": FONT, "color": INK[theme], "size": 13},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": INK[theme]},
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
    }


@functools.cache
def _template(theme: Theme, background: str) -> go.layout.Template:
    """Plotly's white one, without what it says of traces that are not drawn here: each figure checks it anew."""
    white = pio.templates["plotly_white"].to_plotly_json()
    axis = {"gridcolor": GRID[theme], "zerolinecolor": GRID[theme], "linecolor": GRID[theme], "automargin": True}
    whole = {key: value for key, value in white["layout"].items() if not isinstance(value, dict) or key in DRAWN}
    for name in ("xaxis", "yaxis"):
        whole[name] = {**white["layout"][name], **axis}
    whole |= {"paper_bgcolor": background, "plot_bgcolor": background}
    return go.layout.Template(
        layout=whole, data={name: white["data"][name] for name in TRACES if name in white["data"]}
    )


def notice(words: str, theme: Theme) -> go.Figure:
    """A figure that says in words why there is nothing to draw."""
    figure = go.Figure()
    figure.update_layout(**layout(theme), height=160, xaxis_visible=False, yaxis_visible=False)
    return figure.add_annotation(text=escape(words), xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False)


def label(name: str, most: int = 24) -> str:
    """A name from outside as plotly may draw it: short enough, and never read as markup."""
    short = name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"
    return escape(short, quote=False)
