"""What tests measure, for docs/explanation/dependability.md.

METALORA_FIGURES=FILE keeps it in a file. `bash tests/figures.sh` makes all figures anew, in half an hour of a machine
that does nothing else.
"""

import json
import os
from pathlib import Path
from typing import Any

from metalora.util.files import write_text
from metalora.util.provenance import provenance

FIGURES = "METALORA_FIGURES"


def record(what: str, **values: Any) -> None:
    """Keep figures in the file that METALORA_FIGURES names, in place of those of the same name; without it, nowhere."""
    if not os.environ.get(FIGURES):
        return
    file = Path(os.environ[FIGURES])
    before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    said = provenance("cpu")
    row = {"what": what, **values, **{name: said[name] for name in ("versions", "revision", "machine")}}
    rows = [*(row for row in before if row["what"] != what), row]
    write_text(file, json.dumps({"rows": rows}, indent=1) + "\n")
