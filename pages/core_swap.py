"""Look, folded away: an image with another one's core, or with one in between."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from metalora.util.errors import InputError
from metalora.views.app_state import AppState
from metalora.views.inspect import MAX_IMAGES, swap_view
from metalora.views.inspect_view import InspectView

from .components import Message, caption
from .context import COMPUTE, PRIVATE, Context

FORGOTTEN = "The app was restarted and has forgotten these images: reload the page."
WAITING = "Swapping waits until the images have been inspected."


@dataclass(frozen=True)
class CoreSwap:
    """What this part answers.

    Attributes:
        controls: components that `reset` sets.
        inputs: components that `swap_core` takes.
        outputs: components that `swap_core` sets.
    """

    app_state: AppState
    controls: list[Any]
    inputs: list[Any]
    outputs: list[Any]

    def reset(self, view: InspectView) -> list[Any]:
        """Offer the images of a new view."""
        enabled = not view.swap_obstacle
        choices = [(name, i) for i, name in enumerate(view.names)]
        menus = [gr.update(choices=choices, value=i, interactive=enabled) for i in (0, min(1, len(choices) - 1))]
        return [*menus, gr.update(interactive=enabled), view.swap_obstacle]

    def swap_core(
        self, token: str, view: InspectView | None, receiver: int | None, donor: int | None, fraction: float
    ) -> list[Any]:
        """Say what the swap does, and return the image's neighbours after it; nothing where no core can be swapped."""
        if view is None or view.swap_obstacle or receiver is None or donor is None:
            return ["", ""]
        try:
            return [*swap_view(self.app_state, token, view, receiver, donor, fraction)]
        except InputError as problem:
            return [str(problem), ""]

    def swap_on_demand(self, token: str, view: InspectView | None, *chosen: Any) -> list[Any]:
        """Do the same for a person, who must be told when the view is gone."""
        return [FORGOTTEN, ""] if view is None else self.swap_core(token, view, *chosen)


def core_swap(context: Context, view: gr.State) -> CoreSwap:
    """Lay out the controls for the `InspectView` in `view` and wire them."""
    with gr.Row():
        # All places at once: a server that was restarted must accept what the page still shows.
        places = [(f"{i + 1}.", i) for i in range(MAX_IMAGES)]
        receiver = gr.Dropdown(places, value=None, label="Image", interactive=False, min_width=180)
        donor = gr.Dropdown(places, value=None, label="Core from", interactive=False, min_width=180)
        fraction = gr.Slider(0, 1, 1, step=0.05, label="Fraction of that core", interactive=False, min_width=220)
    chosen, why = [receiver, donor, fraction], Message(WAITING)
    outputs = [Message(kind="status"), gr.HTML(label="Neighbours after the swap")]
    caption(
        "Fraction 1 is a swap: the image is embedded with the donor's core. Between 0 and 1 the core is blended on the "
        "straight line from its own to the donor's. Distance: 0 is the same place, 2 the opposite one."
    )
    swap = CoreSwap(context.app_state, [*chosen, why], [context.visitor, view, *chosen], outputs)
    gr.on(
        [receiver.input, donor.input, fraction.change],
        swap.swap_on_demand,
        swap.inputs,
        swap.outputs,
        trigger_mode="always_last",
        show_progress="hidden",
        **COMPUTE,
        **PRIVATE,
    )
    return swap
