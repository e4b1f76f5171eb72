"""The installed package works without the repository around it."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

import metalora

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
        "from metalora.models import backbones; print(backbones.card('mixer_nano')['name'])"
    )
    said = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)})
    assert said.split() == [str(site / "metalora" / "__init__.py"), "mixer_nano"]


def test_help_answers_without_loading_torch():
    code = (
        "import sys; from metalora.cli import app; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(app, ['compare', '--help']).exit_code == 0; assert 'torch' not in sys.modules"
    )
    run(sys.executable, "-c", code, cwd=ROOT)


def test_the_citation_file_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == metalora.__version__
    assert "2504.00460" in citation["preferred-citation"]["url"]


def test_the_library_imports_neither_gradio_nor_pages():
    for path in (ROOT / "metalora").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if line.strip().startswith(("import gradio", "from gradio", "from pages"))]
