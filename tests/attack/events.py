"""Hostile calls of the app's events, public and private ones, made from the page's own configuration."""

import math
from collections.abc import Iterator
from typing import Any

from attack.target import MARKUP, Answer, Attack, Target, file_data

DEEP: Any = 1
for _ in range(30):
    DEEP = [DEEP]
LONG = "x" * 50_000
RUN = "20260101-000000-000000-0123456789abcdef"  # of nobody
FORGED = file_data("/etc/passwd")
JUNK = {
    "null": None,
    "nested lists": DEEP,
    "an object": {"a": {"b": [1]}, "__type__": "update"},
    "a forged file": FORGED,
    "a file of the web": file_data("http://127.0.0.1:9/x.zip", url="http://127.0.0.1:9/x.zip"),
    "markup": MARKUP,
    "a path": "../../../../etc/passwd",
    "NaN": math.nan,
    "a huge number": 10**30,
    "a negative number": -1,
    "true": True,
    "a long text": LONG,
    "a lone surrogate": "\ud800",
    "a null byte": "a\0b",
}
ADAPTERS = [
    "run:",
    f"run:{RUN}",
    "run:../../x",
    "/etc",
    "resnet20/../../etc",
    "resnet20/lora\0",
    "resnet20/nope",
    MARKUP,
]
NAMES = ["", "../digits", "primary/../../x", "/etc/passwd", "primary/main\0", MARKUP, "C:\\x", "%2e%2e%2f"]
SETTINGS = {
    "Method": ["", "lora; rm -rf /", MARKUP, "../lora"],
    "Backbone, bundled or of timm": [
        "../../etc/passwd",
        "hf-hub:evil/model",
        "local-dir:/etc",
        "resnet20@/etc/passwd",
        "hf:x/y",
    ],
    "Rank R": [0, -1, 10**9, 2.5, "4; rm", [4], True, math.nan],
    "Suite": [
        "folder:/etc",
        "table:/etc/passwd",
        "../digits",
        "upload:../../x",
        f"upload:{'0' * 24}",
        "digits:/etc",
        MARKUP,
    ],
    "Steps": [0, -5, 10**12, math.inf, "10", None],
    "Images in a step": [0, 10**9, 1.5],
    "Learning rate": [0, 2, -1, math.nan, "x", 1e308],
    "Random seed": [-1, 2**40, 0.5],
    "Max queries": [0, 10**12],
    "Adapter to start from": ["run:nobodys", "/etc", "../..", f"run:{RUN}", MARKUP],
    "Your visitor's id": ["../../etc", "x" * 33, "' or 1=1", MARKUP, "\ud800" * 32],
}


def junk_for_every_event(target: Target) -> Iterator[Attack]:
    """Yield calls of every event with values of wrong kinds in all places."""
    kinds = list(JUNK)
    for i, event in enumerate(target.events):
        for kind in (kinds[i % len(kinds)], kinds[(3 * i + 5) % len(kinds)]) if event["inputs"] else ():
            value = JUNK[kind]
            yield Attack("events", f"{event['api_name']} of {kind}", _call(event, [value] * len(event["inputs"])))


def public_events(target: Target) -> Iterator[Attack]:
    """Yield calls of every public event with each kind of wrong value, and too few and too many."""
    for event in target.events:
        if event["api_visibility"] != "public" or not event["inputs"]:
            continue
        name, defaults = event["api_name"], _defaults(target, event)
        for kind, value in JUNK.items():
            yield Attack("public events", f"{name} of {kind}", _call(event, [value, *defaults[1:]]))
        yield Attack("public events", f"{name} of nothing", _call(event, []))
        yield Attack("public events", f"{name} of too much", _call(event, [*defaults, *[1] * 50]))


def settings_of_runs(target: Target) -> Iterator[Attack]:
    """Yield runs with settings that cannot be."""
    event = target.event("start_run")
    labels = [target.components[number]["props"]["label"] for number in event["inputs"]]
    for label, values in SETTINGS.items():
        place = next(i for i, text in enumerate(labels) if text.startswith(label))
        for value in values:
            data = _defaults(target, event)
            data[place] = value
            yield Attack("settings of a run", f"{label} {str(value)[:30]!r}", _call(event, data))


def names_of_others(target: Target) -> Iterator[Attack]:
    """Yield adapters, results, runs and uploads that are nobody's, or another one's."""
    for name in ("inspect_images", "embed"):
        for adapter in ADAPTERS:
            yield Attack("names", f"{name} with {adapter!r}", _call(target.event(name), [[], adapter, ""]))
    for name in ("compare", "measured_result"):
        for result in NAMES:
            yield Attack("names", f"{name} of {result!r}", _call(target.event(name), [result]))
    for name in ("run_status", "stop_run", "delete_upload"):
        for one in (RUN, "0" * 24, "../../x", "", "*", MARKUP):
            for visitor in ("", "0" * 32):
                yield Attack("names", f"{name} of {one!r} by {visitor!r}", _call(target.event(name), [one, visitor]))


def clicks(target: Target) -> Iterator[Attack]:
    """Yield what the page says of a click, in kinds that no click has."""
    said = [
        None,
        "x",
        [],
        {},
        {"run": 1},
        {"runs": "all"},
        {"rows": [-1, "x"]},
        {"row": 10**12},
        {"index": "0", "value": 1},
    ]
    for event in target.events:
        if event["collects_event_data"]:
            for value in said:
                data = _defaults(target, event)
                yield Attack("clicks", f"{event['api_name']} says {value}", _call(event, data, event_data=value))


def _defaults(target: Target, event: dict[str, Any]) -> list[Any]:
    return [target.components[number]["props"].get("value") for number in event["inputs"]]


def _call(event: dict[str, Any], data: list[Any], **body: Any) -> Any:
    def send(target: Target) -> Answer:
        return target.call(event, data, **body)

    return send
