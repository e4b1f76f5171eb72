"""Embeddings: the gallery of one or two adapters on a plane."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from metalora.inspection.spaces import SPACES
from metalora.plots import embedding
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN
from metalora.views.embedding import Chart, Projection, chart, duration, lines, pictures
from pages.context import COMPUTE, PRIVATE, QUIET, Context
from pages.exports import exports
from pages.neighbourhood import neighbourhood
from pages.plot import Plot, cards, marks, morph
from pages.words import Message

COLOURS = {"class": "label", "task": "task", "right or wrong": "correct"}
METHODS = [("UMAP", "umap"), ("PCA", "pca")]
NONE = ("none", "")
NEAR = "What near and far are measured in."
FEATURES = "adapted"  # the space where an adapter has no cores
AT_ONCE = ("second", "space", "method", "aligned")
READ = """Each point is a picture of the gallery; a colour is a class, a task, or whether its five nearest others name
its class. **Distances on a UMAP are not metric**: gaps, sizes and densities of clusters mean little, so neighbours and
accuracies are always taken from the original space. Hover for the picture, click for its neighbours, lasso for counts.
"""


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    fields = _fields()
    status, error = Message("Reading the bundled gallery.", kind="status"), Message(kind="error")
    with gr.Row():
        with gr.Column(min_width=320):
            first = Plot(label="Embedding of the first adapter", height=470)
        with gr.Column(min_width=320, visible=False) as beside:
            second = Plot(label="Embedding of the second adapter", height=470)
    gr.Markdown(READ)
    shown = gr.State(None, time_to_live=3600)
    neighbourhood(context, shown, (first, second))
    exports(context, shown, fields["colour"], figures)
    project = list(fields.values())
    outputs = [status, error, first, beside, second, shown, fields["space"]]

    def draw(token: str, before: Chart | None, *values: Any) -> Iterator[list[Any]]:
        given = dict(zip(fields, values, strict=True))
        colour, names = given.pop("colour"), [name for name in (given.pop("first"), given.pop("second")) if name]
        given["aligned"] = given["aligned"] and len(names) == 2 and given["method"] == "umap"  # else it is disabled
        yield ["Reading the adapter and its gallery.", "", *[gr.skip()] * 5]
        try:
            opened = [context.app_state.open(token, name) for name in names]
            static = [one.title for one in opened if not one.model.config.generates]
            impossible = bool(static) and given["space"] == "cores"
            projection = Projection(**{**given, **({"space": FEATURES} if impossible else {})})
            yield [duration(opened, projection), "", *[gr.skip()] * 4, _spaces(static, impossible)]
            made = chart(names, opened, projection)
        except InputError as problem:
            yield ["" if before is None else _done(before), str(problem), *[gr.skip()] * 5]
            return
        known = [_cards(*pair) for pair in zip(opened, made.frames, strict=True)]
        yield [_done(made), "", *_drawn(made, colour, known), made, gr.skip()]

    context.settled.change(
        draw, [context.visitor, shown, *project], outputs, concurrency_limit=2, show_progress="hidden", **PRIVATE
    )
    sliders = [fields["neighbours"], fields["min_dist"]]
    gr.on(
        [fields["first"].change, *(fields[name].input for name in AT_ONCE), *(field.release for field in sliders)],
        draw,
        [context.visitor, shown, *project],
        outputs,
        trigger_mode="always_last",
        show_progress="hidden",
        **COMPUTE,
        **PRIVATE,
    )
    fields["colour"].input(_recolour, [shown, fields["colour"]], [first, second], **QUIET)
    _limits(fields)
    _menus(context, fields)


def _fields() -> dict[str, Any]:
    """The controls: what of which adapter, projected how, in which colours."""
    found: dict[str, Any] = {}
    with gr.Row():
        found["first"] = gr.Dropdown([DEFAULT], value=DEFAULT, label="Adapter", min_width=240)
        found["second"] = gr.Dropdown([NONE], value="", label="Second adapter, side by side", min_width=240)
        found["space"] = gr.Radio(
            [(words, name) for name, words in SPACES.items()], value="adapted", label="Space", info=NEAR, min_width=320
        )
    with gr.Row():
        found["method"] = gr.Radio(METHODS, value="umap", label="Projection", min_width=140)
        found["neighbours"] = gr.Slider(
            2, 100, 15, step=1, label="Neighbours", info="Few: local. Many: global.", min_width=200
        )
        found["min_dist"] = gr.Slider(
            0, 1, 0.1, step=0.05, label="Minimal distance", info="min_dist, on the plane.", min_width=200
        )
        found["aligned"] = gr.Checkbox(
            False,
            label="Align the two, with a slider from one to the other",
            info="Waits for a second adapter.",
            interactive=False,
            min_width=220,
        )
        found["colour"] = gr.Radio(list(COLOURS), value="class", label="Colour", min_width=220)
    return found


def _spaces(static: list[str], impossible: bool) -> Any:
    """The spaces to choose from. One radio button cannot be disabled alone, so cores go where an adapter has none.

    Args:
        static: titles of adapters that generate nothing.
        impossible: cores were chosen all the same.
    """
    choices = [(words, name) for name, words in SPACES.items() if name != "cores" or not static]
    why = f"No generated cores to choose: {static[0]} has none." if static else NEAR
    # A value is given only to replace one: the person may have clicked meanwhile.
    return gr.update(choices=choices, info=why, **({"value": FEATURES} if impossible else {}))


def _limits(fields: dict[str, Any]) -> None:
    """Controls that do not apply are disabled and say why."""

    def limit(second: str, method: str, aligned: bool) -> list[Any]:
        umap = method == "umap"
        why = "PCA has no neighbours to set." if not umap else "Few: local. Many: global."
        dist = (
            "PCA has none." if not umap else "Aligned UMAP has its own, 0.1." if aligned else "min_dist, on the plane."
        )
        able = bool(second) and umap
        align = "Waits for a second adapter." if not second else "PCA cannot be aligned." if not umap else "Slower."
        return [
            gr.update(interactive=umap, info=why),
            gr.update(interactive=umap and not aligned, info=dist),
            gr.update(interactive=able, info=align, **({} if able else {"value": False})),
        ]

    chosen = [fields[name] for name in ("second", "method", "aligned")]
    limited = [fields[name] for name in ("neighbours", "min_dist", "aligned")]
    gr.on([field.change for field in chosen], limit, chosen, limited, **QUIET)


def _menus(context: Context, fields: dict[str, Any]) -> None:
    """Adapters to choose from; the run of all tabs, once it is trained, is the one that is looked at."""
    menus = [fields["first"], fields["second"]]

    def refresh(token: str) -> list[Any]:
        choices = [(title, name) for name, title in context.app_state.adapters(token).items()]
        return [gr.update(choices=choices), gr.update(choices=[NONE, *choices])]

    def follow(token: str, run: str | None) -> Any:
        name = f"{RUN}{run}"
        return name if run and name in context.app_state.adapters(token) else gr.skip()

    gr.on([context.load, context.adapters.change], refresh, context.visitor, menus, **QUIET)
    context.run.input(follow, [context.visitor, context.run], fields["first"], **QUIET)


def _done(made: Chart) -> str:
    count = len(made.frames[0])
    computed = " Computed before, with the adapter." if made.before else ""
    return f"{made.projection.words}; {count} pictures.{computed}"


def _cards(opened: Any, frame: Any) -> dict[str, Any]:
    return cards(frame["name"].tolist(), lines(frame), **pictures(opened))


def figures(made: Chart, colour: str) -> list[Any]:
    """A scatter for each of the chart's adapters."""
    axes = "PCA" if made.projection.method == "pca" else "UMAP"
    shown = zip(made.frames, made.classes, made.titles, strict=True)
    settings = {"colour": COLOURS[colour], "axes": axes}
    return [embedding(frame, classes=own, title=title, **settings) for frame, own, title in shown]


def _visible(made: Chart, colour: str) -> list[Any]:
    """Scatters of the screen: aligned adapters share the first one's, which then has neither's title."""
    drawn = figures(made, colour)
    return [drawn[0].update_layout(title=None)] if made.projection.aligned else drawn


def _drawn(made: Chart, colour: str, known: list[dict[str, Any]]) -> list[Any]:
    """First plot, whether there is a second one, and that."""
    values = [
        {"figure": figure, "cards": own, "marks": marks(), "morph": None}
        for figure, own in zip(_visible(made, colour), known, strict=False)
    ]
    if made.projection.aligned:
        values[0]["morph"] = morph(made.frames[1][["x", "y"]].to_numpy().tolist(), *made.titles)
    two = len(values) == 2
    return [values[0], gr.update(visible=two), values[1] if two else None]


def _recolour(made: Chart | None, colour: str) -> list[Any]:
    if made is None:
        return [gr.skip(), gr.skip()]
    values = [{"figure": figure} for figure in _visible(made, colour)]
    return [values[0], values[1] if len(values) == 2 else gr.skip()]
