"""README's Python runs as it stands, its commands are the real ones, and its tables are the rows in assets."""

import re
from pathlib import Path

import pytest

from metalora.experiments.comparison import RESULTS
from metalora.experiments.results import FOLDER, load_comparison
from metalora.experiments.table import format_percent

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    blocks = [block for block in blocks if "gradio_client" not in block]  # which needs an app: tests/test_app.py
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


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((assets/[^)]+|#[^)]+)\)", README))))
def test_what_the_readme_links_to_exists(link):
    path, _, heading = link.partition("#")
    file = ROOT / (path or "README.md")
    assert file.exists()
    if heading:
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in {words.lower().replace(" ", "-") for words in headings}


PARTS = ("breadth/corruptions", "primary/main", "primary/more", "primary/full", "mixer/mixer")


@pytest.mark.parametrize("part", PARTS)
def test_tables_of_studies_are_the_rows_in_assets(part):
    comparison = load_comparison(FOLDER / part / RESULTS)
    found = comparison.summary.query("gallery == @comparison.primary").set_index(["method", "task_split", "k"])
    text = README if part == "primary/main" else ROWS
    table = text.split(f"`assets/results/{part}`.\n", 1)[1].split("\n\n")[0].strip().splitlines()[2:]
    assert len(table) == len(comparison.config.variants)
    for line in table:
        name, parameters, *cells = (cell.strip(" *`") for cell in line.strip("|").split("|"))
        rows = [found.loc[(name, task_split, k)] for task_split in ("seen", "unseen") for k in (5, 10)]
        assert cells == [format_percent(row["mean"], row["std"]) for row in rows], name
        counts = (rows[0]["static_parameters"], rows[0]["generator_parameters"])
        said = " + ".join(f"{count / 1000:.1f}" for count in counts if count)
        assert parameters == (f"{said} k" if said else "0"), name


OVERVIEW = re.findall(r"^\| `(\w+/[\w-]+)` \| (.*) \|$", README, re.MULTILINE)


def test_the_overview_has_a_row_for_every_kind_of_study():
    assert {part.split("/")[0] for part, _ in OVERVIEW} == {"primary", "mixer", "breadth"}


@pytest.mark.parametrize(("part", "line"), OVERVIEW)
def test_gains_of_the_overview_are_those_in_assets(part, line):
    comparison = load_comparison(FOLDER / part / RESULTS)
    _, seeds, codes, *cells = (cell.strip() for cell in line.split("|"))
    assert int(seeds) == comparison.config.seeds
    gains = comparison.gains
    here = gains[(gains["k"] == comparison.config.ks[0]) & (gains["gallery"] == comparison.primary)]
    found = here.set_index(["method", "task_split"])
    method = {"factor": "metalora-tr-factors", "latent": "metalora-tr"}[codes]
    endings = ("@1" if codes == "factor" else "", "@8", "@all")
    assert set(cells) != {"–"}
    for ending, cell in zip(endings, cells, strict=True):
        if cell != "–":
            pair = [found.loc[(method + ending, task_split)] for task_split in ("seen", "unseen")]
            assert cell == " / ".join(
                f"{100 * g['gain']:+.1f}{g['star']}".replace("*", "\\*").replace("n too small", "") for g in pair
            )


TODAY = ("metalora-tr", "metalora-tr@8", "metalora-tr@all")
ALPHABETS = re.findall(r"^\| (\w[\w ]+) \| (\d.*/.*) \|$", ROWS, re.MULTILINE)


def test_alphabets_are_the_rows_in_assets():
    assert len(ALPHABETS) == 5
    parts = {"-free": ("lora-equal-budget", "metalora-tr-constant", *TODAY), "": ("metalora-tr@8",)}
    for alphabet, line in ALPHABETS:
        wanted = []
        for kind, methods in parts.items():
            part = f"omniglot-{alphabet.replace(' ', '_').lower()}{kind}"
            comparison = load_comparison(FOLDER / "breadth" / part / RESULTS)
            rows = comparison.summary.query("gallery == @comparison.primary and k == 5").set_index(
                ["method", "task_split"]
            )
            for method in methods:
                seen, unseen = (100 * rows.loc[(method, task_split), "mean"] for task_split in ("seen", "unseen"))
                wanted.append(f"{seen:.1f} / {unseen:.1f}")
        assert [cell.strip() for cell in line.split("|")] == wanted, alphabet
