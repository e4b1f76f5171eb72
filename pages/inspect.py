"""Look, folded away: all images side by side, one layer closely, cores swapped and blended, downloads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from metalora.plots import code_scatter, core_values, fingerprint, similarities, strengths, update_weights
from metalora.util.errors import InputError
from metalora.views.inspect import (
    constant_update,
    inspect_view,
    keep_of_examples,
    save_inspection,
)
from metalora.views.inspect_view import InspectView
from metalora.views.look import choices
from metalora.views.neighbours import neighbours_html
from metalora.views.uncertainty_table import uncertainty_table

from .components import Message, caption, served, served_image
from .context import COMPUTE, PRIVATE, QUIET, Context
from .core_swap import FORGOTTEN, CoreSwap, core_swap
from .plot import Plot

READ_FINGERPRINT = (
    "A block per image. Cells: what was generated, a column per layer, as the difference from the mean of the "
    "images shown (from the identity core where there is but one); one scale for all. Strip below: how strong the "
    "update is in each layer, ‖ΔW‖ / ‖W‖ (Frobenius norms)."
)
READ_PLACES = (
    "Five nearest gallery images by cosine, nearest first, and the class they vote for. The gallery is of the suite "
    "that the adapter was trained on: an image of anything else gets one of its classes all the same. Where the code "
    "predicts factors, the table has the most probable value of each."
)
READ_CORES = "The core of one layer for each image, by its number: bars c[r] in CP, cells C[r2, r0] in TR; one scale."
READ_UPDATE = (
    "ΔW of one layer, the same for every image: a row per output channel, a column per input channel (and place in the "
    "kernel); white is no change of the weight."
)
READ_STRENGTHS = (
    "A row per image, numbered as above, a column per layer: 0 is no update, 1 is one as large as the weight."
)
READ_SIMILARITIES = "Cosine between two images' cores, all layers side by side: 1 is the same adapter."
READ_CODES = "The mapping net's codes on their first two principal components: close points get similar cores."
READ_UNCERTAINTY = (
    "Sixteen cores are drawn for each image. Deviation: the standard deviation of a core's values, root mean square "
    "over all layers, and the layer where it is largest. Spread: the mean cosine distance of the embeddings from that "
    "of the mean core. Same class: the share of cores with which the neighbours vote as they do with the mean core."
)
SIDE_BY_SIDE, CLOSELY, DOWNLOAD = "All images side by side", "One layer closely", "Download"
FOLDED = {  # what is drawn when it is unfolded, by the components that show it
    SIDE_BY_SIDE: ("places", "uncertainty", "fingerprints", "strengths", "similarities", "codes"),
    CLOSELY: ("closer",),
    DOWNLOAD: (".csv", ".npz"),
}
NO_CORES = "This method generates nothing, so there is no fingerprint, no core and no code to draw."


def details(context: Context, parts: dict[str, Any], adapter: gr.Dropdown, files: gr.File) -> "Inspector":
    """Lay out what is folded away and wire its events.

    Args:
        context: shared by the tabs.
        parts: components of the tab, by name; those of this part are added.
        adapter: menu of the adapter.
        files: the visitor's images.
    """
    folded = {}
    with gr.Accordion(SIDE_BY_SIDE, open=False, elem_id="look-all") as folded[SIDE_BY_SIDE]:
        parts["no_cores"] = Message(NO_CORES, visible=False)
        parts["pool"] = gr.Checkbox(label="Pool: one core for all images", info=_pool_info(False))
        with gr.Column(min_width=320) as parts["emblem"]:
            parts["fingerprints"] = Plot(
                label="Fingerprints: the whole adapter of each image", height=610, follows=True
            )
            caption(READ_FINGERPRINT)
        parts["places"] = gr.HTML(label="Nearest gallery images")
        caption(READ_PLACES)
        with gr.Column(visible=False) as parts["uncertain"]:
            parts["uncertainty"] = gr.HTML(label="Uncertainty of the cores")
            caption(READ_UNCERTAINTY)
        parts["strengths"] = Plot(label="Strength of each layer's update", height=246, follows=True)
        caption(READ_STRENGTHS)
        _similar(parts)
    with gr.Accordion(CLOSELY, open=False) as folded[CLOSELY]:
        _one_layer(parts)
    with gr.Accordion("Swap and blend cores", open=False):
        swap = core_swap(context, parts["view"])
    with gr.Accordion(DOWNLOAD, open=False) as folded[DOWNLOAD]:
        _downloads(parts)
    parts["unfolded"] = gr.State(())
    inspect_on_gpu = context.app_state.wrap_for_gpu(inspect_view)
    inspector = Inspector(context, inspect_on_gpu, parts, swap)
    inspected = _wire(inspector, adapter, files)
    _wire_folded(inspector, folded)
    return replace(inspector, inspected=inspected)


@dataclass(frozen=True)
class Inspector:
    """What this part answers.

    Attributes:
        inspect_on_gpu: `inspect_view` where a GPU is lent to the event.
        parts: components that show the images, by name.
        swap: of cores.
        inspected: event after which the images of `parts["view"]` are new.
    """

    context: Context
    inspect_on_gpu: Callable[..., InspectView]
    parts: dict[str, Any]
    swap: CoreSwap
    inspected: Any = None

    def inspect(
        self,
        token: str,
        adapter: str,
        files: list[str] | None,
        pool: bool,
        layer: str | None,
        before: InspectView | None,
        position: int,
        unfolded: Sequence[str],
    ) -> dict[Any, Any]:
        """Inspect the images under an adapter and show what is unfolded; after an error the earlier images stay."""
        try:
            if files:
                view = self.inspect_on_gpu(token, adapter, files, pool)
            else:  # examples spend nobody's minutes of a lent GPU
                view = inspect_view(self.context.app_state, token, adapter, None, pool)
            chosen = layer if layer in view.layers else view.strongest_layer
            drawn = [self._draw(name, token, view, chosen) for name in unfolded]
        except InputError as problem:
            return self._by_component({"error": str(problem), **_empty(unfolded)})
        stays = before is None or before.names == view.names
        there = 0 <= position < len(view.images)
        problems = []
        if stays and not there:
            problems.append(f"There is no image {position + 1}: this is the first one.")
        if before is None and layer and layer not in view.layers:
            problems.append(f"There is no layer {layer!r}: this is the one with the strongest update.")
        values = {
            "view": view,
            "status": view.headline,
            "error": " ".join(problems),
            "skipped": view.skipped_message,
            "pool": gr.update(interactive=not view.constant, info=_pool_info(view.constant)),
            "uncertain": gr.update(visible=view.uncertainty is not None),
            "position": gr.skip() if stays and there else 0,  # another may have been chosen meanwhile
            "pictures": [(served_image(image), name) for image, name in choices(view)],
            "no_cores": gr.update(visible=not view.has_cores),
            "emblem": gr.update(visible=view.has_cores),
            "generated": gr.update(visible=view.comparable),
            "layer": gr.update(choices=view.layers, value=chosen),
            "caption": READ_CORES if view.has_cores else READ_UPDATE,
            **_empty(unfolded),
        }
        for part in drawn:
            values |= part
        controls = zip(self.swap.controls, self.swap.reset(view), strict=True)
        return self._by_component(values) | dict(controls)

    def unfold(
        self, name: str, token: str, view: InspectView | None, layer: str | None, unfolded: Sequence[str]
    ) -> dict[Any, Any]:
        """Show what is unfolded now, and from now on."""
        values: dict[str, Any] = {"unfolded": (*unfolded, name)}
        try:
            if view is not None and (layer in view.layers or name != CLOSELY):
                values |= self._draw(name, token, view, layer or "")
        except InputError as problem:
            values["error"] = str(problem)
        return self._by_component(values)

    def _by_component(self, values: dict[str, Any]) -> dict[Any, Any]:
        return {self.parts[name]: value for name, value in values.items()}

    def _draw(self, name: str, token: str, view: InspectView, layer: str) -> dict[str, Any]:
        """Return what a part of `FOLDED` shows, by component."""
        if name == CLOSELY:
            return {"closer": self._layer(token, view, layer)}
        if name == DOWNLOAD:
            files = save_inspection(self.context.app_state, token, view)
            return {path.suffix: gr.update(value=served(path), interactive=True) for path in files}
        return {
            "places": neighbours_html(self.context.app_state, token, view),
            "uncertainty": uncertainty_table(view),
            **keep_of_examples(self.context.app_state, token, view, SIDE_BY_SIDE, lambda: _figures(view)),
        }

    def show_layer(self, token: str, view: InspectView | None, layer: str) -> list[Any]:
        """Return the figure of one layer, or an error."""
        if view is None:
            return [gr.skip(), FORGOTTEN]
        try:
            return [self._layer(token, view, layer), ""]
        except InputError as problem:
            return [gr.skip(), str(problem)]

    def _layer(self, token: str, view: InspectView, layer: str) -> Any:
        """Draw the images' cores of one layer, or the update that is the same for all."""

        def draw() -> Any:
            if view.has_cores:
                return core_values(view.numbered, layer)
            return update_weights(constant_update(self.context.app_state, token, view, layer))

        return keep_of_examples(self.context.app_state, token, view, ("layer", layer), draw)


