"""Look: one image, its adapter, and what that does, while knobs shift the image."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from metalora.models.bundled import parse_bundled
from metalora.suites.knobs import KNOBS, Knob
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN, AppState
from metalora.views.examples import example_files
from metalora.views.first_look import read_first_look
from metalora.views.inspect import MAX_IMAGES
from metalora.views.inspect_view import InspectView
from metalora.views.look import OPENING, look, other_images, sweep, trained_knobs

from .checked_blocks import event_value
from .components import Message, caption
from .context import COMPUTE, PRIVATE, QUIET, Context
from .core_swap import FORGOTTEN
from .inspect import Inspector, details
from .plot import Plot

READ_FINGERPRINT = (
    "A column per layer, shallow to deep; cells are the generated values, as differences from the gallery's mean. The "
    "strip below is the strength of the update, ‖ΔW‖ / ‖W‖."
)
READ_PLANE = "Cores of the gallery's images, coloured by task. The ring is this image as it was, the disc as it is now."
READ_TABLE = (
    "Class by a vote of the five nearest gallery images. Moved: the cosine distance from the image as it was; 1 is the "
    "mean distance of the other images."
)


def build(context: Context) -> dict[str, Any]:
    """Lay out the tab and wire its events; return the fields that a link restores."""
    parts: dict[str, Any] = {"view": gr.State(None), "position": gr.State(0)}
    first = read_first_look()
    figures = {name: go.Figure(first[name]) for name in ("fingerprint", "plane")}
    with gr.Row(elem_classes="slim", elem_id="look-images"):
        parts["pictures"] = gr.Gallery(
            [str(file) for file in example_files(parse_bundled(DEFAULT).suite)],
            show_label=False,
            columns=8,
            rows=1,
            height=100,
            scale=3,
            allow_preview=False,
            interactive=False,
            object_fit="contain",
            buttons=[],
            min_width=320,
            elem_classes="pictures",
        )
        files = gr.File(
            file_count="multiple",
            label=f"Your photographs, up to {MAX_IMAGES}",
            height=100,
            scale=2,
            file_types=["image"],
            min_width=240,
            elem_classes="drop",
        )
        with gr.Column(scale=2, min_width=260, elem_classes="tight"):
            adapter = _adapters(context.app_state)
            parts["trained"] = Message()
    parts["error"], parts["skipped"] = Message(kind="error"), Message(kind="error")
    with gr.Row(elem_classes="slim knobs"):
        knobs = {name: _control(knob, OPENING.get(name, knob.neutral)) for name, knob in KNOBS.items()}
        with gr.Column(min_width=90):
            neutral = gr.Button("Reset", size="sm")
            turn_all = gr.Button("Turn all", size="sm")
    with gr.Row():
        with gr.Column(scale=2, min_width=200, elem_classes="tight"):
            gr.Markdown("### The image")
            parts["image"] = gr.HTML(first["image"], padding=False)
        with gr.Column(scale=4, min_width=320, elem_classes="tight", elem_id="look-adapter"):
            gr.Markdown("### Its adapter")
            parts["fingerprint"] = Plot(
                figures["fingerprint"], label="The adapter of this image", height=150, follows=True
            )
            caption(READ_FINGERPRINT)
            parts["plane"] = Plot(
                figures["plane"], label="Its core among those of the gallery", height=200, follows=True
            )
            caption(READ_PLANE)
        with gr.Column(scale=6, min_width=320, elem_classes="tight", elem_id="look-result"):
            gr.Markdown("### What the adapter does")
            parts["table"] = gr.HTML(first["table"], padding=False)
            parts["verdict"] = Message(first["verdict"], kind="status")
            parts["donor"] = gr.Dropdown(
                [], value=None, label="The other image, whose core is tried", interactive=True, allow_custom_value=True
            )
            caption(READ_TABLE)
    parts["status"] = Message("Looking at the example images …", kind="status")
    curves = Plot(label="How far the embedding moves as each knob turns", height=480, follows=True, visible=False)
    inspector = details(context, parts, adapter, files)
    _wire(LookTab(context, parts, knobs, inspector), adapter, files, neutral, turn_all, curves)
    return {"adapter": adapter, "image": parts["position"], "layer": parts["layer"], **knobs}


@dataclass(frozen=True)
class LookTab:
    """What the tab answers.

    Attributes:
        parts: components that show the image, by name.
        knobs: by name.
        inspector: of all images, in the parts that are folded away.
    """

    context: Context
    parts: dict[str, Any]
    knobs: dict[str, Any]
    inspector: Inspector

    @property
    def shown(self) -> list[Any]:
        """Components that `turn` sets."""
        names = ("image", "fingerprint", "plane", "table", "verdict", "error")
        return [self.parts[name] for name in names]

    def turn(self, token: str, view: InspectView | None, position: int, donor: int | None, *values: Any) -> list[Any]:
        """Show the image as the knobs shift it; after an error what was shown stays."""
        if view is None:
            return [gr.skip()] * 5 + [FORGOTTEN]
        try:
            settings = dict(zip(self.knobs, values, strict=True))
            seen = look(self.context.app_state, token, view, position, donor or 0, settings)
        except InputError as problem:
            return [gr.skip()] * 5 + [str(problem)]
        return [seen.image, seen.fingerprint, seen.plane, seen.table, seen.verdict, ""]

    def choose(self, token: str, view: InspectView | None, position: int) -> list[Any]:
        """Return the menu of other images, and which knobs the adapter was trained on."""
        if view is None:
            return [gr.skip(), gr.skip()]
        names, _ = other_images(self.context.app_state, token, view, position)
        trained = trained_knobs(self.context.app_state, token, view.adapter)
        said = ", ".join(trained) if trained else "none of these"
        return [gr.update(choices=[(n, i) for i, n in enumerate(names)], value=0), f"Trained on: {said}."]

    def turn_all(self, token: str, view: InspectView | None, position: int, donor: int | None) -> list[Any]:
        """Return the curves of all knobs, or an error."""
        if view is None:
            return [gr.skip(), FORGOTTEN]
        try:
            figure = sweep(self.context.app_state, token, view, position, donor or 0)
        except InputError as problem:
            return [gr.skip(), str(problem)]
        return [gr.update(value=figure, visible=True), ""]

    def list_adapters(self, token: str, adapter: str) -> Any:
        """Return the menu of adapters; a chosen one that is gone gives way to the default.

        One that is there is left out of the answer, since the person may have chosen another meanwhile.
        """
        choices = self.context.app_state.adapters(token)
        value = {} if adapter in choices else {"value": DEFAULT}
        return gr.update(choices=[(title, name) for name, title in choices.items()], **value)

    def follow_run(self, token: str, run: str | None, adapter: str) -> Any:
        """Return the menu of adapters, with the active run's chosen where it has one."""
        of_run, menu = f"{RUN}{run}", self.list_adapters(token, adapter)
        return {**menu, "value": of_run} if of_run in self.context.app_state.adapters(token) else menu


