"""Embeddings: the gallery of one or two adapters on a plane."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.inspection.spaces import SPACES
from metalora.plots import embedding_scatter
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN
from metalora.views.embedding import EmbeddingView, Projection, embedding_view, waiting_message
from metalora.views.embedding_points import hover_lines, hover_sprites

from .components import Message
from .context import COMPUTE, PRIVATE, QUIET, Context
from .downloads import export_buttons
from .neighbourhood import neighbourhood
from .plot import Plot, cards, marks, morph

COLOURS = {"class": "label", "task": "task", "right or wrong": "correct"}
METHODS = [("UMAP", "umap"), ("PCA", "pca")]
NONE = ("none", "")
NEAR = "The space in which distances are measured."
FEATURES = "adapted"  # the space where an adapter has no cores
AT_ONCE = ("second", "space", "method", "aligned")  # fields that redraw at every input
READ = """Each point is an image of the gallery; a colour is a class, a task, or whether its five nearest others vote
for its class. **Distances on a UMAP are not metric**: gaps, sizes and densities of clusters mean little, so neighbours
and accuracies are always taken from the original space. Hover for the image, click for its neighbours, lasso for
counts.
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
    export_buttons(context, shown, fields["colour"], figures)
    parts = {"status": status, "error": error, "first": first, "beside": beside, "second": second, "shown": shown}
    _wire(EmbeddingForm(context, fields, parts))


@dataclass(frozen=True)
class EmbeddingForm:
    """The controls of a projection and what they do.

    Attributes:
        fields: by name; all but "first", "second" and "colour" as `Projection` calls them.
        parts: components that show the projection, by name; "shown" holds the `EmbeddingView` on the screen.
    """

    context: Context
    fields: dict[str, Any]
    parts: dict[str, Any]

    def draw(self, token: str, before: EmbeddingView | None, *values: Any) -> Iterator[dict[Any, Any]]:
        """Project the galleries of the chosen adapters; after an error the earlier chart stays."""
        chosen, status, error = dict(zip(self.fields, values, strict=True)), self.parts["status"], self.parts["error"]
        yield {status: "Reading the adapter and its gallery.", error: ""}
        colour, names = chosen.pop("colour"), [name for name in (chosen.pop("first"), chosen.pop("second")) if name]
        chosen["aligned"] = chosen["aligned"] and len(names) == 2 and chosen["method"] == "umap"  # else it is disabled
        try:
            opened = [self.context.app_state.open(token, name) for name in names]
            static = [adapter.title for adapter in opened if not adapter.model.config.generates]
            impossible = bool(static) and chosen["space"] == "cores"
            projection = Projection(**{**chosen, **({"space": FEATURES} if impossible else {})})
            yield {status: waiting_message(opened, projection), self.fields["space"]: _spaces(static, impossible)}
            drawn = embedding_view(names, opened, projection)
        except InputError as problem:
            yield {status: "" if before is None else _describe(before), error: str(problem)}
            return
        pairs = zip(opened, drawn.frames, strict=True)
        hover = [
            cards(frame["name"].tolist(), hover_lines(frame), **hover_sprites(adapter)) for adapter, frame in pairs
        ]
        plots = _plots(drawn, colour, hover)
        yield {status: _describe(drawn), self.parts["shown"]: drawn} | {self.parts[name]: plots[name] for name in plots}

    def list_adapters(self, token: str) -> list[Any]:
        """Return the menus of the first and the second adapter."""
        choices = [(title, name) for name, title in self.context.app_state.adapters(token).items()]
        return [gr.update(choices=choices), gr.update(choices=[NONE, *choices])]

    def follow_run(self, token: str, run: str | None) -> Any:
        """Choose the adapter of the active run, once it is trained."""
        name = f"{RUN}{run}"
        return name if run and name in self.context.app_state.adapters(token) else gr.skip()


def _wire(form: EmbeddingForm) -> None:
    context, fields, parts = form.context, form.fields, form.parts
    event = {
        "fn": form.draw,
        "inputs": [context.visitor, parts["shown"], *fields.values()],
        "outputs": [*parts.values(), fields["space"]],
        "show_progress": "hidden",
        **PRIVATE,
    }
    context.settled.change(concurrency_limit=2, **event)
    sliders = [fields[name].release for name in ("neighbours", "min_dist")]
    changes = [fields["first"].change, *(fields[name].input for name in AT_ONCE), *sliders]
    gr.on(changes, trigger_mode="always_last", **event, **COMPUTE)
    fields["colour"].input(_recolour, [parts["shown"], fields["colour"]], [parts["first"], parts["second"]], **QUIET)
    deciding = [fields[name] for name in ("second", "method", "aligned")]
    limited = [fields[name] for name in ("neighbours", "min_dist", "aligned")]
    gr.on([field.change for field in deciding], _limit, deciding, limited, **QUIET)
    menus = [fields["first"], fields["second"]]
    gr.on([context.load, context.adapters.change], form.list_adapters, context.visitor, menus, **QUIET)
    context.run.input(form.follow_run, [context.visitor, context.run], fields["first"], **QUIET)


