"""`embed`: of images and of suites."""

import json

from calling import SMALL, arrays, run


def test_embed_writes_npz_and_csv_and_counts_what_it_cannot_read(tmp_path, trained, pictures):
    out = tmp_path / "e.npz"
    done = run("embed", pictures, "--adapter", trained / "adapter", "--out", out, "--json", tmp_path / "e.json")
    assert "1 images could not be used: cat/broken.png" in done.stderr
    found = arrays(out)
    assert found["embeddings"].shape == (3, 64) and found["codes"].shape == (3, 16)
    assert found["labels"].tolist() == ["cat", "cat", "dog"]
    head, *rows = (tmp_path / "e.csv").read_text().splitlines()
    assert head.startswith("name,label,task,split,e0,") and len(rows) == 3
    assert json.loads((tmp_path / "e.json").read_text())["count"] == 3


def test_embed_a_suite_with_a_backbone(tmp_path):
    run(
        "embed",
        "--suite",
        "digits",
        *SMALL,
        "--max-queries",
        "20",
        "--backbone",
        "resnet20",
        "--out",
        tmp_path / "s.npz",
    )
    found = arrays(tmp_path / "s.npz")
    assert "codes" not in found and len(set(found["tasks"])) > 3
    assert {"seen query", "unseen gallery"} <= set(found["splits"]) and "train" not in found["splits"]