def _empty(unfolded: Sequence[str]) -> dict[str, Any]:
    """Return what the components of `FOLDED` show while they are folded away: nothing.

    With gr.skip() instead, one that is not on the page yet would forget its settings.
    """
    values: dict[str, Any] = {}
    for name in FOLDED.keys() - set(unfolded):
        values |= dict.fromkeys(FOLDED[name], gr.update(interactive=False) if name == DOWNLOAD else None)
    return values


def _downloads(parts: dict[str, Any]) -> None:
    """Lay out the buttons of downloads."""
    with gr.Row():
        for kind in ("CSV", "npz"):
            button = gr.DownloadButton(f"Download {kind}", size="sm", interactive=False, min_width=120)
            parts[f".{kind.lower()}"] = button
    caption("Cores and strengths of the images shown.")


def _one_layer(parts: dict[str, Any]) -> None:
    """Lay out one layer's cores or update."""
    # Custom values, so that a server which was restarted and has no choices any more can say so.
    parts["layer"] = gr.Dropdown([], label="Layer", interactive=True, allow_custom_value=True)
    parts["closer"] = Plot(
        label="Core of the chosen layer for each image, or its constant update", height=240, follows=True
    )
    parts["caption"] = Message(READ_CORES)


def _similar(parts: dict[str, Any]) -> None:
    """Lay out how similar the images' cores are, and their codes."""
    with gr.Row() as parts["generated"]:
        with gr.Column(min_width=320):
            parts["similarities"] = Plot(label="Cosine similarity between the images' cores", height=316, follows=True)
            caption(READ_SIMILARITIES)
        with gr.Column(min_width=320):
            parts["codes"] = Plot(label="The images' codes", height=320, follows=True)
            caption(READ_CODES)


