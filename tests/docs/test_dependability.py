"""The figures that tests record, the table of them, and the scanners."""

import json
import re
import subprocess
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import scans
from figures import FIGURES, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(monkeypatch, tmp_path):
    """Where figures go."""
    monkeypatch.setenv(FIGURES, str(tmp_path / "figures.json"))
    monkeypatch.setattr(import_module("dependability_tables"), "FILE", tmp_path / "figures.json")
    return tmp_path / "figures.json"


def table():
    return {row[0]: row[1] for row in import_module("dependability_tables").figures()[1:]}


def test_figures_are_kept_in_place_of_earlier_ones_with_their_machine(file):
    record("a", value=1)
    record("b", value=2)
    record("a", value=3)
    rows = json.loads(file.read_text())["rows"]
    assert [(row["what"], row["value"]) for row in rows] == [("b", 2), ("a", 3)]
    assert {"versions", "revision", "machine"} <= rows[0].keys() and rows[0]["machine"]["cores"] > 0


def test_without_the_variable_nothing_is_kept(file, monkeypatch):
    monkeypatch.delenv(FIGURES)
    record("a", value=1)
    assert not file.exists()


def test_what_is_not_measured_is_said(file):
    assert set(table().values()) == {"not measured yet"}


def test_figures_become_a_table(file):
    record("kills, train", kills=6, survived=6, steps_lost=[0, 3, 1, 0, 0, 0])
    record("kills, worker", kills=5, survived=5, steps_lost=[2, 0, 0, 0, 0])
    record("hostile, app", inputs=310, verdicts={"refused": 300, "ok": 10}, growth_mb=81.4)
    record("hostile, command line", inputs=420, verdicts={"refused": 420}, growth_mb=0)
    waits = {"p50_s": 0.012, "p95_s": 0.1234, "max_s": 1.0}
    kinds = [{"what": kind, "count": 1000, **waits, "errors": i} for i, kind in enumerate(("status", "inspect"))]
    memory = {"what": "memory of the app, MB", "start": 700, "end": 1234, "growth": -3}
    record("visitors, 50 for 10 minutes", rows=[{"what": "setting"}, *kinds, memory])
    record("visitors, 3 for 1 minutes", rows=[])
    record("checkpoints, resnet20", percent=1.234)
    record("two processes", tensors=81, largest=1.4e-6)
    record("cluster", rows=24, different=0)
    record("bandit", findings=0, answered=12, lines=28_364)
    record("pip-audit", findings=0, packages=214)
    found = table()
    assert found["kills survived"] == "11 of 11 (6 of 6 train, 5 of 5 worker); 3 steps lost at most"
    assert found["hostile inputs to the app, answered"] == "310: 10 ok, 300 refused; memory +81 MB at most"
    assert found["50 visitors: status, p50 and p95"] == "0.01 s, 0.12 s (1,000)"
    assert found["50 visitors: errors"] == "1 of 2,000"
    assert found["50 visitors: memory"] == "-3 MB of 1,234 MB, after the first third"
    assert found["checkpoints, of the time"] == "resnet20: 1.23 %"
    assert found["two processes, to one"] == "differ by 1e-06 at most, in 81 tensors"
    assert found["a Dask cluster, to one process"] == "0 of 24 rows differ"
    assert found["findings of bandit"] == "0 in 28,364 lines; 12 answered where they are"
    assert found["findings of pip-audit"] == "0 of 214 packages"


def test_commands_of_the_table_and_of_the_script_are_of_files_that_exist():
    figures = import_module("dependability_tables").FIGURES
    script = (ROOT / "tests/figures.sh").read_text(encoding="utf-8")
    for figure in figures:
        (file,) = re.findall(r"tests/(?!run\.sh)[\w/.]+", figure.command)
        assert (ROOT / file).exists() and file in script


def test_findings_of_scanners_are_counted_and_end_with_exit_code_1(file, monkeypatch, capsys):
    finding = {"filename": "metalora/x.py", "line_number": 3, "issue_text": "A pickle."}
    totals = {"_totals": {"loc": 90, "nosec": 0, "skipped_tests": 4}}
    vulnerable = {"name": "p", "version": "1", "vulns": [{"id": "CVE-1"}]}
    said = {
        "bandit": {"results": [finding], "metrics": totals},
        "pip_audit": {"dependencies": [vulnerable, {"name": "q", "vulns": []}, {"name": "r", "skip_reason": "own"}]},
    }

    def answer(words, **_):
        return SimpleNamespace(returncode=1, stdout=json.dumps(said[words[2]]), stderr="")

    monkeypatch.setattr(scans, "subprocess", SimpleNamespace(run=answer))
    assert scans.main([]) == 1
    assert capsys.readouterr().out.splitlines() == ["metalora/x.py:3: A pickle.", "p 1 CVE-1", "2 findings."]
    assert table()["findings of bandit"] == "1 in 90 lines; 4 answered where they are"
    assert table()["findings of pip-audit"] == "1 of 2 packages"
    said["bandit"]["results"] = []
    assert scans.main(["--offline"]) == 0


def test_a_scanner_that_fails_is_said(monkeypatch):
    def fail(words, **_):
        return subprocess.CompletedProcess(words, 2, "", "no network")

    monkeypatch.setattr(scans, "subprocess", SimpleNamespace(run=fail))
    with pytest.raises(SystemExit, match="bandit failed:\nno network"):
        scans.main([])