def _fields() -> dict[str, Any]:
    """Lay out the controls: what of which adapter, projected how, in which colours."""
    fields: dict[str, Any] = {}
    with gr.Row():
        fields["first"] = gr.Dropdown([DEFAULT], value=DEFAULT, label="Adapter", min_width=240)
        fields["second"] = gr.Dropdown([NONE], value="", label="Second adapter, side by side", min_width=240)
        fields["space"] = gr.Radio(
            [(words, name) for name, words in SPACES.items()], value="adapted", label="Space", info=NEAR, min_width=320
        )
    with gr.Row():
        fields["method"] = gr.Radio(METHODS, value="umap", label="Projection", min_width=140)
        fields["neighbours"] = gr.Slider(
            2, 100, 15, step=1, label="Neighbours", info="Few: local. Many: global.", min_width=200
        )
        fields["min_dist"] = gr.Slider(
            0, 1, 0.1, step=0.05, label="Minimal distance", info="min_dist, on the plane.", min_width=200
        )
        fields["aligned"] = gr.Checkbox(
            False,
            label="Align the two, with a slider from one to the other",
            info="Waits for a second adapter.",
            interactive=False,
            min_width=220,
        )
        fields["colour"] = gr.Radio(list(COLOURS), value="class", label="Colour", min_width=220)
    return fields


def _spaces(static: list[str], impossible: bool) -> Any:
    """Return the spaces to choose from: no cores where an adapter has none, since no single radio can be disabled.

    Args:
        static: titles of adapters that generate nothing.
        impossible: cores were chosen all the same.
    """
    choices = [(words, name) for name, words in SPACES.items() if name != "cores" or not static]
    why = f"No generated cores to choose: {static[0]} has none." if static else NEAR
    # A value is given only to replace one: the person may have clicked meanwhile.
    return gr.update(choices=choices, info=why, **({"value": FEATURES} if impossible else {}))


def _limit(second: str, method: str, aligned: bool) -> list[Any]:
    """Disable neighbours, minimal distance and alignment where they do not apply, and say why."""
    umap = method == "umap"
    neighbours = "Few: local. Many: global." if umap else "PCA has no neighbours to set."
    distance = "Aligned UMAP has its own, 0.1." if aligned else "min_dist, on the plane."
    align = "Waits for a second adapter." if not second else "Slower." if umap else "PCA cannot be aligned."
    alignable = bool(second) and umap
    return [
        gr.update(interactive=umap, info=neighbours),
        gr.update(interactive=umap and not aligned, info=distance if umap else "PCA has none."),
        gr.update(interactive=alignable, info=align, **({} if alignable else {"value": False})),
    ]


def _describe(drawn: EmbeddingView) -> str:
    precomputed = " Computed before, with the adapter." if drawn.precomputed else ""
    return f"{drawn.projection.caption}; {len(drawn.frames[0])} images.{precomputed}"


def figures(drawn: EmbeddingView, colour: str) -> list[Any]:
    """Draw a scatter for each of the chart's adapters."""
    settings = {"colour": COLOURS[colour], "axes": "PCA" if drawn.projection.method == "pca" else "UMAP"}
    parts = zip(drawn.frames, drawn.classes, drawn.titles, strict=True)
    return [embedding_scatter(frame, classes=classes, title=title, **settings) for frame, classes, title in parts]


def _visible(drawn: EmbeddingView, colour: str) -> list[Any]:
    """Draw the scatters of the screen: aligned adapters share the first one's, which then has neither's title."""
    scatters = figures(drawn, colour)
    return [scatters[0].update_layout(title=None)] if drawn.projection.aligned else scatters


def _plots(drawn: EmbeddingView, colour: str, hover: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first plot, whether there is a second one, and that."""
    plots: list[dict[str, Any] | None] = [
        {"figure": figure, "cards": texts, "marks": marks(), "morph": None}
        for figure, texts in zip(_visible(drawn, colour), hover, strict=False)
    ]
    if drawn.projection.aligned:
        plots[0]["morph"] = morph(drawn.frames[1][["x", "y"]].to_numpy().tolist(), *drawn.titles)
    first, second = (*plots, None)[:2]
    return {"first": first, "beside": gr.update(visible=second is not None), "second": second}


def _recolour(drawn: EmbeddingView | None, colour: str) -> list[Any]:
    """Return both plots in other colours; nothing else of them changes."""
    plots = [{"figure": figure} for figure in _visible(drawn, colour)] if drawn else []
    return [*plots, gr.skip(), gr.skip()][:2]
