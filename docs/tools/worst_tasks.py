"""Give bundled results that lack them the gains on worst tasks, from their rows: `python docs/tools/worst_tasks.py`.

Results of today have them already; reading them spares the app the statistics. Nothing else in the files changes.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # to run from a checkout that is not installed

from metalora.experiments.comparison import RESULTS, to_records  # noqa: E402
from metalora.experiments.results import FOLDER, bundled_results, load_comparison  # noqa: E402


def lacking() -> list[Path]:
    """Return the files of complete results whose gains are stored, but not those on worst tasks."""
    files = (FOLDER / name / RESULTS for name in bundled_results())
    read = {file: json.loads(file.read_text(encoding="utf-8")) for file in files}
    return [file for file, values in read.items() if "gains" in values and "worst_gains" not in values]


def main() -> None:
    """Add them to every file that lacks them."""
    for file in lacking():
        text, gains = file.read_text(encoding="utf-8"), load_comparison(file).worst_gains
        if gains is not None:
            values = {**json.loads(text), "worst_gains": to_records(gains)}
            indent = 1 if text.startswith("{\n") else None
            file.write_text(json.dumps(values, indent=indent) + "\n", encoding="utf-8")
            print(f"{file.relative_to(ROOT)}: {len(gains)} gains on worst tasks")


if __name__ == "__main__":
    main()
