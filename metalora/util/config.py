"""Settings as dataclasses: to and from plain values, and the words that document their fields."""

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from metalora.util.errors import InputError, choices
from metalora.util.renamed import upgrade_settings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def to_plain(config: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, nested ones too, as JSON gives them back: lists in place of tuples."""
    return json.loads(json.dumps(asdict(config)))


def from_plain(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Build a dataclass from what `to_plain` returned, or an earlier version of it.

    Fields that are missing keep their defaults.

    Raises:
        InputError: `values` is no mapping, has an unknown field, or a value that the dataclass refuses.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{kind.__name__} is {values!r}: give an object with its settings.")
    names, types, kwargs = {field.name for field in fields(kind)}, get_type_hints(kind), {}
    for name, value in upgrade_settings(values).items():
        if name not in names:
            raise InputError(f"Unknown setting {name!r} of {kind.__name__}: use {choices(name, sorted(names))}.")
        if is_dataclass(types[name]) and not is_dataclass(value):
            value = from_plain(types[name], value)
        kwargs[name] = tuple(value) if isinstance(value, list) else value
    try:
        config = kind(**kwargs)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError) as error:  # a field is missing, or of another kind
        raise InputError(f"These settings cannot be read ({error}): write them again.") from error
    for name, hint in types.items():
        if name in names and not _fits(getattr(config, name), hint):
            raise InputError(f"{name} is {getattr(config, name)!r}: give a value of another kind.")
    return config


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of the kind that a field's annotation says."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def field_help(kind: type) -> dict[str, str]:
    """Return the words on every field in the "Attributes:" section of a dataclass's docstring."""
    section = re.search(r"\nAttributes:\n(.*?)(?=\n\S|\Z)", inspect.getdoc(kind) or "", re.DOTALL)
    entries = re.findall(r"^    (\w+): (.+?)(?=^    \w+: |\Z)", section[1] if section else "", re.DOTALL | re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in entries}
