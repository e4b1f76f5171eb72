"""Nodes, legs and labels of tensor-network diagrams, in SVG."""

from dataclasses import dataclass

from metalora.plots.palette import FONT, NEUTRAL

STYLE = f"""
.tensor-network {{ max-width: 100%; height: auto; fill: none; stroke: currentColor; stroke-width: 1.75; }}
.tensor-network text {{ fill: currentColor; stroke: none; text-anchor: middle; font: 14px {FONT}; }}
.tensor-network text.start {{ text-anchor: start; }} .tensor-network text.end {{ text-anchor: end; }}
.tensor-network text.name {{ font-size: 17px; }} .tensor-network text.plus {{ font-size: 22px; }}
.tensor-network tspan {{ font-size: 70%; }}
.tensor-network .dot {{ fill: currentColor; }}
.tensor-network .frozen {{ fill: {NEUTRAL}; fill-opacity: 0.2; }}
.tensor-network .generated {{ fill: var(--method); fill-opacity: 0.3; stroke: var(--method); stroke-width: 2.5; }}
.tensor-network .frame {{ stroke: var(--method); stroke-width: 1.5; stroke-dasharray: 5 4; }}
"""
LEGEND = {"frozen": "frozen", "trained": "trained", "generated": "generated for each image", "dot": "one index, shared"}


@dataclass(frozen=True)
class Axes:
    """The labels of a diagram's legs, the kind of its core, and the index of what differs by image."""

    open: tuple[str, ...]  # I and the kernel's
    out: str
    rank: str
    core: str
    index: str


def pair(axes: Axes, y: float, index: str = "") -> str:
    """Draw A with its open legs, the leg R, and B."""
    return f"""{open_legs(328, y, axes.open)}{node(328, y, "A", index)}<path d="M350 {y}h70"/>
{write(385, y - 7, axes.rank)}{node(442, y, "B", index)}"""


def frozen(y: float, axes: Axes) -> str:
    """Draw W and the plus sign."""
    names = tuple(leg[0] for leg in axes.open)
    return f"""<g transform="translate(0 {y:g})"><rect class="frozen" x="66" y="-22" width="44" height="44" rx="4"/>
{open_legs(88, 0, names, square=True)}{write(88, 6, "W", "name")}
{open_leg(110, 0, "O")}{write(184, 8, "+", "plus")}</g>"""


def node(x: float, y: float, name: str, index: str = "", kind: str = "trained") -> str:
    """Draw a tensor."""
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="22"/>{write(x, y + 6, name, "name", index)}'


def open_legs(x: float, y: float, labels: tuple[str, ...], end: float = 62, *, square: bool = False) -> str:
    """Draw open legs to the left of a node, up to a distance: I in the middle, the kernel's above and below."""
    svg = ""
    for label, (dx, dy) in zip(labels, ((1, 0), (0.83, -0.56), (0.83, 0.56)), strict=False):
        start = 22 / dx if square else 22
        (x1, y1), (x2, y2) = ((round(x - r * dx, 1), round(y + r * dy, 1)) for r in (start, end))
        svg += f'<path d="M{x1} {y1}L{x2} {y2}"/>{write(x2 - 6, y2 + 5, label, "end")}'
    return svg


def open_leg(x: float, y: float, label: str, length: float = 40) -> str:
    """Draw an open leg to the right."""
    return f'<path d="M{x} {y}h{length}"/>{write(x + length + 6, y + 5, label, "start")}'


def write(x: float, y: float, text: str, kind: str = "", index: str = "") -> str:
    """Return a label with a subscript; nothing without text."""
    below = f'<tspan dy="4">{index}</tspan>' if index else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{text}{below}</text>' if text else ""


def legend(drawing: str, y: float) -> tuple[str, float]:
    """Explain the kinds of nodes in a drawing, at a height; also return the width."""
    svg, x = "", 11.0
    for kind, words in LEGEND.items():
        if kind == "frozen" or f'class="{kind}"' in drawing:
            half = 4.5 if kind == "dot" else 7
            size = f'width="{2 * half}" height="{2 * half}" rx="{1 if kind == "frozen" else half}"'
            svg += f'<rect class="{kind}" x="{x + 7 - half:g}" y="{y - half:g}" {size}/>'
            svg += write(x + 21, y + 5, words, "start")
            x += 52 + 7.4 * len(words)
    return svg, x
