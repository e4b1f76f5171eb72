"""`compare`: table, rows, and what an interruption keeps."""

import json

from calling import COMPARE, run

from metalora import cli

ROW = {"method", "backbone", "suite", "split", "gallery", "set_size", "k", "accuracy", "std", "n_seeds"}
ROW |= {"static_parameters", "generator_parameters", "ms_per_step"}


def test_compare_writes_table_and_rows_and_keeps_its_cells(tmp_path):
    arms = ["--method", "original", "--method", "metalora-tr@8"]
    first = run(*COMPARE, *arms, "--out", tmp_path / "c", "--json", tmp_path / "c.json")
    assert "8 unlabelled images" in " ".join(first.stdout.split()) and str(tmp_path / "c") in first.stdout
    data = json.loads((tmp_path / "c.json").read_text())
    assert len(data["rows"]) == 2 * 2 * 2 * 2
    assert all(row.keys() >= ROW for row in data["rows"])
    assert data["rows"][0]["std"] is None and data["rows"][0]["ms_per_step"] is None
    assert {path.suffix for path in (tmp_path / "c").glob("comparison.*")} == {".csv", ".json", ".md", ".tex"}
    cells = sorted((tmp_path / "c/cells").iterdir())
    times = [cell.stat().st_mtime_ns for cell in cells]
    run(*COMPARE, *arms, "--method", "lora", "--out", tmp_path / "c")
    assert [cell.stat().st_mtime_ns for cell in cells] == times
    assert len(list((tmp_path / "c/cells").iterdir())) == len(cells) + 1


def test_an_interrupted_comparison_says_what_it_keeps(tmp_path, monkeypatch):
    tell = cli.messages.Bar.tell

    def interrupt(bar, done, *rest, **words):
        tell(bar, done, *rest, **words)
        if bar.title == "Training" and done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.messages.Bar, "tell", interrupt)
    arms = ["--method", "original", "--method", "lora"]
    said = run(*COMPARE, *arms, "--out", tmp_path / "c", code=1).stderr
    assert "1 finished trainings are kept" in said
    assert len(list((tmp_path / "c/cells").iterdir())) >= 1
