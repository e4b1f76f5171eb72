"""README is short, its Python runs as it stands, and what it names exists."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_LINES = 150


def test_readme_is_short():
    assert len(README.splitlines()) <= MAX_LINES


def test_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(block.strip().splitlines()) <= 12
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["z"].shape == (8, 64)
    assert (tmp_path / "mine/adapter.safetensors").exists()


def test_verbs_of_the_readme_exist():
    from metalora.cli import app

    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    named = set(re.findall(r"^(?:python -m )?metalora (\w+)", README, re.MULTILINE))
    assert named and named <= verbs


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_what_the_readme_links_to_exists(link):
    path, _, heading = link.partition("#")
    file = ROOT / (path or "README.md")
    assert file.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in {words.lower().replace(" ", "-") for words in headings}


def test_readme_cites_the_paper_and_this_version_of_the_software():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper, software = re.findall(r"@(\w+)\{", README)
    assert (paper, software) == ("article", "software")
    assert citation["preferred-citation"]["title"] in README
    assert citation["title"].removeprefix("MetaLoRA: ") in README
    assert f"version = {{{citation['version']}}}" in README
