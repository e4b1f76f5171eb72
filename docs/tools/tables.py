"""Fill the tables of README.md and docs/ from assets/results: `python docs/tools/tables.py`.

A table stands between `<!-- table: NAME ARGUMENTS -->` and `<!-- end -->`; NAME is a key of `TABLES`. With `--check`
nothing is written, and the exit code is 1 if a page is out of date.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run from a checkout that is not installed

import cost_tables
import dependability_tables
import result_tables
import scaling_tables

ROOT = Path(__file__).parents[2]
TABLES: dict[str, Callable[..., list[list[str]]]] = {
    "headline": result_tables.headline,
    "gains": result_tables.overview,
    "rows": result_tables.rows_of_part,
    "intervals": result_tables.intervals,
    "worst": result_tables.worst_tasks,
    "latent": result_tables.latent_codes,
    "alphabets": result_tables.alphabets,
    "alphabet-means": result_tables.alphabet_means,
    "below-constant": result_tables.below_constant,
    "by-backbone": result_tables.by_backbone,
    "paper": result_tables.paper,
    "contexts": result_tables.contexts,
    "adapters": result_tables.bundled_adapters,
    "exports": cost_tables.exports,
    "gpu-times": cost_tables.gpu_times,
    "gpu-errors": cost_tables.gpu_errors,
    "dependability": dependability_tables.figures,
    **scaling_tables.TABLES,
}
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w-]+)(?P<arguments>[^>]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> Iterable[Path]:
    """Return the pages that may have tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """Return the text of a page with its tables made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{_markdown(*_lines(block))}{block[4]}", text)


def _lines(block: re.Match[str]) -> list[list[str]]:
    return TABLES[block["name"]](*block["arguments"].split())


def _markdown(header: list[str], *rows: list[str]) -> str:
    """Lay out a table whose columns of numbers are flush right."""
    numeric = [all(re.match(r"[*\d+−–-]", row[i]) for row in rows) and i > 0 for i in range(len(header))]
    rule = ["---:" if right else "---" for right in numeric]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *rows))


def main(arguments: list[str]) -> int:
    """Fill the tables of all pages, or check them."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    changed = {page: new for page, text in texts.items() if (new := filled(text)) != text}
    for page, text in changed.items():
        if "--check" not in arguments:
            page.write_text(text, encoding="utf-8")
        print(f"{page.relative_to(ROOT)}: {'out of date' if '--check' in arguments else 'written'}")
    return int("--check" in arguments and bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
