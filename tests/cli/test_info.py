"""`info`."""

import json

from calling import SMALL, run


def test_info(tmp_path, trained):
    everything = run("info", "--json", tmp_path / "info.json").output
    assert "2311.11501" in everything and "folder:PATH" in everything
    assert json.loads((tmp_path / "info.json").read_text())["methods"][0]["name"] == "original"
    assert "unseen query" in run("info", "--suite", "digits", *SMALL[:4]).output
    assert "layer1.0.conv1" in run("info", "--backbone", "resnet20").output
    assert "(mapping)" in run("info", "--adapter", trained / "adapter").output


def test_info_works_without_cards(monkeypatch, tmp_path):
    monkeypatch.setattr("metalora.models.bundled_networks.ASSETS", tmp_path)
    assert "no card" in run("info").output
