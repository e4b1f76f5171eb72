"""The door of the page: what any event gets is checked by the kind of its component, before a function sees it.

A browser sends what the components hold; whoever posts by hand sends anything. A wrong type is one sentence for the
caller and no traceback in the log, and so is whatever Gradio refuses, such as a file that was never uploaded.
"""

import html
import math
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import gradio as gr
from gradio.exceptions import InvalidPathError
from gradio.utils import get_upload_folder

from metalora.runs.addresses import address_of, coming_from
from metalora.util.errors import InputError

from .gradio_costs import PlainSessions
from .request_checks import UNREADABLE, names_file

T = TypeVar("T")

MAX_TEXT = 10_000  # letters of a text
MAX_ITEMS = 1_000  # of a list
MAX_MESSAGE = 300  # letters of a message of Gradio's
PLEASE_CHECK = "Please check"  # title of a message about what a person did
FAILED = "The app failed here, which is not your fault: its log says why."


class CheckedBlocks(gr.Blocks):
    """Blocks whose events get values of the right kinds, and whose errors are always a sentence."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.default_config = PlainSessions(self)

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Check the values of an event, then let Gradio read them."""
        try:
            if len(inputs) == len(block_fn.inputs):  # otherwise Gradio says which are missing
                inputs = [checked(block, value) for block, value in zip(block_fn.inputs, inputs, strict=True)]
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)
        except InputError as error:
            raise sentence(error) from error
        except gr.Error as error:  # Gradio's own, of a choice that is not there and the like
            raise sentence(f"{_shortened(error.message, MAX_MESSAGE).rstrip('.')}.") from error
        except Exception as error:
            raise sentence(UNREADABLE) from error

    async def call_function(
        self,
        block_fn: Any,
        processed_input: list[Any],
        iterator: Any = None,
        requests: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call the function of an event, which may ask for the address; what a person can cause is a message."""
        try:
            with coming_from(_address(requests)):
                return await super().call_function(block_fn, processed_input, iterator, requests, *args, **kwargs)
        except (gr.Error, StopIteration, StopAsyncIteration):
            raise
        except InputError as error:
            raise sentence(error) from error
        except InvalidPathError as error:  # of a file in what the page says of an event
            raise sentence(UNREADABLE) from error
        except Exception as error:
            raise gr.Error(FAILED, title="Failed") from error


def _address(requests: Any) -> str:
    """Return the network address of a request of Gradio's; "" for a call that came by none."""
    request = requests[0] if isinstance(requests, list) else requests
    client, headers = getattr(request, "client", None), getattr(request, "headers", None)
    return address_of(getattr(client, "host", None), dict(headers.items()) if headers is not None else {})


def sentence(error: InputError | str) -> gr.Error:
    """Return a message on the page, which for programs is the error."""
    return gr.Error(html.escape(str(error), quote=False), title=PLEASE_CHECK, print_exception=False)


def event_value(event: gr.EventData, name: str, kind: type[T]) -> T:
    """Return what the page says of an event, such as the row that was clicked.

    Raises:
        InputError: it does not say that, or a value of another kind.
    """
    value = event._data.get(name) if isinstance(event._data, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(UNREADABLE)
    return value


def checked(block: Any, value: Any) -> Any:
    """Return the value that a component gets, "" for an empty text or menu and False for a box that is not ticked.

    Raises:
        InputError: it is of a kind that the component never holds.
    """
    name = getattr(block, "label", None) or type(block).__name__
    if isinstance(block, gr.Number | gr.Slider):
        _check_number(name, value, whole=block.precision == 0, empty=isinstance(block, gr.Number))
    elif isinstance(block, gr.Textbox):
        value = "" if value is None else value
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise InputError(f"{name} is {_shown(value)}: use a text of {MAX_TEXT:,} letters at most.")
    elif isinstance(block, gr.Checkbox):
        value = False if value is None else value
        if not isinstance(value, bool):
            raise InputError(f"{name} is {_shown(value)}: use true or false.")
    elif isinstance(block, gr.File):
        value = _uploaded(value)
    elif isinstance(block, gr.Dropdown | gr.Radio | gr.CheckboxGroup):
        _check_choice(name, block, value)
        if value is None and isinstance(block, gr.Dropdown) and block.allow_custom_value and not block.multiselect:
            value = ""  # of a menu that was emptied by hand
    elif names_file(value):  # Gradio would look for it, or fetch it
        raise InputError(UNREADABLE)
    return value


def _uploaded(value: Any) -> Any:
    """Return the files that a component gets, each as the path of a file that was uploaded and nothing else.

    Raises:
        InputError: one is no such file.
    """
    if isinstance(value, list) and len(value) <= MAX_ITEMS:
        return [_uploaded_file(file) for file in value]
    return None if value is None else _uploaded_file(value)


def _uploaded_file(file: Any) -> dict[str, Any]:
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        raise InputError(UNREADABLE)
    if path.startswith(("http://", "https://")):  # clients of MCP name an upload by its address, which is not asked
        path = unquote(path.partition("/gradio_api/file=")[2])
    folder = Path(get_upload_folder()).resolve()
    try:
        found = Path(path).resolve(strict=True)
    except (OSError, ValueError):
        raise InputError(UNREADABLE) from None
    if not (found.is_file() and folder in found.parents and found.parent != folder):
        raise InputError(UNREADABLE)
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _check_number(name: str, value: Any, *, whole: bool, empty: bool) -> None:
    if value is None and empty:  # what needs it says so
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (whole and value != int(value)):
        raise InputError(f"{name} is {_shown(value)}: use a {'whole ' if whole else ''}number.")


def _check_choice(name: str, block: Any, value: Any) -> None:
    """Check a choice, or several, of texts and numbers; those of a menu that takes others besides are texts."""
    several = isinstance(block, gr.CheckboxGroup) or bool(getattr(block, "multiselect", False))
    values = value if several and isinstance(value, list) else [] if value is None else [value]
    kinds = {type(choice) for _, choice in block.choices} or {str, int}  # of a menu that an event fills: either
    for one in values[:MAX_ITEMS]:
        known = type(one) in kinds and (not isinstance(one, str) or len(one) <= MAX_TEXT)
        if not known:
            raise InputError(f"{name} is {_shown(one)}: choose one of the list.")
    if len(values) > MAX_ITEMS:
        raise InputError(f"{name} has {len(values):,} values: choose {MAX_ITEMS:,} at most.")


def _shown(value: Any) -> str:
    return _shortened("empty" if value is None else repr(value), 60)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
