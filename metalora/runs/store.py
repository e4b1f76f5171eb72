"""Create, find and open run folders."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from metalora.models.saving import check_folder
from metalora.runs.failures import SILENT
from metalora.runs.run import FORMAT_VERSION, SETTINGS, Run
from metalora.runs.run_config import RunConfig
from metalora.util.errors import InputError
from metalora.util.processes import is_alive


def default_folder(config: RunConfig, parent: Path = Path("runs")) -> Path:
    """A new folder's path, from time, method and backbone."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{config.adapter.method}-{config.backbone}"
    return parent / name.replace("/", "_")


def holds_run(folder: Path) -> bool:
    """Whether there is a run in `folder`."""
    return (folder / SETTINGS).is_file()


def create_run(folder: Path, config: RunConfig) -> Run:
    """The run of these settings in `folder`: a new one, or the one that is there. Writes nothing yet.

    A run that failed by itself may be replaced by one of other settings.

    Raises:
        InputError: the folder holds something else, or a run of other settings.
    """
    check_folder(folder, owned=(SETTINGS,))
    if not holds_run(folder):
        return Run(folder, config)
    found = open_run(folder)
    different = _differences(found.config, config)
    if different and (found.status != "failed" or found.died):
        raise InputError(f"{folder} holds a run of other settings ({', '.join(different)}): choose another folder.")
    return Run(folder, config, replaces=True) if different else found


def open_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        InputError: there is none, or its run.json is damaged or of another version.
    """
    file = folder / SETTINGS
    name = folder.absolute().name  # where a server keeps it is nobody's business
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version = found.get("format_version")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{name} holds no run: there is no {SETTINGS} in it.") from error
    except (OSError, ValueError, AttributeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{name}/{SETTINGS} cannot be read ({why}): delete the run or choose another.") from error
    if version not in (1, FORMAT_VERSION):
        raise InputError(f"{name} has format version {version}, this metalora reads {FORMAT_VERSION}: train it anew.")
    try:
        run = Run(folder, RunConfig.from_dict(found["settings"]), found["status"], reason=found.get("reason"))
    except (KeyError, TypeError) as error:
        raise InputError(f"{name}/{SETTINGS} lacks settings ({error}): delete the run or choose another.") from error
    run.died = run.status == "running" and not is_alive(found.get("worker"))
    if run.died:
        run.status, run.reason = ("stopped", None) if run.stop_requested else ("failed", SILENT)
    return run


def _differences(one: RunConfig, other: RunConfig) -> list[str]:
    """Names of settings that differ, with both values; whether something may be downloaded does not count."""

    def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        found = {}
        for name, value in values.items():
            key = f"{prefix}{name}"
            found |= flat(value, f"{key}.") if isinstance(value, dict) and not prefix else {key: value}
        return found

    a, b = flat(one.to_dict()), flat(other.to_dict())
    return [f"{key} {a[key]!r}, now {b[key]!r}" for key in a if a[key] != b[key] and key != "suite.download"]
