"""Imports lead downwards, in the order of packages of docs/architecture.md, and never in a circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PACKAGES = ["metalora.version", *(f"metalora.{name}" for name in re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE))]
FACE = {"metalora", "metalora.__main__"}


def module_name(path):
    """Return the dotted name of a file of the checkout."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """List what a file imports, at the top, in functions or for annotations, as dotted names."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def graph(folder):
    """Return {module: modules of the same folder that it imports}."""
    files = {module_name(path): path for path in (ROOT / folder).rglob("*.py")}

    def known(name):
        return name if name in files else known(name.rpartition(".")[0]) if "." in name else None

    found = {name: {known(target) for target in imports_of(path)} - {None, name} for name, path in files.items()}
    return {name: targets for name, targets in found.items() if name not in FACE}


EDGES = {folder: graph(folder) for folder in ("metalora", "pages")}


def package_of(module):
    return ".".join(module.split(".")[:2])


def test_the_table_lists_every_package():
    assert {package_of(module) for module in EDGES["metalora"]} == set(PACKAGES)
    assert len(PACKAGES) == 13


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(page):
    names = re.findall(r"`((?:metalora|pages|tests)/[\w/]+(?:\.\w+)?)/?`", (ROOT / page).read_text(encoding="utf-8"))
    assert names and not [name for name in names if "my_" not in name and not (ROOT / name).exists()]


def test_contributing_shows_the_packages_in_the_same_words():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+/)` \| (.*) \|$", PAGE, re.MULTILINE)
    assert table == re.findall(r"^  (\w+/) +(.*)$", text, re.MULTILINE)


def test_packages_import_only_those_below():
    rank = {name: i for i, name in enumerate(PACKAGES)}
    assert not [
        f"{module} imports {target}"
        for module, targets in EDGES["metalora"].items()
        for target in sorted(targets)
        if target in FACE or rank[package_of(target)] > rank[package_of(module)]
    ]


@pytest.mark.parametrize("folder", EDGES)
def test_modules_import_each_other_in_no_circle(folder):
    TopologicalSorter(EDGES[folder]).prepare()


@pytest.mark.parametrize(("folder", "others"), [("metalora", {"gradio", "pages"}), ("pages", {"torch", "numpy"})])
def test_the_library_knows_no_page_and_pages_compute_nothing(folder, others):
    assert not [
        f"{path.name} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] in others
    ]
