"""Map: the gallery of an adapter on a plane, beside what it was before, with a person's own images on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.inspection.spaces import SPACES
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN
from metalora.views.embedding import ARRANGEMENTS, MORPH, ORIGINAL, EmbeddingView, embedding_view, waiting_message
from metalora.views.embedding_guests import place_guests
from metalora.views.embedding_request import METHODS, resolve
from metalora.views.inspect import MAX_IMAGES

from .components import Message, caption
from .context import COMPUTE, PRIVATE, QUIET, Context
from .downloads import export_buttons
from .image_tiles import ImageTiles
from .map_value import COLOURS, figures, recoloured, values
from .neighbourhood import neighbourhood
from .plot import Plot

ORIGINALS = [("the original network", ORIGINAL), ("nothing", "")]
SETTINGS = ("space", "method", "neighbours", "min_dist", "aligned")
READ = """Each point is an image of the gallery. **Distances on a UMAP are not metric**: gaps, sizes and densities of
clusters mean little, so neighbours and accuracies are taken from the original space. Click a point for its neighbours,
lasso for counts, click the legend to isolate, Ctrl and wheel to zoom."""
WAITING = "Reading the bundled gallery …"
DROP = "map-files"


def build(context: Context) -> dict[str, Any]:
    """Lay out the tab and wire its events; return the fields that a link restores, by their names in it."""
    fields = _menus()
    parts: dict[str, Any] = {"error": Message(kind="error")}
    with gr.Row():
        with gr.Column(min_width=320):
            parts["first"] = _plot("Map of the adapter, or of what it is compared with")
        with gr.Column(min_width=320, visible=False) as parts["beside"]:
            parts["second"] = _plot("Map of the adapter, on the right")
    parts["status"] = Message(WAITING, kind="status")
    fields |= _umap_settings()
    with gr.Row():
        label = f"Your images on the map, up to {MAX_IMAGES}: drop them here or on the plot"
        files = gr.File(
            file_count="multiple", label=label, height=110, file_types=["image"], elem_id=DROP, min_width=280, scale=1
        )
        with gr.Column(scale=3, min_width=320):
            parts["guests"], parts["problems"] = ImageTiles(), Message(kind="error")
    caption(READ)
    parts["shown"] = gr.State(None, time_to_live=3600)
    neighbourhood(context, parts["shown"], (parts["first"], parts["second"]))
    export_buttons(context, parts["shown"], fields["colour"], figures)
    _wire(MapTab(context, fields, parts), files)
    return {name: fields[name] for name in ("adapter", "versus", "arrangement", "space", "method", "colour")}


@dataclass(frozen=True)
class MapTab:
    """The controls of the map and what they do.

    Attributes:
        fields: by name, as `resolve` calls them; "colour" besides.
        parts: components that show the map, by name; "shown" holds the `EmbeddingView` on the screen.
    """

    context: Context
    fields: dict[str, Any]
    parts: dict[str, Any]

    def draw(
        self, token: str, before: EmbeddingView | None, files: list[str] | None, *chosen: Any
    ) -> Iterator[dict[Any, Any]]:
        """Draw the map that the fields describe, unless it is there already; after an error the earlier one stays."""
        parts, asked = self.parts, dict(zip(self.fields, chosen, strict=True))
        colour = asked.pop("colour")
        try:
            request, shown, notes = resolve(self.context.app_state, token, files=files or (), **asked)
            if before is not None and before.request == request:
                yield {parts["error"]: " ".join(notes)}
                return
            yield {parts["first"]: {"busy": waiting_message(shown, request.projection)}}
            view = embedding_view(shown, request.projection, request)
            place = self.context.app_state.wrap_for_gpu(place_guests)
            try:
                guests, problem = place(shown, view, request.files), ""
            except InputError as error:
                guests, problem = place(shown, view, ()), str(error)
        except InputError as error:
            yield {parts["error"]: str(error), parts["first"]: {"busy": None}}
            return
        drawn = values(view, shown, guests.marks, colour if colour in COLOURS else "class")
        second = drawn[1] if len(drawn) > 1 else None
        yield {
            parts["error"]: " ".join(notes),
            parts["problems"]: " ".join([problem, *guests.problems]).strip(),
            parts["status"]: view.describe(),
            parts["guests"]: guests.tiles,
            parts["shown"]: view,
            parts["first"]: drawn[0],
            parts["beside"]: gr.update(visible=second is not None),
            parts["second"]: second,
        }

    def recolour(self, view: EmbeddingView | None, colour: str) -> list[Any]:
        """Return both plots in other colours, and a message where there is no such colour; nothing else changes."""
        note = "" if colour in COLOURS else f"Unknown colour {colour!r}: use {', '.join(COLOURS)}. This is class."
        plots = recoloured(view, colour if colour in COLOURS else "class") if view is not None else []
        return [*[*plots, gr.skip(), gr.skip()][:2], note]

    def follow_run(self, token: str, run: str | None, adapter: str, versus: str) -> list[Any]:
        """Return the menus of adapters, with the active run's chosen where it has one."""
        titles = self.context.app_state.adapters(token)
        choices = [(title, name) for name, title in titles.items()]
        of_run = f"{RUN}{run}"
        value = of_run if of_run in titles else adapter if adapter in titles else DEFAULT
        others = {ORIGINAL, "", *titles}
        return [
            gr.update(choices=choices, value=value),
            gr.update(choices=[*ORIGINALS, *choices], value=versus if versus in others else ORIGINAL),
        ]