def _wire(
    tab: LookTab, adapter: gr.Dropdown, files: gr.File, neutral: gr.Button, turn_all: gr.Button, curves: Plot
) -> None:
    context, parts, inputs = tab.context, tab.parts, list(tab.knobs.values())
    place = [context.visitor, parts["view"], parts["position"]]
    in_turn = {**COMPUTE, **PRIVATE, "show_progress": "hidden"}
    turn = {"fn": tab.turn, "inputs": [*place, parts["donor"], *inputs], "outputs": tab.shown, **in_turn}
    choose = {"fn": tab.choose, "inputs": place, "outputs": [parts["donor"], parts["trained"]], **in_turn}
    tab.inspector.inspected.then(**choose).then(**turn)
    parts["pictures"].select(_position, None, parts["position"], **QUIET).then(**choose).then(**turn)
    gr.on([parts["donor"].input, *(knob.input for knob in inputs)], trigger_mode="always_last", **turn)
    neutral.click(_neutral, None, inputs, **QUIET).then(**turn)
    turn_all.click(tab.turn_all, [*place, parts["donor"]], [curves, parts["error"]], **COMPUTE, **PRIVATE)
    context.load(tab.list_adapters, [context.visitor, adapter], adapter, **QUIET)
    active = [context.visitor, context.run, adapter]
    gr.on([context.run.change, context.adapters.change], tab.follow_run, active, adapter, **QUIET)


def _adapters(app_state: AppState) -> gr.Dropdown:
    """Lay out the menu of adapters, the bundled ones to begin with."""
    bundled = [(title, name) for name, title in app_state.adapters(app_state.ensure_visitor(None)).items()]
    return gr.Dropdown(bundled, value=DEFAULT, label="Adapter", interactive=True, allow_custom_value=True)


def _control(knob: Knob, value: Any) -> Any:
    """Lay out the control of a knob, with the value to begin with."""
    if knob.is_number:
        low, high = knob.values[0], knob.values[-1]
        step = round(knob.values[1] - low, 4)
        return gr.Slider(low, high, value, step=step, label=knob.title, buttons=[], min_width=130)
    if knob.values == (False, True):
        return gr.Checkbox(value, label=knob.title, min_width=90)
    return gr.Dropdown(list(knob.values), value=value, label=knob.title, min_width=110)


def _position(event: gr.EventData) -> int:
    return event_value(event, "index", int)


def _neutral() -> list[Any]:
    return [knob.neutral for knob in KNOBS.values()]
