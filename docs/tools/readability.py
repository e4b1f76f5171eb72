"""Measure how README reads: `python docs/tools/readability.py [PAGE …]`; exit code 1 if a sentence limit is missed.

Headings, tables, code and front matter are left out. Words are counted by textstat; the grade is the automated
readability index, which needs letters and words only, so that nothing is downloaded.
"""

import re
import statistics
import sys
from pathlib import Path

import textstat

ROOT = Path(__file__).parents[2]
MAX_MEDIAN = 18  # words of README's median sentence


def sentences(text: str) -> list[str]:
    """Return the sentences of the prose of a Markdown page."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n(?=\s*[-*\d]+\.?\s)", text)]
    prose = [re.sub(r"^[-*>]\s+|[*`]", "", block) for block in blocks if not re.match(r"[#|]", block)]
    found = [part for block in prose for part in re.split(r"(?<=[.!?])\s+(?=[A-Z(])", block)]
    return [sentence for sentence in found if textstat.lexicon_count(sentence) > 2]


def measure(text: str) -> dict[str, float]:
    """Return the number of sentences, words of the median and of the longest, and the grade of the prose."""
    lengths = [textstat.lexicon_count(sentence) for sentence in sentences(text)] or [0]  # a page of tables
    grade = textstat.automated_readability_index(" ".join(sentences(text)))
    median, longest = statistics.median(lengths), max(lengths)
    return {"sentences": len(lengths), "median": median, "longest": longest, "grade": round(grade, 1)}


def main(names: list[str]) -> int:
    """Print the measures of pages; README by default, which has a limit."""
    missed = False
    for page in map(Path, names or [str(ROOT / "README.md")]):
        values = measure(page.read_text(encoding="utf-8"))
        print(page.name, ", ".join(f"{name} {value:g}" for name, value in values.items()))
        missed |= page.name == "README.md" and values["median"] > MAX_MEDIAN
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
