"""Text and numbers on the page: lines of words, which are never read as HTML, a progress bar, error messages."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import encode_pil_to_bytes, hash_bytes, save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from metalora.util.errors import InputError
from metalora.util.files import write_whole

from .checked_blocks import sentence
from .context import QUIET, Context

_SET_TEXT = """
const line = element.querySelector('p');
const show = () => {
  line.textContent = props.value || '';
  line.hidden = !props.value;
};
show();
watch('value', show);
"""


class Message(gr.HTML):
    """A line of text, hidden while it is empty. `kind` is "error", "note" or "status"."""

    def __init__(self, value: str = "", *, kind: str = "note", **settings: Any):
        role = "alert" if kind == "error" else "status"
        super().__init__(
            value=value,
            html_template=f'<p class="message {kind}" role="{role}"></p>',
            js_on_load=_SET_TEXT,
            apply_default_css=False,
            **settings,
        )


_SET_FRACTION = """
const meter = element.querySelector('progress');
const show = () => {
  const fraction = parseFloat(props.value);
  meter.hidden = Number.isNaN(fraction);
  meter.value = fraction || 0;
};
show();
watch('value', show);
"""


class Meter(gr.HTML):
    """A bar that shows a fraction from 0 to 1; hidden while there is none ("")."""

    def __init__(self, label: str, **settings: Any):
        super().__init__(
            value="",
            html_template=f'<progress class="meter" max="1" aria-label="{label}"></progress>',
            js_on_load=_SET_FRACTION,
            apply_default_css=False,
            **settings,
        )


def remember(context: Context, form: gr.BrowserState, fields: list[Any]) -> Any:
    """Fill the fields, when the page starts, with what the visitor's browser kept of them; return the event."""

    def restore(values: list[Any] | None) -> list[Any]:
        return values if isinstance(values, list) and len(values) == len(fields) else [gr.skip()] * len(fields)

    return context.load(restore, form, fields, **QUIET)


def served(file: Path) -> str:
    """Return a copy of a file in Gradio's temporary folder, from which it serves files wherever the workspace is."""
    return save_file_to_cache(file, get_upload_folder())


def served_image(image: Image.Image) -> str:
    """Return the file of an image in Gradio's temporary folder, written once and whole.

    Gradio writes an image again at every event, while others are being sent the same file.
    """
    content = encode_pil_to_bytes(image, "webp")
    file = Path(get_upload_folder()) / hash_bytes(content) / "image.webp"
    if not file.exists():
        write_whole((file, lambda temporary: temporary.write_bytes(content)))
    return str(file)


def caption(text: str) -> gr.Markdown:
    """Add the line below a figure that says how to read it."""
    return gr.Markdown(text, elem_classes="caption")


def show_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show what a person can cause as a message on the page (for API callers: as the error)."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _as_gradio_error():
                yield from function(*args, **kwargs)

        return steps

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _as_gradio_error():
            return function(*args, **kwargs)

    return called


@contextlib.contextmanager
def _as_gradio_error() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise sentence(error) from error
