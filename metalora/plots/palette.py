"""Colours, scales and the common layout: the same thing looks the same in every figure, table and page.

Okabe & Ito, Color Universal Design (2008), and Paul Tol's schemes (SRON/EPS/TN/09-002): both stay apart
for people with red-green blindness.
"""

import colorsys
import functools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io as pio

from metalora.adapters.methods import method
from metalora.experiments.variants import parse_variant
from metalora.util.errors import InputError

Theme = Literal["light", "dark", "print"]  # on a light page, on a dark page, on white paper

SIGNED, MAGNITUDE = "RdBu", "Viridis"  # diverging around zero; sequential, perceptually even
INK = {"light": "#333333", "dark": "#e6e6e6", "print": "#333333"}
GRID = {"light": "#e3e3e3", "dark": "#3a3a3a", "print": "#e3e3e3"}
FONT = "system-ui, sans-serif"
TRACES = ("bar", "heatmap", "scatter", "scattergl")  # that the figures here use
LAYOUT_PARTS = ("coloraxis", "colorscale", "font", "hoverlabel", "title", "xaxis", "yaxis")
NEUTRAL = "#8A8A8A"  # without a class, or unknown
RIGHT, WRONG = "#0072B2", "#D55E00"

# Control of a variant → hatch of a bar, symbol of a marker.
_CONTROLS = {
    None: ("", "circle"),
    "constant": ("/", "triangle-up"),
    "shuffled": ("x", "x"),
    "equal-budget": ("\\", "square"),
    "oracle": ("+", "star"),
}
# Six of Okabe and Ito's, then the four that lie farthest from them and from each other: every pair is at least 20
# apart in CIEDE2000, and 12 with protanopia or deuteranopia simulated (Machado et al. 2009). Their yellow and black
# are not used: one vanishes on white, one on black.
_CLASSES = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8877FF",
    "#AACC88",
    "#AA0077",
    "#AA2233",
)
_GOLDEN = 0.618034  # of a turn, between consecutive hues: they never come close


@dataclass(frozen=True)
class VariantStyle:
    """How a variant looks in figures.

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
    """Return the style of a variant: its method's colour; controls lighter and hatched, sets dotted, markers open.

    Raises:
        InputError: there is no such variant.
    """
    variant = parse_variant(name)
    pattern, symbol = _CONTROLS[variant.control]
    if variant.set_size != 1:
        pattern, symbol = pattern or ".", "diamond-open" if variant.set_size is None else f"{symbol}-open"
    colour = method_colour(variant.method)
    return VariantStyle(lighter(colour) if variant.control else colour, pattern, symbol, variant.title)


def method_colour(name: str) -> str:
    """Return the colour of a method, "#rrggbb": that of its entry, or one derived from its name.

    Raises:
        InputError: there is no such method.
    """
    entry = method(name)
    if entry.format is None or entry.colour != NEUTRAL:
        return entry.colour
    return _hue(zlib.crc32(name.encode()))


def lighter(colour: str, fraction: float = 0.4) -> str:
    """Mix a "#rrggbb" with a fraction of white."""
    values = bytes.fromhex(colour[1:])
    return "#" + bytes(round(value + (255 - value) * fraction) for value in values).hex().upper()


def class_colours(names: Iterable[str]) -> dict[str, str]:
    """Return name of a class → "#rrggbb", decided by the sorted names: give the whole label space, in any order.

    Ten can be told apart by everyone. Beyond, hues step by the golden angle through three levels of lightness: all
    differ, but names have to be written as well.
    """
    ordered = sorted(set(names))
    colours = [*_CLASSES, *map(_hue, range(len(ordered) - len(_CLASSES)))]
    return dict(zip(ordered, colours, strict=False))


def _hue(number: int) -> str:
    rgb = colorsys.hls_to_rgb(number * _GOLDEN % 1, (0.42, 0.58, 0.72)[number % 3], 0.55)
    return "#" + bytes(round(255 * value) for value in rgb).hex().upper()


def layout(theme: Theme) -> dict[str, Any]:
    """Return what all figures share: ink and font; a background on paper only.

    Give it to `Figure.update_layout` with `overwrite=True`: without, plotly merges it part by part, which takes
    twice as long.

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
    """Return plotly's white template without traces that are not used here: every figure validates it again."""
    white = pio.templates["plotly_white"].to_plotly_json()
    axis = {"gridcolor": GRID[theme], "zerolinecolor": GRID[theme], "linecolor": GRID[theme], "automargin": True}
    parts = {key: value for key, value in white["layout"].items() if not isinstance(value, dict) or key in LAYOUT_PARTS}
    for name in ("xaxis", "yaxis"):
        parts[name] = {**white["layout"][name], **axis}
    parts |= {"paper_bgcolor": background, "plot_bgcolor": background}
    return go.layout.Template(
        layout=parts, data={name: white["data"][name] for name in TRACES if name in white["data"]}
    )


def notice(text: str, theme: Theme) -> go.Figure:
    """Return a figure that says why there is nothing to draw."""
    figure = go.Figure()
    figure.update_layout(layout(theme), overwrite=True, height=160, xaxis_visible=False, yaxis_visible=False)
    return figure.add_annotation(text=escape(text), xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False)


def label(name: str, max_length: int = 24) -> str:
    """Shorten a name from outside and escape it, since plotly reads markup."""
    half = max_length // 2
    short = name if len(name) <= max_length else f"{name[:half]}…{name[1 - half :]}"
    return escape(short, quote=False)
