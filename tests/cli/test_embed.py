"""`embed`: of images and of suites."""

import json

import numpy as np
import pandas as pd
from calling import SMALL, arrays, refused, run


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


def test_embed_writes_parquet_and_a_pair_for_a_projector(tmp_path, trained, pictures):
    common = ["embed", pictures, "--adapter", trained / "adapter", "--out"]
    run(*common, tmp_path / "e.npz")
    run(*common, tmp_path / "e.parquet")
    run(*common, tmp_path / "e.tsv")
    wanted = arrays(tmp_path / "e.npz")
    table = pd.read_parquet(tmp_path / "e.parquet")
    assert np.allclose(np.stack(table["embedding"]), wanted["embeddings"])
    assert np.allclose(np.stack(table["code"]), wanted["codes"])
    assert table["label"].tolist() == ["cat", "cat", "dog"]
    vectors = np.loadtxt(tmp_path / "e.tsv", delimiter="\t")
    assert np.allclose(vectors, wanted["embeddings"], atol=1e-5)
    metadata = pd.read_csv(tmp_path / "e-metadata.tsv", sep="\t")
    assert len(metadata) == len(vectors) and list(metadata)[:2] == ["name", "label"]


def test_embed_refuses_other_files(tmp_path, trained, pictures):
    said = refused("embed", pictures, "--adapter", trained / "adapter", "--out", tmp_path / "e.xlsx")
    assert ".npz" in said and ".parquet" in said and ".tsv" in said
