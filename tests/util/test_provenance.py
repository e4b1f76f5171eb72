"""What a file of results says of where they come from."""

import re
import sys

import pytest

from metalora.util import provenance as module
from metalora.util.provenance import command, provenance, revision


@pytest.fixture(autouse=True)
def forget():
    revision.cache_clear()
    yield
    revision.cache_clear()


def test_it_names_versions_revision_machine_device_and_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/metalora/__main__.py", "compare", "--out", "my results"])
    found = provenance("cpu")
    assert found.keys() == {"versions", "revision", "machine", "device", "command"}
    assert found["versions"].keys() == {"metalora", "torch", "timm", "python"}
    assert found["machine"].keys() == {"system", "processor", "cores", "threads"} and found["device"] == "cpu"
    assert found["command"] == "metalora compare --out 'my results'"
    assert provenance("auto")["device"] in ("cpu", "cuda", "mps")


def test_a_command_has_no_place_of_this_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/me/.venv/bin/metalora", "train"])
    assert command() == "metalora train"


def test_the_revision_is_that_of_the_checkout(monkeypatch, tmp_path):
    if (module.ROOT / ".git").exists():
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", revision())
    revision.cache_clear()
    monkeypatch.setattr(module, "ROOT", tmp_path)  # an installed package
    assert revision() is None
    revision.cache_clear()
    (tmp_path / ".git").mkdir()  # no repository
    assert revision() is None
