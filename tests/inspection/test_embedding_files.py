"""Embeddings that are written and searched again; misfit files are refused."""

import pandas as pd
import pytest
import torch

import metalora
from metalora.evaluation.config import SearchConfig
from metalora.evaluation.gallery_search import GallerySearch
from metalora.evaluation.knn import knn_neighbours
from metalora.inspection.embedding_files import nearest_images, read_embeddings, write_embeddings
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors

NAMES = ['a "b", c.png', "NA", "line\nbreak", "", "ü.png", "6"]
TABLE = pd.DataFrame({"name": NAMES, "label": list("abcabc"), "task": "", "split": ""})
FEATURES = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return metalora.adapt("resnet20", metalora.AdapterConfig("lora", rank=1, targets=("layer1.0",)))


@pytest.fixture
def file(tmp_path, model):
    write_embeddings(tmp_path / "gallery.safetensors", TABLE, FEATURES, None, model)
    return tmp_path / "gallery.safetensors"


def test_a_gallery_is_read_as_it_was_written(file, model):
    features, table = read_embeddings(file, model)
    assert torch.equal(features, FEATURES)
    pd.testing.assert_frame_equal(table, TABLE)


def test_nearest_images_are_those_of_the_exact_search_with_their_names():
    queries = pd.DataFrame({"name": ["x", "y"], "label": "", "task": "", "split": ""})
    found, recall = nearest_images(queries, FEATURES[4:] + 0.1, GallerySearch(FEATURES, SearchConfig(k=3)), TABLE)
    similarity, rows = knn_neighbours(FEATURES[4:] + 0.1, FEATURES, 3)
    assert recall is None and found["image"].tolist() == ["x"] * 3 + ["y"] * 3
    assert found["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert found["name"].tolist() == [NAMES[i] for i in rows.flatten().tolist()]
    assert found["similarity"].tolist() == similarity.flatten().tolist()


def test_a_gallery_of_another_adapter_or_backbone_is_refused(file, model):
    other = metalora.adapt("resnet20", metalora.AdapterConfig("lora", rank=1, targets=("layer1.0",), seed=1))
    original = metalora.adapt("mixer_nano", metalora.AdapterConfig("original"))
    for wrong in (other, original):
        with pytest.raises(InputError, match="embedded by another adapter: embed them with yours"):
            read_embeddings(file, wrong)


def test_files_of_something_else_are_refused(file, model, tmp_path):
    tensors, header = read_tensors(file)
    words = tensors["table"].numpy().tobytes()
    changed = {
        "no table": {"embeddings": FEATURES},
        "no embeddings": {"table": tensors["table"]},
        "other sides": tensors | {"embeddings": FEATURES[None]},
        "whole numbers": tensors | {"embeddings": FEATURES.long()},
        "another type": tensors | {"table": tensors["table"].long()},
        "fewer rows": tensors | {"embeddings": FEATURES[:5]},
        "no UTF-8": tensors | {"table": torch.tensor([255, 254], dtype=torch.uint8)},
        "empty": tensors | {"table": torch.empty(0, dtype=torch.uint8)},
        "other columns": tensors | {"table": torch.tensor(list(words.replace(b"label", b"lapel")), dtype=torch.uint8)},
        "ragged": tensors | {"table": torch.tensor(list(words + b"1,2,3,4,5,6,7\n"), dtype=torch.uint8)},
    }
    for name, parts in changed.items():
        write_tensors(tmp_path / "wrong.safetensors", parts, header)
        with pytest.raises(InputError, match="holds no embeddings: write it with embed --out"):
            read_embeddings(tmp_path / "wrong.safetensors", model)
            pytest.fail(name)
    with pytest.raises(InputError, match="There is no file"):
        read_embeddings(tmp_path / "none.safetensors", model)
