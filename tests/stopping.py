"""A training that is left early, as by a person who stops it."""

from collections.abc import Generator
from typing import Any


def stop_after(events: Generator[Any, Any, Any], step: int) -> None:
    """Train until so many steps are done, and leave the loop there, which saves."""
    for event in events:
        if event.step == step:
            events.close()
            return
    raise AssertionError(f"The training has no step {step}.")
