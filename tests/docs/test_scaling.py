"""The page on scaling: its tables from rows, and the tool that measures them on tiny sizes."""

import json
import math
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/scaling.md"
SIZES = (1_000, 10_000)


def powers(part, column, value, power, what=None, **more):
    """Rows that grow as a power of the size, through a value at the first one."""
    named = {"part": part} | ({"what": what} if what else {})
    return [{**named, "size": size, column: value * (size / SIZES[0]) ** power, **more} for size in SIZES]


@pytest.fixture
def scaling(monkeypatch, tmp_path):
    """Tables of rows whose growth is known."""
    rows = [
        *powers("training", "images_per_second", 100.0, 0),
        *powers("embedding", "images_per_second", 400.0, 0),
        {"part": "processes", "size": 1, "batch": 128, "seconds": 1.0},
        {"part": "processes", "size": 2, "batch": 128, "seconds": 0.6},
        *powers("search", "seconds", 0.01, 1, "exact", queries=500),
        *powers("search", "seconds", 0.01, 0.5, "faiss", queries=500, build_seconds=1.0, recall=0.9),
        *powers("maps", "seconds", 1.0, 2),
        *powers("reading", "seconds", 1.0, 1, bytes=0, image_size=32),
        *({"part": "files", "what": what, "size": 1, "bytes": 10**6} for what in ("adapter", "checkpoint", "network")),
        *powers("files", "bytes", 2_000, 1, "core table", header_bytes=0),
        *powers("jobs", "seconds", 2.0, 1, "calls"),
        *powers("jobs", "seconds", 3000.0, 1, "jobs", seconds_in_one_process=0.0),
    ]
    for row in rows:
        if row["part"] == "reading":
            row["bytes"] = 4_000 * row["size"]
        if row.get("what") == "core table":
            row["header_bytes"] = 20 * row["size"]
        if row.get("what") == "jobs":
            row["seconds_in_one_process"] = 2.5 * row["size"]
        if "build_seconds" in row:
            row["build_seconds"] = (row["size"] / SIZES[0]) ** 1.5
    content = {"machine": {"processor": "x", "cores": 2, "threads": 1}, "versions": {"torch": "2"}, "rows": rows}
    file = tmp_path / "scaling.json"
    file.write_text(json.dumps({**content, "command": "scaling.py", "seconds": 300}))
    module = import_module("scaling_tables")
    monkeypatch.setattr(module, "FILE", file)
    return module


def test_growth_is_a_power_through_the_last_two_sizes(scaling):
    grown = scaling.growth(scaling.rows_of("maps"), "seconds")
    assert grown.power == pytest.approx(2) and grown.at(100_000) == pytest.approx(10_000)
    assert grown.reaches(10_000) == pytest.approx(100_000)
    assert scaling.Growth(10, 1, 0).reaches(5) == math.inf and scaling.short_count(math.inf) == "any number"


def test_parts_give_way_where_their_limit_is_reached_the_first_on_top(scaling):
    found = {limit.title: limit.images for limit in scaling.limits()}
    assert list(found.values()) == sorted(found.values())
    wanted = {
        "map by UMAP": 1_000 * 86_400**0.5,
        "images in memory, 224 pixels": 10**12 / 8 / 4_000 / 49,
        "names in the header of a table of cores": 10**8 / 20,
        "images in memory, 32 pixels": 10**12 / 8 / 4_000,
        "reading images, in every process": 86_400 * 1_000,
        "exact search of 1,500 images": 86_400 / 0.03 * 1_000,
        "faiss, building its lists": 1_000 * 86_400 ** (2 / 3),
    }
    assert found == pytest.approx(wanted)
    table = {row[0]: row for row in scaling.limit_table()[1:]}
    assert table["images in memory, 32 pixels"][1:4] == [
        "400 GB a process, 3.2 TB a host",
        "1 TB a host",
        "31.2 million",
    ]
    assert table["exact search of 1,500 images"][1] == "50 min"


def test_workers_share_what_they_can(scaling):
    table = [row[1:] for row in scaling.workers()[1:]]
    assert table[0] == ["100 images/s a core: 11.6 days for 100 million images", "16.7 min"]
    assert table[2] == ["100 ms", "each needs 115 images of a batch to compute 90 % of the time"]  # 9 · 0.1 s · 128/s
    assert table[3] == ["2 ms", "all are kept busy where a training takes over 2 s"]
    assert table[4] == ["+500 ms", "the same for each"]


def test_users_take_what_is_their_own(scaling):
    assert scaling.per_user()[-1] == ["a core in a table", "2 B", "200 MB"]
    assert scaling.per_user()[1] == ["a whole network", "1 MB", "100 TB"]


def test_slopes_show_every_size(scaling):
    table = {row[0]: row[1:] for row in scaling.slopes()[1:]}
    assert len(table) == len(scaling.SLOPES)
    assert table["map by UMAP"] == ["1,000 / 10,000 points", "1 s / 1.67 min", "n^2.00"]
    assert table["faiss, recall@5"] == ["1,000 / 10,000 gallery images", "0.9 / 0.9", "n^0.00"]


def test_without_rows_tables_say_so(scaling, monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "FILE", tmp_path / "none.json")
    for table in scaling.TABLES.values():
        header, *rows = table()
        assert [row[0] for row in rows] == ["none yet"] and len(rows[0]) == len(header)


def test_the_page_names_what_gives_way_first_of_what_a_training_needs():
    text = PAGE.read_text(encoding="utf-8")
    assert "**Of what a training needs, the images in memory give way first.**" in text
    module = import_module("scaling_tables")
    if not module.FILE.exists():
        pytest.skip("nothing is measured yet")
    needed = [limit.title for limit in module.limits() if "map" not in limit.title and "table" not in limit.title]
    assert needed[0].startswith("images in memory")


def test_embeddings_that_are_made_up_are_searched_by_both_indexes():
    pytest.importorskip("faiss")
    rows = list(import_module("scaling_data").search((300, 600), 20))
    assert [(row["what"], row["size"]) for row in rows] == [(w, n) for n in (300, 600) for w in ("exact", "faiss")]
    assert all(0 < row["recall"] <= 1 and row["build_seconds"] > 0 for row in rows[1::2])


def test_the_bytes_of_a_suite_are_counted_once():
    suite = import_module("metalora").load_suite("digits", image_size=8, max_queries=20)
    kept = import_module("scaling_data").kept_bytes(suite)
    images = suite.source_images.nbytes
    assert images < kept < 2 * images


@pytest.mark.slow
def test_the_tool_measures_every_part_on_tiny_sizes(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, str(ROOT / "docs/tools/scaling.py"), "--quick"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((ROOT / "build/scaling.json").read_text(encoding="utf-8"))
    parts = {row["part"] for row in content["rows"]}
    assert parts == set(import_module("scaling").MEASURES) and content["quick"]
    assert {"faiss-cpu", "torch"} <= content["versions"].keys() and content["machine"]["threads"] == 1
