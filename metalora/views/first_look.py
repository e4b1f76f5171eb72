"""What the Look tab shows first, from a file, so that a page is there before anything is computed.

Imports nothing heavy: the page that waits for the app shows it too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metalora.util.paths import ASSETS

if TYPE_CHECKING:
    from metalora.views.look import Look

FIRST_LOOK = ASSETS / "first_look.json"


def write_first_look(look: Look, path: Path = FIRST_LOOK) -> None:
    """Write what the tab shows for one image.

    Raises:
        InputError: the disk refuses.
    """
    from metalora.util.files import write_text  # which imports torch

    parts: dict[str, Any] = {"image": look.image, "table": look.table, "verdict": look.verdict}
    figures = {"fingerprint": look.fingerprint, "plane": look.plane}
    parts |= {name: figure for name, figure in figures.items() if figure is not None}
    write_text(path, json.dumps(parts, indent=1) + "\n")


def read_first_look(path: Path = FIRST_LOOK) -> dict[str, Any]:
    """Return "image", "table" (HTML), "verdict", and "fingerprint" and "plane" (figures of plotly, as JSON)."""
    return json.loads(path.read_text(encoding="utf-8"))
