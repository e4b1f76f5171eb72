"""A hook of mkdocs: what pages take from the code while the site is built.

`<!-- generated: options -->` becomes the options of every verb of the command line, `<!-- generated: messages -->`
every message of an InputError. Links to files outside docs/ become their names, since the site has no such pages.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
PACKAGE = ROOT / "metalora"
OTHERS = ("how-to/scatter-component.md",)  # pages that join the navigation where they exist
MARK = re.compile(r"<!-- generated: (\w+) -->")
OUTSIDE = re.compile(r"\[([^]]+)\]\((?:\.\./)+((?!\.\./)[^)#]+)(#[^)]*)?\)")


def on_config(config: Any) -> Any:
    """Add pages to the navigation that not every checkout has."""
    section = next(part["How-to"] for part in config["nav"] if "How-to" in part)
    section += [page for page in OTHERS if (ROOT / "docs" / page).exists()]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what is made from the code."""
    folder = Path(page.file.abs_src_path).parent

    def in_site(link: re.Match[str]) -> str:
        target = (folder / link[0].split("](")[1].split("#")[0].rstrip(")")).resolve()
        inside = target.is_relative_to(ROOT / "docs")
        return link[0] if inside else f"{link[1]} (`{target.relative_to(ROOT)}`)"

    made = {"options": options, "messages": message_tables}
    return MARK.sub(lambda mark: made[mark[1]](), OUTSIDE.sub(in_site, markdown))


def options() -> str:
    """Return every verb of the command line with its options, as Markdown."""
    import typer

    from metalora.cli import app

    group = typer.main.get_command(app)
    parts = []
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        usage = " ".join(f"[{p.name.upper()}]" for p in command.params if p.param_type_name == "argument")
        words = re.sub(r"\\(\[)", r"\1", command.help or "")
        parts.append(f"\n## {name}\n\n```\npython -m metalora {name} {usage} [OPTIONS]\n```\n\n{words}\n")
        panels: dict[str, list[Any]] = {}
        for parameter in command.params:
            if parameter.name != "help":
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(parameter)
        for panel, parameters in panels.items():
            rows = "".join(_row(parameter) for parameter in parameters)
            parts.append(f"\n{panel}:\n\n| | |\n|---|---|\n{rows}")
    return "".join(parts)


def _row(parameter: Any) -> str:
    name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
    words = (parameter.help or "").replace("|", "\\|").replace("[", "\\[")
    return f"| `{name}` | {words} |\n"


def messages() -> Iterator[tuple[str, str]]:
    """Yield (module, message) of every InputError in the package; … stands for what a message fills in."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args:
                text = _text(node.args[0])
                if len(text.replace("…", "").strip()) > 10:
                    yield path.relative_to(PACKAGE).as_posix(), text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub(r"…+", "…", "".join(_text(part) for part in node.values))
    return "…"


def message_tables() -> str:
    """Return every message of an InputError, by package, as Markdown."""
    parts, package = [], ""
    for module, text in messages():
        if module.split("/")[0] != package:
            package = module.split("/")[0]
            parts.append(f"\n## {package}\n\n| message | raised in |\n|---|---|\n")
        escaped = re.sub(r"([|\[\]<>*_])", r"\\\1", text)
        parts.append(f"| {escaped} | `{module}` |\n")
    return "".join(parts)
