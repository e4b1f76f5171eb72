"""Measure how training, embedding, search, maps, reading, files and a cluster grow: `python docs/tools/scaling.py`.

It writes assets/results/scaling.json, whose rows say what was measured at which size, and then fills the tables of
docs/explanation/scaling.md, as `tables.py` does. It takes less than eight minutes on two cores that do nothing else,
and computes with one thread in each process. With `--quick` sizes are tiny and the file is build/scaling.json: the way
is tried, and no page is filled.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run from a checkout that is not installed
os.environ["METALORA_CACHE"] = ""  # what was decoded before would not be read again
os.environ["OMP_NUM_THREADS"] = "1"

import tables
import torch
from scaling_compute import embedding, jobs, processes, training
from scaling_data import files, maps, reading, search
from scaling_tables import FILE

from metalora.util.files import write_text
from metalora.util.provenance import provenance

QUICK_FILE = tables.ROOT / "build" / "scaling.json"
PACKAGES = ("faiss-cpu", "umap-learn", "distributed", "accelerate", "pillow")
MEASURES = {
    "training": training,
    "processes": processes,
    "embedding": embedding,
    "search": search,
    "maps": maps,
    "reading": reading,
    "files": files,
    "jobs": jobs,
}
SIZES: dict[str, dict[str, Any]] = {
    "training": {"batches": (16, 64, 256), "steps": 8},
    "processes": {"counts": (1, 2), "batch": 128, "steps": 12},
    "embedding": {"batches": (32, 128, 512), "images": 1024},
    "search": {"galleries": (10_000, 100_000, 1_000_000), "queries": 500},
    "maps": {"points": (500, 1000, 2000, 4000)},
    "reading": {"images": (500, 2000)},
    "files": {"users": (100, 1000, 10_000)},
    "jobs": {"calls": (50, 400), "trainings": (4, 16)},
}
QUICK: dict[str, dict[str, Any]] = {
    "training": {"batches": (4, 8), "steps": 3},
    "processes": {"counts": (1, 2), "batch": 8, "steps": 3},
    "embedding": {"batches": (4, 8), "images": 16},
    "search": {"galleries": (500, 2000), "queries": 20},
    "maps": {"points": (50, 100)},
    "reading": {"images": (60, 120)},
    "files": {"users": (5, 50)},
    "jobs": {"calls": (4, 8), "trainings": (1, 2)},
}


def measure(sizes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all parts, and print how long each took."""
    rows = []
    for part, function in MEASURES.items():
        started = time.perf_counter()
        rows += [{"part": part, **row} for row in function(**sizes[part])]
        print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)
    return rows


def main(arguments: list[str]) -> None:
    """Measure, write the rows, and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try it")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    file, started = QUICK_FILE if asked.quick else FILE, time.perf_counter()
    rows = measure(QUICK if asked.quick else SIZES)
    said = provenance("cpu")
    said["versions"] |= {name: version(name) for name in PACKAGES}
    content = {**said, "quick": asked.quick, "seconds": round(time.perf_counter() - started), "rows": rows}
    write_text(file, json.dumps(content, indent=1) + "\n")
    print(f"The rows are in {file.relative_to(tables.ROOT)}.")
    if not asked.quick:
        tables.main([])


if __name__ == "__main__":
    main(sys.argv[1:])
