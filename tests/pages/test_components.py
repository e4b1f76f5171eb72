"""Parts of the page that more than one tab uses."""

from pathlib import Path

import numpy as np
from PIL import Image

from metalora.runs.app_process import TEMPORARY
from pages.components import served_image


def test_an_image_is_written_once_and_is_what_was_given(tmp_path, monkeypatch):
    """Written again at every event, it would be cut short for whoever is being sent it."""
    monkeypatch.setenv(TEMPORARY, str(tmp_path))
    image = Image.fromarray(np.full((8, 8, 3), 120, np.uint8))
    first, again, other = served_image(image), served_image(image.copy()), served_image(image.rotate(90).resize((9, 9)))
    assert first == again != other and Path(first).is_relative_to(tmp_path)
    before = Path(first).stat()
    served_image(image)
    assert (Path(first).stat().st_ino, Path(first).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert abs(np.asarray(Image.open(first).convert("RGB")).astype(int) - 120).max() < 8
    assert not list(tmp_path.rglob("*.tmp"))
