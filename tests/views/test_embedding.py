"""Embeddings: planes of one or two adapters, neighbours of an image, the points of a lasso, and files."""

import gc
import re
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.inspection.gallery import build_gallery
from metalora.inspection.projection import nearest_others, project
from metalora.inspection.spaces import gallery_features
from metalora.plots import embedding_scatter
from metalora.plots.page import as_page
from metalora.runs.run_config import RunConfig
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.views.embedding import ORIGINAL, MapRequest, Projection, Side, embedding_view, same_images, sides
from metalora.views.embedding_files import TSV, write_page, write_table
from metalora.views.embedding_points import hover_lines, hover_sprites
from metalora.views.embedding_selection import describe_selection, neighbour_tiles
from metalora.views.open_adapter import OpenAdapter

PCA = Projection(method="pca")


def view_of(names, opened, projection):
    pairs = zip(names, opened, strict=True)
    return embedding_view([Side(name, adapter, projection.space) for name, adapter in pairs], projection)


@pytest.fixture(scope="module")
def open_adapter(randomise):
    def make(method, limit=30, planes=None):
        config = metalora.AdapterConfig(method, rank=2)
        model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), config)
        randomise(model.trained, scale=0.2)
        suite = load_suite("digits", max_queries=30, max_train_images=5)
        gallery = build_gallery(model, suite, limit=limit, embed_config=EmbedConfig(device="cpu"))
        return OpenAdapter(RunConfig("resnet20", adapter=config), model, gallery, planes or {})

    return make


@pytest.fixture(scope="module")
def pair(open_adapter):
    return [open_adapter("metalora-cp", planes={"adapted": torch.arange(60.0).view(30, 2)}), open_adapter("lora")]


def test_the_precomputed_plane_is_used_with_its_own_settings_only(pair):
    one = pair[:1]
    view = view_of(["a"], one, Projection())
    assert view.precomputed and view.frames[0][["x", "y"]].to_numpy().tolist() == one[0].planes["adapted"].tolist()
    other = view_of(["a"], one, PCA)
    assert not other.precomputed
    np.testing.assert_allclose(other.frames[0][["x", "y"]], project(one[0].gallery.adapted, "pca"))


def test_two_adapters_side_by_side_may_have_the_same_images(pair, open_adapter):
    view = view_of(["a", "b"], pair, PCA)
    assert view.same_images and view.titles == ("Meta-LoRA CP on resnet20", "LoRA on resnet20")
    fewer = open_adapter("lora", limit=20)
    assert not same_images(pair[0].gallery, fewer.gallery)
    assert not view_of(["a", "b"], [pair[0], fewer], PCA).same_images
    with pytest.raises(InputError, match="different images"):
        view_of(["a", "b"], [pair[0], fewer], Projection(aligned=True))


@pytest.mark.parametrize(
    ("count", "settings", "words"),
    [(1, {}, "two maps"), (2, {"method": "pca"}, "PCA cannot be aligned")],
)
def test_what_cannot_be_aligned_is_refused(pair, count, settings, words):
    with pytest.raises(InputError, match=words):
        view_of(["a", "b"][:count], pair[:count], Projection(aligned=True, **settings))


def test_neighbours_come_from_the_space_and_not_from_the_plane(pair):
    view = view_of(["a"], pair[:1], Projection())  # its plane is a straight line
    rows, shown = neighbour_tiles(pair[0], view, 0, 3)
    expected = nearest_others(gallery_features(pair[0].model, pair[0].gallery, "adapted"), 3)
    assert rows == expected["index"].tolist() and len(shown["tiles"]) == 11
    assert [tile["name"] for tile in shown["tiles"]] == view.frames[0]["name"][[3, *rows]].tolist()
    assert shown["tiles"][0]["lines"][0] == "this image"
    assert shown["tiles"][1]["lines"][0] == f"1: cosine {expected['similarity'][0]:.2f}"
    with pytest.raises(InputError, match="no point 30"):
        neighbour_tiles(pair[0], view, 0, 30)


def test_a_lasso_has_counts_and_an_accuracy(pair):
    view = view_of(["a"], pair[:1], PCA)
    frame = view.frames[0].assign(correct=[True] * 3 + [False] * 27)
    sentence, counts = describe_selection(frame, [0, 1, 5, 6, 0], view.classes[0])
    assert sentence.startswith("4 images, 50.0 %") and "all: 10.0 %" in sentence
    assert counts["images"].sum() == 4 and list(counts) == ["class", "images"]
    assert describe_selection(frame, [], view.classes[0])[0] == "Nothing is selected."
    for wrong in (-1, 30, "0", 1.5):
        with pytest.raises(InputError, match="0 to 29"):
            describe_selection(frame, [0, wrong], view.classes[0])


def test_counts_are_in_the_order_of_the_classes():
    points = pd.DataFrame({"label": ["b", "a", "b", "c", "b"], "correct": True})
    _, counts = describe_selection(points, [4, 1, 0], ["a", "b", "c"])
    assert counts.to_dict("list") == {"class": ["a", "b"], "images": [1, 2]}


def test_hover_texts_and_sprites_of_points(pair):
    with_cores, static = (hover_sprites(adapter) for adapter in pair)
    assert with_cores["strips"]["columns"] == 6 and static["strips"] is None
    frame = view_of(["a"], pair[:1], PCA).frames[0].assign(label="7", task="red", predicted="1")
    assert hover_lines(frame)[0] == "class 7, task red; its 5 nearest say 1"


