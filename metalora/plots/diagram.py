"""The tensor network of one layer's update, as an SVG with its true sizes.

Penrose's notation: a node is a tensor, a leg an axis, a leg between two nodes a sum over that axis, a dot an
axis that several tensors share. A dashed frame around a network is the tensor that it equals: ΔW, whose open
legs are those of the frozen W beside it.
"""

import math
from collections.abc import Callable
from xml.etree import ElementTree

from metalora.adapters.formats import CP, TR, Format, LoRA, MultiLoRA, Shape
from metalora.adapters.methods import METHODS, method
from metalora.models.adapted_model import AdaptedModel
from metalora.plots.diagram_svg import FACTOR_X, RADIUS, Sheet
from metalora.plots.palette import HUES
from metalora.util.errors import InputError

LINK = 70  # a leg between the edges of two nodes
RING = 72  # radius of the tensor ring
MOST_BRANCHES = 3  # drawn; the others are counted in words

Drawn = tuple[float, str]  # the frame's lower edge; the network in words


def network(model: AdaptedModel, layer: str) -> str:
    """The diagram of an adapted layer: SVG text, right on light and on dark pages.

    Raises:
        InputError: the layer is not adapted.
    """
    if layer not in model.layers:
        why = model.left_out.get(layer, "it is none of its adapted layers")
        raise InputError(f"{layer!r} has no update to draw ({why}): choose one of the adapted layers.")
    if model.config.method not in METHODS:
        raise InputError(f"{method(model.config.method).title} is no network of tensors: there is nothing to draw.")
    adapted = model.layers[layer]
    outputs, inputs, *kernel = adapted.weight.shape
    return diagram(
        adapted.adapter.format,
        inputs=inputs,
        outputs=outputs,
        kernel=tuple(kernel),
        layer=layer,
        scale=adapted.adapter.scale,
        generated=model.config.generates,
    )


def diagram(
    format: Format,
    *,
    inputs: int,
    outputs: int,
    kernel: Shape = (),
    layer: str = "",
    scale: float = 1.0,
    generated: bool = True,
) -> str:
    """The same from plain numbers.

    Args:
        inputs, outputs, kernel: axes of the weight, I, O and K (two for a convolution, none for a linear layer).
        scale: the factor that A holds.
        generated: whether the core, if there is one, is generated for each image, or learned once.
    """
    name, entry = next((key, known) for key, known in METHODS.items() if known.format is type(format))
    sheet = Sheet(HUES[name], inputs, outputs, kernel, format.rank, generated and format.generated)
    bottom, sentence = _DRAWN[type(format)](sheet, format)
    sheet.frame(bottom)
    how = " The core is generated for each image." if sheet.generated else ""
    axes = f"Open axes: {', '.join((*sheet.open, sheet.out))}."
    sheet.describe(
        f"{entry.title}: update of {layer or 'a layer'}", f"Added to the frozen weight W. {sentence} {axes}{how}"
    )
    return sheet.svg(bottom, "" if scale == 1 else f"A holds the scale α / R = {scale:.3g}")


def _chain(sheet: Sheet, format: LoRA) -> Drawn:
    """A and B in a row."""
    y = 70.0
    _pair(sheet, y, "")
    sheet.leg(FACTOR_X + 3 * RADIUS + LINK, y, sheet.out)
    return y + 82, f"A and B share one axis, {sheet.rank}."


def _pair(sheet: Sheet, y: float, index: str) -> None:
    """A with its open legs, the leg R, and B."""
    b = FACTOR_X + 2 * RADIUS + LINK
    sheet.fan(FACTOR_X, y, sheet.open)
    sheet.node(FACTOR_X, y, "A", index)
    sheet.line(FACTOR_X + RADIUS, y, b - RADIUS, y)
    sheet.text(FACTOR_X + RADIUS + LINK / 2, y - 12, sheet.rank)
    sheet.node(b, y, "B", index)


