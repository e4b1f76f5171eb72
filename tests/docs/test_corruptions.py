"""The figure of the corruptions."""

from importlib import import_module

import numpy as np

from metalora.suites.corruptions.corruption import KINDS


def test_the_figure_shows_every_kind_at_three_severities():
    tool = import_module("corruptions")
    sheet = np.asarray(tool.draw(tile=32))
    rows = len(KINDS) // tool.COLUMNS
    assert sheet.shape == (rows * (32 + tool.TITLE), tool.COLUMNS * (3 * 32 + tool.GAP) - tool.GAP, 3)
    tiles = {
        sheet[y + tool.TITLE : y + tool.TITLE + 32, x + i * 32 : x + (i + 1) * 32].tobytes()
        for y in range(0, sheet.shape[0], 32 + tool.TITLE)
        for x in range(0, sheet.shape[1], 3 * 32 + tool.GAP)
        for i in range(3)
    }
    assert len(tiles) == 3 * len(KINDS)
    assert tool.FILE.exists()
