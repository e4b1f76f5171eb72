"""The tools of the documentation, which are scripts beside it."""

from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "docs" / "tools"


@pytest.fixture(autouse=True)
def tools_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
