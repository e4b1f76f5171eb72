"""Nodes, legs and labels of a tensor-network diagram, in SVG.

Ink is `currentColor` and the accent a custom property with a fallback, so a diagram that is part of a page
is right on light and on dark.
"""

import math
from xml.etree import ElementTree

from metalora.adapters.formats import Shape
from metalora.plots.palette import FONT, NEUTRAL

RADIUS, LEG = 22, 40  # of a node; of an open leg, from the node's edge
FAN = math.radians(34)  # between the open legs on the left
FRAME = 20  # from a node's edge to the frame: open legs stick out
DOT = 4.5
FACTOR_X = 328  # centre of A, to the right of W and of the labels of A's legs


class Sheet:
    """Draws nodes and legs; knows the sizes and how far to the right it drew."""

    def __init__(self, accent: str, inputs: int, outputs: int, kernel: Shape, rank: int, generated: bool):
        self.open = [f"I = {inputs}", *(f"K = {size}" for size in kernel)]
        self.out, self.rank, self.generated = f"O = {outputs}", f"R = {rank}", generated
        self.index = "n" if generated else ""
        self.accent = f"var(--metalora-accent, {accent})"
        self.right = 0.0
        self.legend: dict[str, str] = {}  # kind of node → what it means
        self.root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
        self.shapes = ElementTree.SubElement(self.root, "g", {"stroke": "currentColor", "stroke-width": "1.75"})
        self.labels = ElementTree.SubElement(self.root, "g", {"fill": "currentColor", "text-anchor": "middle"})

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
        ElementTree.SubElement(self.shapes, "line", {key: f"{value:.1f}" for key, value in ends.items()})

    def dot(self, x: float, y: float) -> None:
        """A copy tensor."""
        self.legend["dot"] = "one index, shared"
        place = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{DOT}", "fill": "currentColor"}
        ElementTree.SubElement(self.shapes, "circle", place)

    def text(self, x: float, y: float, words: str, anchor: str = "middle", size: float = 14, index: str = "") -> None:
        place = {"x": f"{x:.1f}", "y": f"{y + size * 0.35:.1f}", "text-anchor": anchor, "font-size": f"{size:g}"}
        element = ElementTree.SubElement(self.labels, "text", place)
        element.text = words
        if index:
            below = {"dy": f"{size * 0.25:.1f}", "font-size": f"{size * 0.7:.1f}"}
            ElementTree.SubElement(element, "tspan", below).text = index

    def node(self, x: float, y: float, name: str, index: str = "", kind: str = "trained") -> None:
        """A tensor; `kind` is "frozen", "trained" or "core"."""
        kind = "trained" if kind == "core" and not self.generated else kind
        self.legend[kind] = {"core": "generated for each image"}.get(kind, kind)
        _swatch(self.shapes, x, y, RADIUS, kind, self.accent)
        self.text(x, y, name, size=17, index=index)

    def fan(self, x: float, y: float, labels: list[str], *, square: bool = False) -> None:
        """Open legs to the left of a node: I in the middle, the kernel's above and below."""
        for words, angle in zip(labels, (0.0, FAN, -FAN), strict=False):
            cos, sin = math.cos(angle), -math.sin(angle)
            edge, tip = RADIUS / cos if square else RADIUS, RADIUS + LEG
            self.line(x - edge * cos, y + edge * sin, x - tip * cos, y + tip * sin)
            self.text(x - tip * cos - 6, y + tip * sin, words, "end")

    def leg(self, x: float, y: float, words: str) -> None:
        """An open leg to the right that starts at x."""
        self.line(x, y, x + LEG, y)
        self.text(x + LEG + 6, y, words, "start")
        self.right = x + FRAME

    def frozen(self, y: float) -> None:
        """W and the plus sign."""
        x = 26 + LEG + RADIUS
        self.node(x, y, "W", kind="frozen")
        self.fan(x, y, [words[0] for words in self.open], square=True)
        self.line(x + RADIUS, y, x + RADIUS + LEG, y)
        self.text(x + RADIUS + LEG + 6, y, "O", "start")
        self.text(x + RADIUS + LEG + 34, y, "+", size=22)

    def frame(self, bottom: float) -> None:
        """The frame that is ΔW, and W beside it."""
        left, top = FACTOR_X - RADIUS - FRAME, 8
        place = {"x": left, "y": top, "width": self.right - left, "height": bottom - top, "rx": 14}
        look = {"fill": "none", "stroke": self.accent, "stroke-dasharray": "5 4", "stroke-width": "1.5"}
        ElementTree.SubElement(self.shapes, "rect", {**{key: f"{value:.1f}" for key, value in place.items()}, **look})
        self.text(left + 14, bottom - 16, "ΔW", "start", 16, index=self.index)
        self.frozen((top + bottom) / 2)

    def describe(self, title: str, description: str) -> None:
        """For those who do not see the picture."""
        for place, (tag, text) in enumerate((("title", title), ("desc", description))):
            element = ElementTree.Element(tag)
            element.text = text
            self.root.insert(place, element)

    def svg(self, bottom: float, note: str) -> str:
        """The whole, with its legend and a note below it."""
        x, y = 18.0, bottom + 28
        for kind in ("frozen", "trained", "core", "dot"):
            if kind in self.legend:
                _swatch(self.shapes, x, y, 7, kind, self.accent)
                self.text(x + 14, y, self.legend[kind], "start", 13)
                x += 44 + 7 * len(self.legend[kind])
        if note:
            y += 24
            self.text(11, y, note, "start", 13)
        width = max(self.right - FRAME + LEG + 14 + 8 * len(self.out), x)
        font = f"font-family:{FONT};font-variant-numeric:tabular-nums"
        self.root.attrib |= {"viewBox": f"0 0 {width:.0f} {y + 20:.0f}", "width": f"{width:.0f}"}
        self.root.attrib["style"] = f"max-width:100%;height:auto;{font}"
        return ElementTree.tostring(self.root, encoding="unicode")


def _swatch(parent: ElementTree.Element, x: float, y: float, radius: float, kind: str, accent: str) -> None:
    """The shape of a kind of node: frozen square, trained circle, generated circle in the method's colour."""
    if kind == "dot":
        ElementTree.SubElement(parent, "circle", {"cx": f"{x}", "cy": f"{y}", "r": f"{DOT}", "fill": "currentColor"})
    elif kind == "frozen":
        place = {"x": f"{x - radius:.1f}", "y": f"{y - radius:.1f}", "rx": f"{radius / 6:.1f}"}
        look = {"fill": NEUTRAL, "fill-opacity": "0.2"}
        ElementTree.SubElement(parent, "rect", {**place, "width": f"{2 * radius}", "height": f"{2 * radius}", **look})
    else:
        core = {"fill": accent, "fill-opacity": "0.3", "stroke": accent, "stroke-width": "2.5"}
        look = core if kind == "core" else {"fill": "none"}
        ElementTree.SubElement(parent, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius}", **look})
