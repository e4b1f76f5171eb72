"""Inspect: the adapters that pictures get, and what these do to them."""

from functools import partial
from typing import Any

import gradio as gr

from metalora.plots import codes, core_values, fingerprint, similarities, strengths, update_weights
from metalora.util.errors import InputError
from metalora.views.app_state import DEFAULT, RUN, AppState
from metalora.views.inspect import EXAMPLES, MOST, InspectView, constant_update, inspect_view, save_inspection
from pages.context import COMPUTE, PRIVATE, QUIET, Context
from pages.inspect_exchange import FORGOTTEN, exchange_panel
from pages.plot import Plot
from pages.words import Message, show_errors

READ_FINGERPRINT = (
    "A block per picture. Cells: what was generated, a column per layer, as the difference from the mean of the "
    "pictures shown (from the neutral core where there is but one); one scale for all. Strip below: how strong the "
    "update is in each layer, ‖ΔW‖ / ‖W‖ (Frobenius norms)."
)
READ_PLACES = (
    "Five nearest gallery pictures by cosine, nearest first, and the class they vote for. The gallery is of the suite "
    "that the adapter was trained on: a picture of anything else gets one of its classes all the same. Where the code "
    "names factors, the most probable value of each is what was read off the picture."
)
READ_CORES = "The core of one layer for each picture, by its number: bars c[r] in CP, cells C[r2, r0] in TR; one scale."
READ_UPDATE = (
    "ΔW of one layer, the same for every image: a row per output channel, a column per input channel (and place in the "
    "kernel); white is no change of the weight."
)
READ_STRENGTHS = (
    "A row per picture, numbered as above, a column per layer: 0 is no update, 1 is one as large as the weight."
)
READ_SIMILARITIES = "Cosine between two pictures' cores, all layers side by side: 1 is the same adapter."
READ_CODES = "The mapping net's codes on their first two principal components: what lies close gets a similar core."
NO_CORES = "This method generates nothing, so there is no fingerprint, no core and no code to draw."


def build(context: Context) -> None:
    """Lay out the tab and wire its events."""
    app_state, lent = context.app_state, context.app_state.wrap_for_gpu(inspect_view)
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            adapter = gr.Dropdown(
                _bundled(app_state), value=DEFAULT, label="Adapter", interactive=True, allow_custom_value=True
            )
            files = gr.File(file_count="multiple", label=f"Your pictures, up to {MOST}; none: examples", height=160)
            pool = gr.Checkbox(label="Pool: one core for all pictures", info=_pool_info(True))
            status = Message("Looking at the example pictures …", kind="status")
            error, skipped = Message(kind="error"), Message(kind="error")
            with gr.Row():
                downloads = [
                    gr.DownloadButton(f"Download {kind}", size="sm", interactive=False, min_width=120)
                    for kind in ("CSV", "npz")
                ]
            gr.Markdown("Cores and strengths of the pictures shown; ready when they are.", elem_classes="caption")
        with gr.Column(scale=3, min_width=320):
            none = Message(NO_CORES, visible=False)
            with gr.Column(min_width=320) as emblem:
                prints = Plot(label="Fingerprints: the whole adapter of each picture", height=500, follows=True)
                _caption(READ_FINGERPRINT)
    gr.Markdown("### Nearest gallery pictures, before and after adaptation")
    places = gr.HTML(label="Nearest gallery pictures")
    _caption(READ_PLACES)
    gr.Markdown("### Strength of the updates")
    strips = Plot(label="Strength of each layer's update", height=246, follows=True)
    _caption(READ_STRENGTHS)
    layer, closer, caption, generated, alike, spread = _closer()
    seen = gr.State(None)
    panel = exchange_panel(context, seen)
    groups = [none, emblem, generated]
    plots = [prints, strips, alike, spread]
    outputs = [seen, status, error, skipped, pool, places, *groups, *plots, layer, closer, caption, *panel.controls]

    def examine(token: str, name: str, files: list[str] | None, pool: bool, drawn: str | None) -> list[Any]:
        """Everything that is shown of the pictures; what went wrong leaves the earlier ones in place."""
        try:
            if files:
                found, table = lent(token, name, files, pool)
            else:  # examples spend nobody's minutes of a lent GPU
                found, table = inspect_view(app_state, token, name, EXAMPLES, pool)
        except InputError as problem:
            return [gr.skip(), gr.skip(), str(problem), *[gr.skip()] * (len(outputs) - 3)]
        drawn = drawn if drawn in found.layers else found.strongest
        pooling = gr.update(interactive=not found.constant, info=_pool_info(not found.constant))
        return [
            found,
            found.headline,
            "",
            found.omitted,
            pooling,
            table,
            *(gr.update(visible=shown) for shown in (not found.has_cores, found.has_cores, found.has_cores)),
            *_figures(found),
            gr.update(choices=found.layers, value=drawn),
            _layer(app_state, token, found, drawn),
            READ_CORES if found.has_cores else READ_UPDATE,
            *panel.reset(found),
        ]

    gr.on(
        [context.settled.change, adapter.change, files.change, pool.input],
        examine,
        [context.visitor, adapter, files, pool, layer],
        outputs,
        trigger_mode="always_last",
        show_progress_on=[status],
        **COMPUTE,
        **PRIVATE,
    ).then(panel.exchange, panel.inputs, panel.outputs, show_progress="hidden", **COMPUTE, **PRIVATE).then(
        show_errors(_files(app_state)), [context.visitor, seen], downloads, show_progress="hidden", **COMPUTE, **PRIVATE
    )
    layer.input(partial(_redraw, app_state), [context.visitor, seen, layer], [closer, error], **QUIET)
    _menu(context, adapter)


