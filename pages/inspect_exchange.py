"""Inspect, last part: a picture with another one's core, or with one in between."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.util.errors import InputError
from metalora.views.inspect import MOST, InspectView, exchange, told
from pages.context import COMPUTE, PRIVATE, Context
from pages.words import Message

READ = (
    "Share 1 is a swap: the picture is embedded with the donor's core. Between 0 and 1 the core is blended on the "
    "straight line from its own to the donor's. Distance: 0 is the same place, 2 the opposite one."
)
FORGOTTEN = "Inspect the pictures again, by reloading the page: the app was restarted and has forgotten them."
WAITING = "Exchanging waits until the pictures have been looked at."


@dataclass(frozen=True)
class Panel:
    """What the tab needs of this part.

    Attributes:
        controls: what `reset` sets, after new pictures.
        exchange: the event's function, from `inputs` to `outputs`.
    """

    controls: list[Any]
    reset: Callable[[InspectView], list[Any]]
    exchange: Callable[..., list[Any]]
    inputs: list[Any]
    outputs: list[Any]


def exchange_panel(context: Context, seen: gr.State) -> Panel:
    """Lay out the controls and wire them."""
    gr.Markdown("### Swap and blend cores")
    with gr.Row():
        # All places at once: a server that was restarted must know what the page still shows.
        places = [(f"{i + 1}.", i) for i in range(MOST)]
        receiver = gr.Dropdown(places, value=None, label="Picture", interactive=False, min_width=180)
        donor = gr.Dropdown(places, value=None, label="Core from", interactive=False, min_width=180)
        share = gr.Slider(0, 1, 1, step=0.05, label="Share of that core", interactive=False, min_width=220)
    why, result = Message(WAITING), Message(kind="status")
    place = gr.HTML(label="Place after the exchange")
    gr.Markdown(READ, elem_classes="caption")
    inputs, outputs = [context.visitor, seen, receiver, donor, share], [result, place]

    def reset(found: InspectView) -> list[Any]:
        able = not found.fixed
        choices = [(name, i) for i, name in enumerate(found.names)]
        places = [gr.update(choices=choices, value=i, interactive=able) for i in (0, min(1, len(choices) - 1))]
        return [*places, gr.update(interactive=able), found.fixed]

    def swap_core(
        token: str, found: InspectView | None, receiver: int | None, donor: int | None, share: float
    ) -> list[Any]:
        if found is None or found.fixed or receiver is None or donor is None:
            return ["", ""]
        try:
            given, table = exchange(context.app_state, token, found, receiver, donor, share)
        except InputError as problem:
            return [str(problem), ""]
        return [told(found, receiver, donor, share, given), table]

    def asked(token: str, found: InspectView | None, *chosen: Any) -> list[Any]:
        return [FORGOTTEN, ""] if found is None else swap_core(token, found, *chosen)

    gr.on(
        [receiver.input, donor.input, share.change],
        asked,
        inputs,
        outputs,
        trigger_mode="always_last",
        show_progress="hidden",
        **COMPUTE,
        **PRIVATE,
    )
    return Panel([receiver, donor, share, why], reset, swap_core, inputs, outputs)
