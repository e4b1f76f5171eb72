"""`embed`: of images and of suites."""

import json

import numpy as np
import pandas as pd
import pytest
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


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Embeddings of a suite by a backbone, as a file to search."""
    out = tmp_path_factory.mktemp("gallery") / "digits.safetensors"
    run("embed", "--suite", "digits", *SMALL, "--backbone", "resnet20", "--out", out)
    return out


@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_embed_writes_the_nearest_images_of_a_gallery_and_says_how_they_were_found(tmp_path, pictures, gallery, index):
    if index == "faiss":
        pytest.importorskip("faiss")
    words = ["embed", pictures, "--image-size", "8", "--device", "cpu", "--backbone", "resnet20", "--gallery", gallery]
    search = ["--k", "3", "--index", index, "--probes", "1000"]
    words += [*search, "--out", tmp_path / "e.npz", "--json", tmp_path / "e.json"]
    said = run(*words).stdout.splitlines()[-1]
    nearest = pd.read_csv(tmp_path / "e-nearest.csv")
    assert list(nearest) == ["image", "rank", "similarity", "name", "label", "task", "split"]
    assert nearest["image"].tolist() == [name for name in arrays(tmp_path / "e.npz")["names"] for _ in range(3)]
    assert nearest.groupby("image")["similarity"].apply(lambda values: values.is_monotonic_decreasing).all()
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["files"][-1].endswith("e-nearest.csv") and result["search"]["k"] == 3
    if index == "exact":
        assert said.endswith("by exact search.") and "recall" not in result["search"]
    else:
        assert "recall@3 is 1.000 against exact search, by 3 queries (seed 0)" in said
        assert (result["search"]["recall"], result["search"]["queries"], result["search"]["seed"]) == (1, 3, 0)


def test_embed_refuses_a_gallery_that_it_cannot_search_before_it_embeds(tmp_path, trained, pictures, gallery):
    out = ["--device", "cpu", "--out", tmp_path / "e.npz"]
    call = ["embed", pictures, "--image-size", "8", "--backbone", "resnet20", *out]
    assert "--index is for searching a gallery: add --gallery" in refused(*call, "--index", "faiss")
    assert "Unknown index 'hnsw'" in refused(*call, "--gallery", gallery, "--index", "hnsw")
    assert "K is 100000 and the gallery has" in refused(*call, "--gallery", gallery, "--k", "100000")
    assert "--gallery " in refused(*call, "--gallery", tmp_path / "g.npz")
    of_other = ["embed", pictures, "--adapter", trained / "adapter", *out, "--gallery", gallery]
    assert "embedded by another adapter" in refused(*of_other)
    assert not (tmp_path / "e.npz").exists()
