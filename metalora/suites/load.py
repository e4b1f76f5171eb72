"""Load a suite by its settings or by its name."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from metalora.suites.config import SuiteConfig
from metalora.suites.development import develop
from metalora.suites.images import Progress
from metalora.suites.registry import SUITES, split_name
from metalora.suites.suite import Suite
from metalora.util.errors import InputError


def load_suite(
    name: str | Path | SuiteConfig = "digits", *, seed: int = 0, progress: Progress | None = None, **settings: Any
) -> Suite:
    """Load the suite that `SuiteConfig(name, **settings)` describes.

    Args:
        name: A key of `SUITES`, such as "digits", "folder:PATH" or "table:FILE"; the path of a folder or archive;
            or the settings as a whole.
        seed: Decides every split.
        progress: Called with the number of images read so far, and the total if known.
        settings: Fields of `SuiteConfig`.

    Raises:
        InputError: Unknown name, a bad value, or images that cannot be used.
    """
    if isinstance(name, Path):
        name = f"folder:{name}"
    config = replace(name, **settings) if isinstance(name, SuiteConfig) else SuiteConfig(name, **settings)
    key, path = split_name(config.name)
    if key not in SUITES or (key.endswith(":") and not path):
        known = [f"{key}PATH" if key.endswith(":") else key for key in SUITES]
        raise InputError(f"Unknown suite {config.name!r}: use {', '.join(known[:-1])} or {known[-1]}.")
    build = SUITES[key].build
    if isinstance(build, str):
        module, _, function = build.partition(":")
        build = getattr(import_module(module), function)
    suite = replace(build(config, seed, progress), name=config.name)
    return develop(suite) if config.development else suite
