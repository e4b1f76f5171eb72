"""The tensor network of one layer's update, as an SVG with its true sizes.

Penrose's notation: a node is a tensor, a leg an axis, a leg between two nodes a sum over that axis, a dot an
axis that several tensors share. A dashed frame around a network is the tensor that it equals: ΔW, whose open
legs are those of the frozen W beside it. Ink is `currentColor`, so that a diagram fits light and dark pages.
"""

from dataclasses import dataclass
from html import escape
from typing import Any

from metalora.adapters.formats import Format, Shape
from metalora.adapters.methods import method
from metalora.models.adapted_model import AdaptedModel
from metalora.plots.diagram_parts import STYLE, Axes, frozen, legend, node, open_leg, open_legs, pair, write
from metalora.plots.palette import label, method_colour
from metalora.util.errors import InputError

MAX_BRANCHES = 3  # drawn; the others are counted in words
LEFT = 286  # of the frame


@dataclass(frozen=True)
class Drawing:
    """A network in SVG, the frame's right and lower edge, and the network in words."""

    svg: str
    right: float
    bottom: float
    description: str


def network(model: AdaptedModel, layer: str) -> str:
    """Return the diagram of an adapted layer as SVG.

    Raises:
        InputError: the layer is not adapted.
    """
    if layer not in model.layers:
        why = model.left_out.get(layer, "it is none of its adapted layers")
        raise InputError(f"{layer!r} has no update to draw ({why}): choose one of the adapted layers.")
    adapted, name = model.layers[layer], model.config.method
    shape, scale = tuple(adapted.weight.shape), adapted.adapter.scale
    return diagram(name, adapted.adapter.format, shape, layer=layer, scale=scale, generated=model.config.generates)


def diagram(
    name: str, format: Format, shape: Shape, *, layer: str = "a layer", scale: float = 1.0, generated: bool = True
) -> str:
    """Return the diagram of a method's update as SVG.

    Args:
        name: of the method.
        format: of the update.
        shape: of the weight, (O, I) or (O, I, K, K).
        layer: name of the layer.
        scale: the factor that A holds.
        generated: whether the core, if there is one, is generated for each image, or learned once.
    """
    outputs, inputs, *kernel = shape
    entry, generated = method(name), generated and method(name).generated
    core, index = ("generated", "n") if generated else ("trained", "")
    axes = Axes((f"I = {inputs}", *(f"K = {k}" for k in kernel)), f"O = {outputs}", f"R = {format.rank}", core, index)
    draw = {"chain": _chain, "branches": _branches, "copy": _copy, "ring": _ring}.get(entry.diagram or "")
    drawing = draw(axes, format) if draw else _tensors(axes, format, shape)
    note = "" if scale == 1 or not draw else f"A holds the scale α / R = {scale:.3g}"
    explained, width = legend(drawing.svg, drawing.bottom + 28)
    width = max(width, drawing.right + 40 + 8 * len(axes.out))
    height = drawing.bottom + (72 if note else 48)
    open_axes = f"Open axes: {', '.join((*axes.open, axes.out))}."
    how = " The core is generated for each image." if generated else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" class="tensor-network" style="--method: '
        f'{method_colour(name)}" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
        f"<title>{escape(entry.title)}: update of {escape(layer)}</title>"
        f"<desc>Added to the frozen weight W. {drawing.description} {open_axes}{how}</desc><style>{STYLE}</style>"
        f'<rect class="frame" x="{LEFT}" y="8" width="{drawing.right - LEFT:g}" height="{drawing.bottom - 8}" rx="14"/>'
        f"{write(LEFT + 14, drawing.bottom - 11, 'ΔW', 'start name', index)}{frozen(drawing.bottom / 2 + 4, axes)}"
        f"{drawing.svg}{explained}{write(11, drawing.bottom + 57, note, 'start')}</svg>"
    )


def _chain(axes: Axes, format: Format) -> Drawing:
    """Draw A and B in a row."""
    svg = pair(axes, 70) + open_leg(464, 70, axes.out)
    return Drawing(svg, 484, 152, f"A and B share one axis, {axes.rank}.")


def _branches(axes: Axes, format: Any) -> Drawing:
    """Draw a sum of chains, each with a scale s on its output axis; the middle of many is left to words."""
    count, y, svg = format.branches, 112, ""
    more = count > MAX_BRANCHES
    shown = [1, 2, count] if more else list(range(1, count + 1))
    for branch in shown:
        svg += f'{pair(axes, y, str(branch))}<path d="M464 {y}H542M520 {y}v-36"/><circle class="dot" cx="520" cy="{y}" '
        svg += f'r="4.5"/>{node(520, y - 58, "s", str(branch))}{open_leg(542, y, axes.out)}'
        if branch != count:
            words = f"+ {count - MAX_BRANCHES} more +" if more and branch == 2 else "+"
            svg += write(385, y + 58, words, "plus" if words == "+" else "")
            y += 132
    words = f"A sum of {count} branches: A and B share one axis, {axes.rank}, and s scales the output."
    return Drawing(svg, 562, y + 82, words)


def _copy(axes: Axes, format: Format) -> Drawing:
    """Draw A, B and c joined by one index: a diagonal core."""
    svg = f"""{open_legs(328, 70, axes.open)}{node(328, 70, "A")}<path d="M350 70H474M412 70v44"/>{node(496, 70, "B")}
<circle class="dot" cx="412" cy="70" r="4.5"/>{node(412, 136, "c", axes.index, axes.core)}{open_leg(518, 70, axes.out)}
{write(381, 63, axes.rank)}{write(443, 63, axes.rank)}{write(420, 99, axes.rank, "start")}"""
    return Drawing(svg, 538, 178, f"A, B and the core c share one axis, {axes.rank}.")


def _ring(axes: Axes, format: Format) -> Drawing:
    """Draw A, B and C on a circle, joined by three legs of size R."""
    svg = f"""{open_legs(328, 82, axes.open)}{node(328, 82, "A")}{node(452.7, 82, "B")}{open_leg(474.7, 82, axes.out)}
{node(390.4, 190, "C", axes.index, axes.core)}
<path d="M439 64.8A72 72 0 0 0 341.8 64.8M320.1 102.5A72 72 0 0 0 368.7 186.6M412.1 186.6A72 72 0 0 0 460.7 102.5"/>
{write(390.4, 65, axes.rank)}{write(337, 152, axes.rank, "start")}{write(444, 152, axes.rank, "end")}"""
    return Drawing(svg, 494.7, 228, f"A, B and the core C close a ring of three axes, each {axes.rank}.")


def _tensors(axes: Axes, format: Format, shape: Shape) -> Drawing:
    """Draw the tensors of any other format side by side, with their shapes, since their contraction is not known."""
    outputs, inputs, *kernel = shape
    shapes = format.parameter_shapes(tuple(kernel), inputs, outputs)
    shapes |= {"core": format.core_shape} if format.core_shape else {}
    sizes = {name: "×".join(map(str, sides)) for name, sides in shapes.items()}
    svg, x = open_legs(LEFT + 22, 72, axes.open, 42), LEFT + 56
    for name, size in sizes.items():
        kind, index = (axes.core, axes.index) if name == "core" else ("trained", "")
        svg += node(x, 56, escape(name[0]), index, kind)
        svg += write(x, 96, label(name, 12) if len(name) > 1 else "") + write(x, 114, size)
        x += 112
    tensors = ", ".join(f"{escape(name)} ({size})" for name, size in sizes.items())
    return Drawing(svg + open_leg(x - 56, 72, axes.out, 20), x - 56, 152, f"ΔW is computed from {tensors}.")
