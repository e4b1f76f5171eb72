"""A walk through the app for the first visit: one line above the tabs, a step at a time, that can be skipped."""

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from .components import Message
from .context import QUIET, Context


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        tab: id of the tab that it shows.
        place: id of the element that it points at.
        text: what is to be seen or done there.
    """

    tab: str
    place: str
    text: str


STEPS = (
    Step("look", "look-images", "Choose an example, or drop a photograph of your own."),
    Step("look", "look-adapter", "This adapter was generated for the image alone. Turn a knob above, and it changes."),
    Step("look", "look-result", "The same image with the core of another one: choose whose, and compare the rows."),
    Step("look", "look-all", "Eight images of one source say more than one: unfold this, upload them and tick Pool."),
    Step("train", "tabs", "Now train an adapter: Tiny takes about a minute, and its run is then shown in every tab."),
)
POINT = """
(step) => {
  document.querySelectorAll('.toured').forEach((part) => part.classList.remove('toured'));
  const place = document.getElementById(PLACES[step]);
  if (!place) return;
  place.classList.add('toured');
  place.scrollIntoView({block: 'nearest', behavior: 'smooth'});
}
""".replace("PLACES", json.dumps([step.place for step in STEPS]))
OVER = -1  # in place of a step


def tour(context: Context, begin: gr.Button, seen: gr.BrowserState) -> Any:
    """Lay out the line; return a function that shows it after an event, unless the visitor has seen it."""
    step = gr.Number(OVER, visible="hidden", show_label=False)
    with gr.Row(visible=False, elem_classes="tour") as line:
        text = Message(kind="status")
        onward = gr.Button("Next", size="sm", scale=0, min_width=80)
        skip = gr.Button("Skip", size="sm", scale=0, min_width=80)
    outputs = [step, line, text, onward, context.tabs, seen]

    def show(number: int) -> list[Any]:
        if not 0 <= number < len(STEPS):
            return [OVER, gr.update(visible=False), "", gr.skip(), gr.skip(), "seen"]
        one, last = STEPS[number], number == len(STEPS) - 1
        said = f"{number + 1} of {len(STEPS)}. {one.text}"
        tab = gr.Tabs(selected=one.tab) if number else gr.skip()  # a link has chosen the first one
        return [number, gr.update(visible=True), said, "Done" if last else "Next", tab, gr.skip()]

    def show_next(number: float | None) -> list[Any]:
        return show(int(number or 0) + 1)

    begun = begin.click(lambda: [*show(0)[:4], gr.Tabs(selected=STEPS[0].tab), gr.skip()], None, outputs, **QUIET)
    for shown in (begun, onward.click(show_next, step, outputs, **QUIET)):
        shown.then(None, step, None, js=POINT)
    skip.click(lambda: show(OVER), None, outputs, **QUIET).then(None, step, None, js=POINT)

    def greet(kept: str | None) -> list[Any]:
        return [gr.skip()] * len(outputs) if kept else show(0)

    return lambda opened: opened.then(greet, seen, outputs, **QUIET)
