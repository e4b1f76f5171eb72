"""Pages of the documentation: messages are those of the code, Python runs, links lead somewhere, prose is short."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


def test_messages_of_troubleshooting_are_those_of_the_code():
    known = {text for _, text in import_module("generated_pages").messages()}
    named = re.findall(r"^\*\*(?:Error: )?(.*)\*\*$", text_of("how-to/troubleshooting.md"), re.MULTILINE)
    assert len(named) > 30
    assert not [text for text in named if text not in known]


def test_every_verb_has_its_line_and_its_options():
    from metalora.cli import app

    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"^\| `(\w+)` \|", text_of("reference/command-line.md"), re.MULTILINE)) == verbs
    options = import_module("generated_pages").options()
    assert set(re.findall(r"^## (\w+)$", options, re.MULTILINE)) == verbs
    assert "| `--steps` | Training steps. Default: 64. |" in options
    assert "| `--set-size` | Images of one task that share a core. Of several sizes every step" in options


def test_names_of_rows_are_names_that_a_comparison_takes():
    from metalora.experiments.variants import parse_variant

    examples = text_of("reference/row-names.md").split("| example |")[1]
    rows = re.findall(r"^\| `([^`]+)` \|", examples, re.MULTILINE)
    assert len(rows) > 15
    assert [str(parse_variant(row)) for row in rows] == rows


def test_methods_and_suites_are_the_registered_ones():
    from metalora.adapters.methods import METHODS
    from metalora.suites.registry import SUITES

    methods = re.findall(r"^\| `([\w-]+)` \|", text_of("reference/methods.md"), re.MULTILINE)
    assert set(methods) == set(METHODS) - {"original"}
    suites = re.findall(r"^\| `([\w-]+:?)(?:PATH|FILE)?` \|", text_of("reference/suites.md"), re.MULTILINE)
    assert set(suites) == set(SUITES)


def test_the_glossary_has_its_words_once():
    words = re.findall(r"^\| ([^|]+) \|", text_of("reference/glossary.md"), re.MULTILINE)[2:]
    assert len(words) == len(set(words)) >= 30


def test_python_of_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text_of("tutorials/in-python.md"), re.DOTALL):
        exec(compile(block, "in-python.md", "exec"), names)
    assert names["dW"].shape == (8, 16, 16, 3, 3)
    assert names["event"].step == 5
    assert (tmp_path / "runs/mine/adapter.safetensors").exists()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_repository(page):
    links = re.findall(r"\]\((?!http)([^)#]+)", text_of(page))
    assert not [link for link in links if not ((DOCS / page).parent / link).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_have_options_that_exist(page):
    from typer.main import get_command

    from metalora.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    joined = text_of(page).replace("\\\n", " ")
    for verb, rest in re.findall(
        r"(?:^|`|--wrap \")(?:python -m )?metalora ([a-z]\w*)((?:\s(?!\s*\n)[^`\n#\"]*)?)", joined, re.M
    ):
        assert verb in commands, verb
        known = {name for parameter in commands[verb].params for name in parameter.opts}
        assert not set(re.findall(r"(--[a-z][\w-]*)", rest)) - known - {"--help"}, (verb, rest)


def test_sentences_of_the_readme_are_short():
    pytest.importorskip("textstat")
    readability = import_module("readability")
    values = readability.measure((ROOT / "README.md").read_text(encoding="utf-8"))
    assert values["median"] <= readability.MAX_MEDIAN
    long = "One two three four five six seven eight nine ten. " * 3 + "A " + "very " * 40 + "long sentence. "
    assert readability.measure(long)["longest"] > 40