def _wire(tab: Inspector, adapter: gr.Dropdown, files: gr.File) -> Any:
    """Wire the events; return the one after which images are inspected."""
    context, parts, swap = tab.context, tab.parts, tab.swap
    layer, visitor, in_turn = parts["layer"], context.visitor, {**COMPUTE, **PRIVATE}
    inspected = gr.on(
        [context.load, adapter.change, files.change, parts["pool"].input],
        tab.inspect,
        [visitor, adapter, files, parts["pool"], layer, parts["view"], parts["position"], parts["unfolded"]],
        [*parts.values(), *swap.controls],
        trigger_mode="always_last",
        show_progress_on=[parts["status"]],
        **in_turn,
    )
    inspected.then(swap.swap_core, swap.inputs, swap.outputs, show_progress="hidden", **in_turn)
    layer.input(tab.show_layer, [visitor, parts["view"], layer], [parts["closer"], parts["error"]], **QUIET)
    return inspected


def _wire_folded(tab: Inspector, folded: dict[str, gr.Accordion]) -> None:
    """Draw what is folded away once it is unfolded: on the first screen of most visitors it never is."""
    parts, hidden = tab.parts, {"show_progress": "hidden"}
    inputs = [tab.context.visitor, parts["view"], parts["layer"], parts["unfolded"]]
    for name, accordion in folded.items():
        accordion.expand(
            lambda *given, name=name: tab.unfold(name, *given),
            inputs,
            [parts[part] for part in ("unfolded", "error", *FOLDED[name])],
            **hidden,
            **COMPUTE,
            **PRIVATE,
        )
        accordion.collapse(
            lambda unfolded, name=name: tuple(other for other in unfolded if other != name),
            parts["unfolded"],
            parts["unfolded"],
            **QUIET,
        )


def _figures(view: InspectView) -> dict[str, Any]:
    """Draw fingerprints, strengths, similarities and codes; None where there are none."""
    inspection, figures = view.numbered, dict.fromkeys(("fingerprints", "similarities", "codes"))
    figures["strengths"] = strengths(inspection)
    if view.has_cores:
        figures["fingerprints"] = fingerprint(inspection, view.images, theme="light")
    if view.comparable:
        figures["similarities"] = similarities(inspection)
        figures["codes"] = None if inspection.codes is None else code_scatter(inspection.codes, inspection.names)
    return figures


def _pool_info(constant: bool) -> str:
    return (
        "Nothing to pool: one adapter is used for every image." if constant else "For images that come from one task."
    )
