"""Python's `help` explains every field of the settings and results that a user meets."""

import dataclasses
import inspect
import pydoc
import re
from importlib import import_module
from pathlib import Path

import pytest

import metalora

API = (Path(__file__).parents[2] / "docs/reference/api.md").read_text(encoding="utf-8")
PUBLIC = [
    *(getattr(metalora, name) for name in metalora.__all__),
    *(getattr(import_module(module), name) for module, name in re.findall(r"^::: ([\w.]+)\.(\w+)$", API, re.MULTILINE)),
]
KINDS = sorted({kind for kind in PUBLIC if inspect.isclass(kind) and dataclasses.is_dataclass(kind)}, key=str)


def test_the_settings_are_among_them():
    assert {"AdapterConfig", "EmbedConfig", "SuiteConfig", "TrainingConfig"} <= {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_help_explains_every_field(kind):
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    section = shown.partition("Attributes:\n")[2].partition("\n |  \n")[0]
    explained = dict(re.findall(r"^ \|      (\w+): (.+)$", section, re.MULTILINE))
    assert list(explained) == [field.name for field in dataclasses.fields(kind)]
    assert all(len(words.split()) > 1 for words in explained.values())
