"""Load a suite by its settings or by its name."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from metalora.suites.config import SuiteConfig
from metalora.suites.development import develop
from metalora.suites.images import Progress
from metalora.suites.registry import SUITES, check_name, split_name
from metalora.suites.suite import Suite


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
    check_name(config.name)
    build = SUITES[split_name(config.name)[0]].build
    if isinstance(build, str):
        module, _, function = build.partition(":")
        build = getattr(import_module(module), function)
    suite = replace(build(config, seed, progress), name=config.name)
    return develop(suite) if config.development else suite
