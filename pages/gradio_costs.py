"""What Gradio does for every event, session and second that nobody needs here, left out.

No public setting does these things. Where another Gradio lacks the private names its own way stays; tests/pages tells.
"""

from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig


def quieten(demo: gr.Blocks, target: gr.Number) -> None:
    """Let events that show no progress tell theirs to one hidden component.

    At each status of any event the page copies the whole state of every component that ever had one, and of all that
    lies in it: with hundreds of outputs that is a tenth of a second, many times for each click.
    """
    for event in demo.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = [target]


# Seconds that Gradio's queue sleeps between looks for new events, and for their progress.
POLLING = {"sleep_when_free": 0.05, "progress_update_sleep_when_free": 0.1}


def rest_queue(demo: gr.Blocks) -> None:
    """Let an idle queue sleep longer than Gradio's 1 and 10 ms, which take 5 % of a core."""
    queue = getattr(demo, "_queue", None)
    if all(hasattr(queue, name) for name in POLLING):
        for name, seconds in POLLING.items():
            setattr(queue, name, seconds)


class PlainSessions(BlocksConfig):
    """The components and events of a page, whose sessions keep no descriptions of components.

    A session describes each of 429 components when it begins, and again after each update, for Gradio's links to a
    state of the page, which are not used here: 92 ms and 0.7 MB for every visitor.
    """

    def __copy__(self) -> BlocksConfig:
        """Return what a session starts with."""
        session: Any = super().__copy__()  # type: ignore[no-untyped-call]
        session.config_for_block = lambda *_: {}
        return session
