"""Where results come from: versions, revision, machine, device and command, for the files beside them."""

import functools
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from metalora.util.device import device_name, pick_device
from metalora.version import __version__

ROOT = Path(__file__).parents[2]


def provenance(device: str) -> dict[str, Any]:
    """Return what made the results of this process, as plain values.

    Args:
        device: that is computed with, as in settings.
    """
    used = pick_device() if device == "auto" else torch.device(device)
    return {
        "versions": {
            "metalora": __version__,
            "torch": version("torch"),
            "timm": version("timm"),
            "python": platform.python_version(),
        },
        "revision": revision(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            # Asking for a GPU's name would occupy it, so this is left to processes that use it.
            **({"accelerator": device_name(used)} if used.type == "cuda" and torch.cuda.is_initialized() else {}),
        },
        "device": str(used),
        "command": command(),
    }


def command() -> str:
    """Return the command line of this process, without the place of its program."""
    program = Path(sys.argv[0])
    return shlex.join(["metalora" if program.name == "__main__.py" else program.name, *sys.argv[1:]])


@functools.cache
def revision() -> str | None:
    """Return the commit of the checkout that this package is in, with "-dirty" if files differ; None elsewhere."""
    if not (ROOT / ".git").exists():
        return None
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()  # nosec B603 # fixed words
    except (OSError, subprocess.SubprocessError):  # git is missing, or the checkout is not this person's
        return None