def _wire(tab: MapTab, files: gr.File) -> None:
    context, fields, parts = tab.context, tab.fields, tab.parts
    event = {
        "fn": tab.draw,
        "inputs": [context.visitor, parts["shown"], files, *fields.values()],
        "outputs": [*parts.values()],
        "show_progress": "hidden",
        **PRIVATE,
    }
    context.settled.change(concurrency_limit=2, **event)
    at_once = [fields[name].change for name in fields if name not in ("colour", "neighbours", "min_dist")]
    sliders = [fields[name].release for name in ("neighbours", "min_dist")]
    # A tab that is not looked at notices no change of its fields: they are compared when another tab is opened.
    gr.on([*at_once, *sliders, files.change, context.tab.change], trigger_mode="always_last", **event, **COMPUTE)
    plots = [parts["first"], parts["second"]]
    fields["colour"].change(tab.recolour, [parts["shown"], fields["colour"]], [*plots, parts["error"]], **QUIET)
    fields["method"].change(_umap_only, fields["method"], [fields[n] for n in SETTINGS[2:]], **QUIET)
    menus = [fields["adapter"], fields["versus"]]
    gr.on(
        [context.load, context.run.change, context.adapters.change],
        tab.follow_run,
        [context.visitor, context.run, *menus],
        menus,
        **QUIET,
    )


def _plot(label: str) -> Plot:
    return Plot(label=label, height=560, waiting=WAITING, drops=f"#{DROP}")


def _menus() -> dict[str, Any]:
    """Lay out the row of menus."""
    fields: dict[str, Any] = {}
    spaces = [(words, name) for name, words in SPACES.items()]
    menus = {
        "adapter": ([DEFAULT], DEFAULT, "Adapter", 230),
        "versus": (ORIGINALS, ORIGINAL, "Versus", 200),
        "arrangement": (_menu(ARRANGEMENTS), MORPH, "The two", 150),
        "space": (spaces, "adapted", "Space", 150),
        "method": (_menu(METHODS), "umap", "Projection", 90),
        "colour": (list(COLOURS), "class", "Colour", 110),
    }
    with gr.Row(elem_classes="slim map-fields"):
        for name, (choices, value, label, width) in menus.items():
            # Custom values, because adapters come later and links may hold anything: the server checks.
            fields[name] = gr.Dropdown(
                choices, value=value, label=label, min_width=width, interactive=True, allow_custom_value=True
            )
    return fields


def _umap_settings() -> dict[str, Any]:
    """Lay out the numbers of UMAP, folded."""
    fields: dict[str, Any] = {}
    with gr.Accordion("UMAP settings", open=False), gr.Row(elem_classes="slim"):
        fields["neighbours"] = gr.Slider(
            2, 100, 15, step=1, label="Neighbours", info="Few: local. Many: global.", min_width=200
        )
        fields["min_dist"] = gr.Slider(
            0, 1, 0.1, step=0.05, label="Minimal distance", info="min_dist, on the plane.", min_width=200
        )
        fields["aligned"] = gr.Checkbox(
            False,
            label="Aligned UMAP",
            info="Fits both planes together, about half a minute; without, they are fitted apart.",
            min_width=260,
        )
    return fields


def _menu(words: dict[str, str]) -> list[tuple[str, str]]:
    return [(title, name) for name, title in words.items()]


def _umap_only(method: str) -> list[Any]:
    """Disable the numbers of UMAP where they do not apply."""
    return [gr.update(interactive=method == "umap")] * 3