def _closer() -> list[Any]:
    """One layer's cores or update; how alike the pictures' cores are, and their codes."""
    gr.Markdown("### One layer, closely")
    # Custom values, so that a server which was restarted and knows no choices any more can say so.
    layer = gr.Dropdown([], label="Layer", interactive=True, allow_custom_value=True)
    closer = Plot(label="Core of the chosen layer for each picture, or its constant update", height=240, follows=True)
    caption = Message(READ_CORES)
    with gr.Row() as generated:
        with gr.Column(min_width=320):
            alike = Plot(label="Cosine similarity between the pictures' cores", height=316, follows=True)
            _caption(READ_SIMILARITIES)
        with gr.Column(min_width=320):
            spread = Plot(label="The pictures' codes", height=320, follows=True)
            _caption(READ_CODES)
    return [layer, closer, caption, generated, alike, spread]


def _files(app_state: AppState):
    """What the download buttons give."""

    def written(token: str, found: InspectView | None) -> list[Any]:
        if found is None:
            return [gr.skip(), gr.skip()]
        return [gr.update(value=str(path), interactive=True) for path in save_inspection(app_state, token, found)]

    return written


def _layer(app_state: AppState, token: str, found: InspectView, layer: str) -> Any:
    """One layer: the cores of the pictures, or the update that is the same for all."""
    if found.has_cores:
        return core_values(found.numbered, layer)
    return update_weights(constant_update(app_state, token, found, layer))


def _redraw(app_state: AppState, token: str, found: InspectView | None, layer: str) -> list[Any]:
    """One layer, or a sentence."""
    if found is None:
        return [gr.skip(), FORGOTTEN]
    try:
        return [_layer(app_state, token, found, layer), ""]
    except InputError as problem:
        return [gr.skip(), str(problem)]


def _figures(found: InspectView) -> list[Any]:
    """Fingerprints, strengths, similarities, codes."""
    inspection = found.numbered
    strips = strengths(inspection)
    if not found.has_cores:
        return [None, strips, None, None]
    spread = None if inspection.codes is None else codes(inspection.codes, inspection.names)
    return [fingerprint(inspection, found.images, theme="light"), strips, similarities(inspection), spread]


def _menu(context: Context, adapter: gr.Dropdown) -> None:
    """Keep the list of adapters; the active run's is chosen where it has one."""
    app_state = context.app_state

    def known(token: str, name: str) -> Any:
        choices = app_state.adapters(token)
        value = name if name in choices else DEFAULT
        return gr.update(choices=[(title, name) for name, title in choices.items()], value=value)

    def of_run(token: str, run: str | None, name: str) -> Any:
        own = f"{RUN}{run}"
        return known(token, own if own in app_state.adapters(token) else name)

    gr.on([context.load, context.adapters.change], known, [context.visitor, adapter], adapter, **QUIET)
    context.run.input(of_run, [context.visitor, context.run, adapter], adapter, **QUIET)


def _bundled(app_state: AppState) -> list[tuple[str, str]]:
    return [(title, name) for name, title in app_state.adapters(app_state.ensure_visitor(None)).items()]


def _pool_info(able: bool) -> str:
    return "For pictures that come from one task." if able else "Nothing to pool: one adapter serves every image."


def _caption(words: str) -> None:
    gr.Markdown(words, elem_classes="caption")