def test_the_table_has_a_row_for_each_point_of_each_adapter(pair):
    table = view_of(["a", "b"], pair, PCA).table()
    assert table["adapter"].value_counts().to_dict() == {"a": 30, "b": 30}
    captions = {caption.removesuffix(", laid over the other plane") for caption in table["projection"]}
    assert captions == {PCA.caption} and not table.isna().any().any()


def test_a_page_needs_no_other_file_and_shows_names_as_text(pair):
    frame = view_of(["a"], pair[:1], PCA).frames[0].assign(name="<img src=x>")
    page = as_page([embedding_scatter(frame)] * 2, [frame] * 2, ["<script>alert(1)</script>"])
    assert "<img src=x>" not in page and "<script>alert" not in page
    assert page.count('class="plotly-graph-div"') == 2
    assert "<script src" not in page and len(page) > 3_000_000


def test_files_hold_the_view_and_say_whether_distances_are_metric(pair, tmp_path):
    view = view_of(["a", "b"], pair, PCA)
    table = pd.read_csv(write_table(view, tmp_path / "new"), dtype={"label": str, "predicted": str})
    assert table["adapter"].tolist() == ["a"] * 30 + ["b"] * 30
    np.testing.assert_allclose(table["x"], view.table()["x"], rtol=1e-6)
    page = write_page(view, [embedding_scatter(frame) for frame in view.frames], tmp_path).read_text(encoding="utf-8")
    assert PCA.caption in page and "not metric" not in page
    near = view_of(["a"], pair[:1], Projection())
    assert "not metric" in write_page(near, [embedding_scatter(near.frames[0])], tmp_path).read_text(encoding="utf-8")


def test_results_are_cached_no_longer_than_their_adapter(open_adapter):
    opened = open_adapter("metalora-cp")
    view = view_of(["a"], [opened], PCA)
    sprites = hover_sprites(opened)
    assert view_of(["a"], [opened], PCA).frames[0] is view.frames[0] and hover_sprites(opened) is sprites
    gone = weakref.ref(opened)
    del opened
    gc.collect()
    assert gone() is None and len(view.frames[0]) == 30


def test_aligned_planes_belong_to_their_adapters_in_order(pair, monkeypatch):
    calls = []

    def align(features, neighbours):
        calls.append(([len(one) for one in features], neighbours))
        return [np.full((30, 2), side, np.float32) for side in range(len(features))]

    monkeypatch.setattr("metalora.views.embedding.align_apart", align)
    view = view_of(["a", "b"], pair, Projection(neighbours=9, aligned=True))
    assert calls == [([30, 30], 9)] and view.same_images and not view.precomputed
    assert [frame[["x", "y"]].to_numpy().mean() for frame in view.frames] == [0, 1]
    for frame, alone in zip(view.frames, view_of(["a", "b"], pair, PCA).frames, strict=True):
        assert frame["predicted"].equals(alone["predicted"])


def test_captions_have_the_settings_that_were_used():
    assert Projection("cores", "pca", neighbours=7).caption.startswith("PCA of generated cores: the two directions")
    assert Projection(neighbours=7, min_dist=0.25).caption.endswith("7 neighbours, min_dist 0.25")
    assert Projection(min_dist=0.5, aligned=True).caption.endswith("15 neighbours, min_dist 0.1")


def test_the_original_network_is_laid_over_the_adapter_without_changing_its_shape(pair):
    adapter = pair[0]
    shown = sides([(ORIGINAL, adapter), ("a", adapter)], "adapted")
    assert [(side.name, side.space) for side in shown] == [("a", "original"), ("a", "adapted")]
    view = embedding_view(shown, PCA)
    alone = project(adapter.gallery.original, "pca")
    moved, onto = (frame[["x", "y"]].to_numpy() for frame in view.frames)
    scale = np.linalg.norm(onto - onto.mean(0)) / np.linalg.norm(alone - alone.mean(0))
    apart = np.linalg.norm(alone[0] - alone[1:], axis=1) * scale
    np.testing.assert_allclose(np.linalg.norm(moved[0] - moved[1:], axis=1), apart, rtol=1e-4)
    assert view.titles == ("Original resnet20", "Meta-LoRA CP on resnet20") and view.same_images
    assert "Procrustes" in view.describe() and "PCA of features, original backbone" in view.caption(0)
    assert "turned" in view.axes(0)[0] and re.fullmatch(r"PCA 1: \d+% of variance", view.axes(1)[0])


@pytest.mark.parametrize("space", ["cores", "original"])
def test_nothing_is_shown_twice_and_cores_do_not_turn_into_features(pair, space):
    assert [side.space for side in sides([(ORIGINAL, pair[0]), ("a", pair[0])], space)] == [space]


def test_a_view_morphs_where_that_was_asked_for_and_images_are_the_same(pair):
    shown = sides([(ORIGINAL, pair[0]), ("a", pair[0])], "adapted")
    for arrangement, morphs in (("morph", True), ("beside", False)):
        assert embedding_view(shown, PCA, MapRequest("a", ORIGINAL, arrangement, PCA)).morphs == morphs
    assert not embedding_view(shown[1:], PCA, MapRequest("a", "", "morph", PCA)).morphs


def test_a_table_is_written_with_tabs_too(pair, tmp_path):
    view = view_of(["a"], pair[:1], PCA)
    table = pd.read_csv(write_table(view, tmp_path, TSV), sep="\t", dtype={"label": str, "predicted": str})
    assert table["name"].tolist() == view.frames[0]["name"].tolist()
