"""README's Python runs as it stands, and its commands are the real ones."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["dW"].shape == (8, 16, 16, 3, 3)
    assert names["z"].shape == (8, 64)
    assert (tmp_path / "runs/mine/adapter.safetensors").exists()


def test_verbs_of_the_readme_exist():
    from metalora.cli import app

    section = README.split("## On the command line")[1].split("\n## ")[0]
    verbs = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert verbs == {command.name or command.callback.__name__ for command in app.registered_commands}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((assets/[^)]+)\)", README))))
def test_files_that_the_readme_shows_exist(path):
    assert (ROOT / path).exists()