def _branches(sheet: Sheet, format: MultiLoRA) -> Drawn:
    """A sum of chains, each with the scale s on its output axis; the middle of many is left to words."""
    count, pitch, y = format.branches, 132, 112.0
    many = count > MOST_BRANCHES
    shown = [1, 2, count] if many else list(range(1, count + 1))
    b = FACTOR_X + 2 * RADIUS + LINK
    x = b + RADIUS + 56
    for place, branch in enumerate(shown):
        _pair(sheet, y, str(branch))
        sheet.line(b + RADIUS, y, x, y)
        sheet.dot(x, y)
        sheet.line(x, y, x, y - 36)
        sheet.node(x, y - 36 - RADIUS, "s", str(branch))
        sheet.line(x, y, x + RADIUS, y)
        sheet.leg(x + RADIUS, y, sheet.out)
        if place + 1 < len(shown):
            words = f"+ {count - MOST_BRANCHES} more +" if many and place == 1 else "+"
            sheet.text(FACTOR_X + RADIUS + LINK / 2, y + 52, words, size=22 if words == "+" else 15)
            y += pitch
    words = f"A sum of {count} branches: A and B share one axis, {sheet.rank}, and s scales the output."
    return y + 82, words


def _copy(sheet: Sheet, format: CP) -> Drawn:
    """A, B and c joined by one index: a diagonal core."""
    y, parse_variant = 70.0, 62
    x = FACTOR_X + RADIUS + parse_variant
    b = x + parse_variant + RADIUS
    sheet.fan(FACTOR_X, y, sheet.open)
    sheet.node(FACTOR_X, y, "A")
    sheet.node(b, y, "B")
    sheet.line(FACTOR_X + RADIUS, y, b - RADIUS, y)
    for middle in (x - parse_variant / 2, x + parse_variant / 2):
        sheet.text(middle, y - 12, sheet.rank)
    sheet.dot(x, y)
    sheet.line(x, y, x, y + 44)
    sheet.text(x + 8, y + 24, sheet.rank, "start")
    sheet.node(x, y + 44 + RADIUS, "c", sheet.index, kind="core")
    sheet.leg(b + RADIUS, y, sheet.out)
    return y + 44 + 2 * RADIUS + 20, f"A, B and the core c share one axis, {sheet.rank}."


def _ring(sheet: Sheet, format: TR) -> Drawn:
    """A, B and C on a circle, joined by three legs of size R."""
    angles = {"A": math.radians(150), "B": math.radians(30), "C": math.radians(270)}
    x, y = FACTOR_X - RING * math.cos(angles["A"]), 118.0
    half = 2 * math.asin(RADIUS / (2 * RING))  # of the angle that a node covers
    for start, end in (("B", "A"), ("A", "C"), ("C", "B")):
        a, b = angles[start] + half, angles[end] % math.tau - half
        b += math.tau if b < a else 0
        _arc(sheet, x, y, a, b)
        cos, sin = math.cos((a + b) / 2), math.sin((a + b) / 2)
        anchor = "middle" if abs(cos) < 0.1 else "start" if cos < 0 else "end"  # inside the ring
        sheet.text(x + (RING - 10) * cos, y - (RING - 14) * sin, sheet.rank, anchor)
    centres = {name: (x + RING * math.cos(angle), y - RING * math.sin(angle)) for name, angle in angles.items()}
    sheet.fan(*centres["A"], sheet.open)
    sheet.node(*centres["A"], "A")
    sheet.node(*centres["B"], "B")
    sheet.node(*centres["C"], "C", sheet.index, kind="core")
    sheet.leg(centres["B"][0] + RADIUS, centres["B"][1], sheet.out)
    return y + RING + RADIUS + 16, f"A, B and the core C close a ring of three axes, each {sheet.rank}."


def _arc(sheet: Sheet, x: float, y: float, start: float, end: float) -> None:
    """A part of the ring, counter-clockwise."""
    points = [f"{x + RING * math.cos(angle):.1f} {y - RING * math.sin(angle):.1f}" for angle in (start, end)]
    path = f"M {points[0]} A {RING} {RING} 0 0 0 {points[1]}"
    ElementTree.SubElement(sheet.shapes, "path", {"d": path, "fill": "none"})


_DRAWN: dict[type, Callable[[Sheet, Format], Drawn]] = {LoRA: _chain, MultiLoRA: _branches, CP: _copy, TR: _ring}
