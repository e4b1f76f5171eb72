"""The installed package works without the repository around it."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

import metalora
from metalora.util.renamed import MODULES, OPTIONS

ROOT = Path(__file__).parent.parent


def run(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_elsewhere_it_finds_its_bundled_weights(tmp_path):
    site = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site)
    run(*pip, ROOT)
    code = (
        "import metalora; model = metalora.adapt('resnet20'); print(metalora.__file__);"
        "from metalora.models import backbones; print(backbones.card('mixer_nano')['name']);"
        "import metalora_app; print(metalora_app.main.__name__)"
    )
    said = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)})
    assert said.split() == [str(site / "metalora" / "__init__.py"), "mixer_nano", "main"]
    assert (site / "metalora/py.typed").exists() and (site / "metalora_app/plot.js").exists()


def test_the_citation_file_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == metalora.__version__
    assert "2504.00460" in citation["preferred-citation"]["url"]


def test_the_changelog_names_this_version_and_whatever_was_renamed():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {metalora.__version__}\n" in text
    old = [*OPTIONS, *(f"metalora.{name}" for name in MODULES)]
    assert not [name for name in old if f"| `{name}` |" not in text]
