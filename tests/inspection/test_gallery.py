"""Galleries: embeddings, neighbours and votes against the pieces they are made of; misfit files are refused."""

import threading
import time
from dataclasses import replace

import pytest
import torch

import metalora
from metalora.evaluation.config import EmbedConfig, SearchConfig
from metalora.evaluation.embedding import embed
from metalora.evaluation.knn import knn_predict
from metalora.inspection.gallery import build_gallery
from metalora.inspection.gallery_file import load_gallery, save_gallery
from metalora.suites.config import SuiteConfig
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, write_tensors

SETTINGS = SuiteConfig("digits", max_queries=60, max_train_images=5)


@pytest.fixture(scope="module")
def suite():
    return load_suite(SETTINGS, seed=3)


@pytest.fixture(scope="module")
def make_model(randomise):
    def make(method="metalora-tr", seed=0):
        backbone = metalora.load_backbone("resnet20", image_size=16)
        model = metalora.adapt(backbone, metalora.AdapterConfig(method, rank=2))
        return randomise(model.trained, seed, scale=0.1) and model

    return make


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def gallery(model, suite):
    return build_gallery(model, suite, limit=60, seed=1, embed_config=EmbedConfig(device="cpu"))


def test_embeddings_are_those_of_the_model_with_and_without_adapter(model, suite, gallery):
    assert len(gallery) == len(gallery.rows.unique()) == len(gallery.original) == len(gallery.adapted) == 60
    images = suite.splits["seen gallery"][gallery.rows].images()
    with torch.inference_mode():
        torch.testing.assert_close(gallery.adapted, model(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gallery.codes, model.codes(images), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gallery.original, original(images), rtol=1e-4, atol=1e-4)
    assert (gallery.original - gallery.adapted).norm() > 0.1 * gallery.original.norm()


def original(images):
    return metalora.load_backbone("resnet20", image_size=16)(images)


def test_a_limit_is_even_over_classes_and_its_seed_decides(model, suite, gallery):
    assert gallery.labels.bincount().tolist() == [6] * 10
    embed_config = EmbedConfig(device="cpu")
    same, other = (build_gallery(model, suite, limit=60, seed=seed, embed_config=embed_config).rows for seed in (1, 2))
    assert torch.equal(same, gallery.rows) and not torch.equal(other, gallery.rows)


def test_neighbours_are_rows_of_the_suite(suite, gallery):
    queries = gallery.adapted[[7, 20]] * 2
    nearest = gallery.nearest(queries, "adapted", k=3)
    assert nearest["image"].tolist() == [0] * 3 + [1] * 3 and nearest["rank"].tolist() == [1, 2, 3] * 2
    assert nearest["index"].iloc[[0, 3]].tolist() == [7, 20]
    assert nearest["similarity"].iloc[[0, 3]].to_numpy() == pytest.approx(1, abs=1e-5)
    assert (nearest.groupby("image")["similarity"].diff().dropna() <= 0).all()
    for row in nearest.itertuples():
        source = suite.splits["seen gallery"][gallery.rows[row.index : row.index + 1]]
        names = (suite.names[source.index], suite.classes[source.labels], suite.tasks[source.tasks])
        assert (row.name, row.label, row.task) == names


@pytest.mark.parametrize("space", ["original", "adapted"])
def test_votes_are_those_of_knn_in_the_space_asked_for(suite, model, gallery, space):
    queries = getattr(gallery, space)[:20] + 0.5 * torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    expected = knn_predict(queries, getattr(gallery, space), gallery.labels, [5])[5]
    assert gallery.predict(queries, space) == [suite.classes[label] for label in expected]


def test_images_of_a_task_share_cores_where_sets_are_asked_for(model, suite):
    embed_config = EmbedConfig(set_size=None, device="cpu")
    gallery = build_gallery(model, suite, limit=60, embed_config=embed_config)
    torch.testing.assert_close(gallery.adapted, embed(model, suite.splits["seen gallery"][gallery.rows], embed_config))
    alone = build_gallery(model, suite, limit=60, embed_config=EmbedConfig(device="cpu"))
    torch.testing.assert_close(gallery.original, alone.original)
    torch.testing.assert_close(gallery.codes, alone.codes)
    assert not torch.allclose(gallery.adapted, alone.adapted)


def nowhere(config, seed):
    raise InputError(f"There is no {config.name} here: get it.")


def test_a_file_brings_the_same_gallery_back_without_its_suite(tmp_path, gallery):
    save_gallery(gallery, tmp_path / "gallery.safetensors", SETTINGS)
    loaded = load_gallery(tmp_path / "gallery.safetensors", nowhere)
    for name in ("rows", "labels", "tasks", "original", "adapted", "codes"):
        assert torch.equal(getattr(loaded, name), getattr(gallery, name))
    assert loaded.table.equals(gallery.table) and loaded.adapter == gallery.adapter
    assert loaded.source == gallery.source and loaded.content == gallery.content
    assert loaded.examples is None and loaded.missing == "There is no digits here: get it."
    assert gallery.missing == ""


def test_its_images_are_read_when_they_are_asked_for(tmp_path, suite, gallery):
    file = tmp_path / "gallery.safetensors"
    save_gallery(gallery, file, SETTINGS)
    for loaded in (load_gallery(file), load_gallery(file, lambda config, seed: suite)):
        assert torch.equal(loaded.examples.images(), gallery.examples.images()) and loaded.missing == ""
    for other in (load_suite("digits", seed=4), replace(suite, splits={"train": suite.splits["train"]})):
        loaded = load_gallery(file, lambda *_, other=other: other)
        assert loaded.examples is None and "made of other images" in loaded.missing


@pytest.mark.parametrize(("version", "split"), [(1, "side"), (2, "split")])
def test_a_file_of_an_earlier_format_is_read(tmp_path, suite, gallery, version, split):
    file = tmp_path / "gallery.safetensors"
    save_gallery(gallery, file, SETTINGS)
    tensors, header = read_tensors(file)
    source, config = header.pop("source"), header["suite"]
    if version == 1:
        config["train_pictures"] = config.pop("max_train_images")
    old = {"format_version": version, split: source["split"], "seed": source["seed"], "suite": config}
    kept = {name: tensors[name] for name in ("rows", "original", "adapted", "codes")}
    write_tensors(file, kept, {"adapter": gallery.adapter, "content": gallery.content, **old})
    loaded = load_gallery(file)
    assert torch.equal(loaded.adapted, gallery.adapted) and loaded.table.equals(gallery.table)
    assert loaded.source == gallery.source
    with pytest.raises(InputError, match="other images"):
        load_gallery(file, lambda *_: load_suite("digits", seed=4))
    write_tensors(file, kept | {"rows": kept["rows"] + 10_000}, {"content": "", "adapter": "", **old})
    with pytest.raises(InputError, match="other images"):
        load_gallery(file)


def test_a_static_method_has_no_codes(tmp_path, make_model, suite):
    gallery = build_gallery(make_model("lora"), suite, limit=10, embed_config=EmbedConfig(device="cpu"))
    save_gallery(gallery, tmp_path / "gallery.safetensors", SETTINGS)
    assert gallery.codes is None and load_gallery(tmp_path / "gallery.safetensors").codes is None


def test_a_damaged_file_is_refused(tmp_path, gallery):
    file = tmp_path / "gallery.safetensors"
    save_gallery(gallery, file, SETTINGS)
    tensors, header = read_tensors(file)
    for changed in (
        {"rows": tensors["rows"].float()},
        {"codes": tensors["codes"][1:]},
        {"labels": tensors["labels"] + 10},
        {"tasks": tensors["tasks"] - 12},
    ):
        write_tensors(file, {**tensors, **changed}, header)
        with pytest.raises(InputError, match="do not fit"):
            load_gallery(file)
    for changed, message in (
        ({"format_version": 9}, "version 9"),
        ({"suite": []}, "give an object"),
        ({"names": gallery.names[1:]}, "do not fit"),
    ):
        write_tensors(file, tensors, {**header, **changed})
        with pytest.raises(InputError, match=message):
            load_gallery(file)
    write_tensors(file, {"rows": tensors["rows"]}, header)
    with pytest.raises(InputError, match="not a whole gallery"):
        load_gallery(file)
    with pytest.raises(InputError, match="no file"):
        load_gallery(tmp_path / "none.safetensors")


def test_what_a_gallery_cannot_do_is_an_error(tmp_path, make_model, model, suite, gallery):
    for split in ("train", "attic"):
        with pytest.raises(InputError, match="use validation, seen gallery"):
            build_gallery(model, suite, split=split)
    with pytest.raises(InputError, match="limit is 0"):
        build_gallery(model, suite, limit=0)
    with pytest.raises(InputError, match="original or adapted"):
        gallery.nearest(gallery.original, "both")
    with pytest.raises(InputError, match="K is 61"):
        gallery.predict(gallery.original, "original", k=61)
    with pytest.raises(InputError, match="another adapter"):
        gallery.check_adapter(make_model(seed=1))
    gallery.check_adapter(model)
    with pytest.raises(InputError, match="not of cifar10"):
        save_gallery(gallery, tmp_path / "gallery.safetensors", SuiteConfig("cifar10"))


def test_images_of_a_large_data_set_are_read_while_the_gallery_is_used(gallery, suite):
    begin = threading.Event()

    def read():
        assert begin.wait(30)
        return suite.splits["seen gallery"][gallery.rows]

    slow = replace(gallery, read=read)
    slow.read_in_background()
    assert slow.examples is None and len(slow.nearest(slow.original[:2], "original")) == 10  # without images
    begin.set()
    slow.missing  # noqa: B018 - waits for them
    assert_soon(lambda: slow.examples is not None)
    assert torch.equal(slow.examples.images(), gallery.examples.images())


def test_images_that_are_not_here_are_said_to_be_missing(gallery):
    def read():
        raise InputError("There is no CIFAR-10 here.")

    without = replace(gallery, read=read)
    without.read_in_background()
    assert_soon(lambda: without.missing == "There is no CIFAR-10 here.")
    assert without.examples is None


def assert_soon(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_search_finds_what_nearest_and_predict_do(gallery):
    found = gallery.search(gallery.adapted[:7], "adapted", SearchConfig(k=4))
    assert found.nearest.equals(gallery.nearest(gallery.adapted[:7], "adapted", 4)) and found.recall is None
    assert found.predicted == gallery.predict(gallery.adapted[:7], "adapted", 4)
    with pytest.raises(InputError, match="Unknown space"):
        gallery.search(gallery.adapted[:1], "neither", SearchConfig())


def test_a_search_by_faiss_says_its_recall_and_builds_its_index_once(gallery, monkeypatch):
    faiss = pytest.importorskip("faiss")
    config = SearchConfig(k=4, index="faiss", probes=60)  # all lists
    found = gallery.search(gallery.adapted[:7], "adapted", config)
    assert found.predicted == gallery.predict(gallery.adapted[:7], "adapted", 4)
    assert (found.recall.recall, found.recall.queries, found.recall.k) == (1, 7, 4)
    monkeypatch.setattr(faiss, "IndexIVFFlat", None)
    assert gallery.search(gallery.adapted[7:9], "adapted", config).recall.queries == 2
    with pytest.raises(TypeError):
        gallery.search(gallery.original[:1], "original", config)
