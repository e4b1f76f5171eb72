"""The tables of the documentation are the rows in assets."""

import json
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from metalora.experiments.results import load_bundled

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
EXPORT = ("resnet20/metalora-tr", "ONNX, folded")


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_what_the_results_say(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert import_module("tables").filled(text) == text, "run python docs/tools/tables.py"


def test_a_number_that_was_typed_is_replaced():
    tables = import_module("tables")
    block = "<!-- table: headline -->\n| 8 images | +99.9 |\n<!-- end -->\n"
    filled = tables.filled(f"before\n{block}after\n")
    assert "99.9" not in filled and filled.startswith("before\n") and filled.endswith("<!-- end -->\nafter\n")


def test_pages_with_tables_are_found():
    tables = import_module("tables")
    found = [page for page in tables.pages() if tables.BLOCK.search(page.read_text(encoding="utf-8"))]
    assert {"README.md", "report.md", "tables.md"} <= {page.name for page in found}


def test_the_headline_has_losses_too():
    _, *rows = import_module("result_tables").headline()
    assert any("−" in cell for row in rows for cell in row[1:3])


def test_accuracies_are_means_over_seeds():
    comparison = load_bundled("primary/main")
    rows = comparison.rows.query("method == 'lora-equal-budget' and task_split == 'seen' and gallery == 'pooled'")
    mean = 100 * rows.query("k == 5")["accuracy"].mean()
    _, *table = import_module("result_tables").rows_of_part("primary/main")
    (row,) = (row for row in table if row[0] == "`lora-equal-budget`")
    assert row[2].startswith(f"{mean:.1f} ± ")


def test_the_oracle_is_never_bold():
    _, *table = import_module("result_tables").rows_of_part("primary/main")
    (oracle,) = (row for row in table if "oracle" in row[0])
    assert "**" not in "".join(oracle) and any("**" in cell for row in table for cell in row)


def test_what_lies_below_the_constant_core_is_named():
    _, *rows = import_module("result_tables").below_constant()
    found = {(row[0], row[1]): row[2:] for row in rows}
    assert found["`primary/main`", "`metalora-tr-factors@1`"][0] == "–"
    assert float(found["`primary/main`", "`metalora-tr-factors@1`"][1].split()[0].replace("−", "-")) < 0


def test_rows_by_the_images_of_a_set_are_those_of_the_results():
    comparison = load_bundled("contexts/corruptions")
    header, *rows = import_module("result_tables").contexts("contexts/corruptions", "worst")
    assert header == ["training", "0", "1", "2", "4", "8", "25", "50"]
    cells = dict(zip(header, next(row for row in rows if row[0] == "`metalora-tr (trained with sets)`"), strict=True))
    tasks = pd.DataFrame(comparison.tasks).query("method == 'metalora-tr@8' and gallery == 'pooled' and k == 5")
    worst = 100 * tasks.groupby("task_split")["accuracy"].min()
    assert cells["8"] == f"{worst['seen']:.1f} / {worst['unseen']:.1f}"
    (static,) = (row for row in rows if row[0] == "`lora-equal-budget`")
    assert [cell == "–" for cell in static[1:]] == [True, False] + 5 * [True]


def test_a_suite_without_unseen_tasks_has_no_columns_of_them():
    header, *rows = import_module("result_tables").rows_of_part("field/rotations")
    assert header[2:] == ["seen K=5", "seen K=10"] and all(len(row) == len(header) for row in rows)


def test_exports_have_a_row_for_every_form_of_every_adapter():
    rows = json.loads((ROOT / "assets/results/exports.json").read_text(encoding="utf-8"))["rows"]
    _, *table = import_module("cost_tables").exports()
    assert len(table) == len({row["adapter"] for row in rows}) * len({row["form"] for row in rows}) == 20
    (large,) = (row for row in rows if (row["adapter"], row["form"], row["batch_size"]) == (*EXPORT, 32))
    (shown,) = (row for row in table if (row[0], row[1]) == (f"`{EXPORT[0]}`", EXPORT[1]))
    assert shown[2] == f"{large['file_mb']:.2f}" and shown[4] == f"{large['cpu_ms']:.1f}"


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Rows as tests/gpu/run.sh leaves them: a format in two layers, a training, times of one network."""
    tests = [
        {"test": "format", "precision": "bfloat16", "errors": {"output": 0.002, "A": 0.004}},
        {"test": "format", "precision": "bfloat16", "errors": {"output": 0.003, "A": 0.001}},
        {"test": "waiting", "way": "images"},
        {"test": "resuming", "way": "images", "error": 1e-6},
    ]
    (tmp_path / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tests))
    cases = {("plain", "forward"): 2.0, ("peft-lora", "train"): 8.0, ("metalora-tr", "pipeline"): 3.0}
    cases |= {("metalora-tr", "train"): 6.0, ("lora", "forward"): 2.5}
    settings = {"model": "resnet18", "batch_size": 32, "precision": "bfloat16", "compiled": True}
    rows = [{**settings, "variant": variant, "pass": kind, "ms": ms} for (variant, kind), ms in cases.items()]
    (tmp_path / "times").mkdir()
    (tmp_path / "times" / "resnet18-32-bfloat16-compiled.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(import_module("cost_tables"), "GPU", tmp_path)
    return tmp_path


def test_rows_of_a_gpu_become_tables(gpu):
    tables = import_module("cost_tables")
    assert tables.gpu_errors()[1:] == [
        ["format", "bfloat16", "2", "3e-03", "4e-03"],
        ["resuming", "float32", "1", "1e-06", "–"],
    ]
    cells = [
        "resnet18",
        "32",
        "bfloat16, compiled",
        "2.00",
        "–",
        "–",
        "1.25",
        "–",
        "–",
        "1.50",
        "8.00",
        "–",
        "–",
        "0.75",
    ]
    assert tables.gpu_times()[1:] == [cells]


def test_without_rows_of_a_gpu_a_table_says_so(gpu):
    for file in (gpu / "tests.jsonl", *(gpu / "times").iterdir()):
        file.unlink()
    tables = import_module("cost_tables")
    assert [tables.gpu_errors()[1][0], tables.gpu_times()[1][0]] == ["none yet"] * 2
