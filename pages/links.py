"""Links: a query string that names the tab that is shown and what its fields hold.

    ?tab=look&adapter=resnet20/lora&blur=6

A tab's `build` returns the fields that a link restores, by their names in it.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import parse_qsl, urlencode

import gradio as gr

from metalora.views.app_state import AppState

from .context import QUIET, Context

Fields = dict[str, Any]  # name in the link → component

# The address bar shows the link, so that it can be copied where a page may not write to the clipboard.
COPY = """
(query) => {
  const link = location.origin + location.pathname + query;
  history.replaceState(null, '', link);
  if (navigator.clipboard) navigator.clipboard.writeText(link).catch(() => {});
}
"""
COPIED = "The address of this page is now a link to this view, and is copied."
READ_ADDRESS = "(token) => [token, location.search]"


@dataclass(frozen=True)
class Links:
    """What links say.

    Attributes:
        tabs: title → fields.
    """

    app_state: AppState
    tabs: dict[str, Fields]

    @property
    def components(self) -> list[Any]:
        """All fields, tab by tab."""
        return [field for fields in self.tabs.values() for field in fields.values()]

    def compose(self, title: str, *values: Any) -> str:
        """Return the query of the tab that is shown, with what its fields hold where that is not the default."""
        held = iter(values)
        query = {"tab": title.lower()}
        for tab, fields in self.tabs.items():
            for (name, field), value in zip(fields.items(), held, strict=False):
                if tab == title and value is not None and value != getattr(field, "value", None):
                    query[name] = value if isinstance(value, str) else json.dumps(value)
        return f"?{urlencode(query, safe='/:,@')}"

    def open(self, token: str | None, query: str) -> tuple[str | None, dict[str, Any], list[str]]:
        """Return the title of the tab that a link names, the values of its fields, and what it names in vain."""
        named = dict(parse_qsl(query.removeprefix("?")))
        wanted = named.pop("tab", "")
        title = next((title for title in self.tabs if title.lower() == wanted), None)
        problems = [f"There is no tab {wanted!r}."] if wanted and title is None else []
        values = {}
        for name, field in self.tabs.get(title or "", {}).items():
            if name in named:
                try:
                    values[name] = self._value(token, name, field, named[name])
                except ValueError as error:
                    problems.append(str(error))
        return title, values, problems

    def _value(self, token: str | None, name: str, field: Any, text: str) -> Any:
        """Return the value of a field.

        Raises:
            ValueError: it cannot have this one; the message says so.
        """
        value = _parsed(field, text)
        offered = self._offered(token, name, field)
        chosen = value if isinstance(value, list) else [value]
        if offered is not None and any(one not in offered for one in chosen):
            raise ValueError(f"There is no {name} {text!r} here.")
        limits = (getattr(field, "minimum", None), getattr(field, "maximum", None))
        low, high = (sign * math.inf if limit is None else limit for sign, limit in zip((-1, 1), limits, strict=True))
        if isinstance(value, float) and not low <= value <= high:
            raise ValueError(f"{name} cannot be {text}.")
        return value

    def _offered(self, token: str | None, name: str, field: Any) -> list[Any] | None:
        """Return what a menu offers this visitor; None where it takes anything, or knows that only later."""
        if name == "adapter":
            return [*self.app_state.bundled_adapters(), *(self.app_state.adapters(token) if self._knows(token) else ())]
        if name == "run":
            return list(self.app_state.runs(token)) if self._knows(token) else []
        choices = getattr(field, "choices", None)
        if not choices or getattr(field, "allow_custom_value", False):
            return None
        return [value for _, value in choices]

    def _knows(self, token: str | None) -> TypeGuard[str]:
        return bool(token) and self.app_state.knows(token or "")


def _parsed(field: Any, text: str) -> Any:
    """Return a text as the value of a component.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(field, gr.Slider | gr.Number):
        return _number(text, float)
    if isinstance(field, gr.State):  # a position
        return _number(text, int)
    if isinstance(field, gr.Checkbox):
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false.")
        return text == "true"
    if isinstance(field, gr.CheckboxGroup) or getattr(field, "multiselect", False):
        return _list(text) if text.startswith("[") else text.split(",")
    numbers = {str(value): value for _, value in getattr(field, "choices", None) or []}
    return numbers.get(text, text)


def _number(text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a{' whole' if kind is int else ''} number.") from None


def _list(text: str) -> list[Any]:
    try:
        return list(json.loads(text))
    except ValueError:
        raise ValueError(f"{text!r} is not a list.") from None


def wire_links(context: Context, demo: gr.Blocks, tabs: dict[str, Fields], copy: gr.Button, said: gr.HTML) -> Any:
    """Open the link that the page came with, and compose one on demand; return the event of the former."""
    links, query = Links(context.app_state, tabs), gr.Textbox(visible="hidden", show_label=False)

    def open_link(token: str | None, search: str) -> dict[Any, Any]:
        title, values, problems = links.open(token, search)
        updates: dict[Any, Any] = {said: ""}
        if problems:
            updates[said] = f"{' '.join(problems)} The link shows the rest."
        if title is None:
            return updates
        updates |= {context.tab: title, context.tabs: gr.Tabs(selected=title.lower())}
        if title.lower() in context.forms:  # which fills itself, from what the browser kept and the link
            return updates | {context.link: {title.lower(): values}}
        return updates | {tabs[title][name]: value for name, value in values.items()}

    composed = copy.click(links.compose, [context.tab, *links.components], query, **QUIET)
    composed.then(None, query, None, js=COPY).then(lambda: COPIED, None, said, **QUIET)
    outputs = [said, context.tab, context.tabs, context.link, *links.components]
    return demo.load(open_link, [context.visitor, query], list(dict.fromkeys(outputs)), js=READ_ADDRESS, **QUIET)
