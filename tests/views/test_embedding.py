"""Charts: planes of one or two adapters, what a picture's neighbours and a lasso say, and the files."""

import gc
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

import metalora
from metalora.evaluation.config import EmbedConfig
from metalora.inspection.gallery import build_gallery
from metalora.inspection.projection import neighbours, project
from metalora.inspection.spaces import space
from metalora.plots import embedding
from metalora.plots.page import as_page
from metalora.runs.run_config import RunConfig
from metalora.suites import load_suite
from metalora.util.errors import InputError
from metalora.views.app_state import OpenAdapter
from metalora.views.embedding import Projection, chart, judged, lines, neighbourhood, pictures, same_pictures
from metalora.views.embedding_files import write_page, write_table

PCA = Projection(method="pca")


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


def test_the_plane_beside_an_adapter_is_used_with_its_own_settings_only(pair):
    one = pair[:1]
    found = chart(["a"], one, Projection())
    assert found.before and found.frames[0][["x", "y"]].to_numpy().tolist() == one[0].planes["adapted"].tolist()
    other = chart(["a"], one, PCA)
    assert not other.before
    np.testing.assert_allclose(other.frames[0][["x", "y"]], project(one[0].gallery.adapted, "pca"))


def test_two_adapters_stand_side_by_side_and_know_whether_their_rows_are_the_same(pair, open_adapter):
    found = chart(["a", "b"], pair, PCA)
    assert found.same and found.titles == ("Meta-LoRA CP on resnet20", "LoRA on resnet20")
    fewer = open_adapter("lora", limit=20)
    assert not same_pictures(pair[0].gallery, fewer.gallery)
    assert not chart(["a", "b"], [pair[0], fewer], PCA).same
    with pytest.raises(InputError, match="different pictures"):
        chart(["a", "b"], [pair[0], fewer], Projection(aligned=True))


@pytest.mark.parametrize(
    ("count", "settings", "words"),
    [(1, {}, "two adapters"), (2, {"method": "pca"}, "PCA cannot be aligned")],
)
def test_what_cannot_be_aligned_is_refused(pair, count, settings, words):
    with pytest.raises(InputError, match=words):
        chart(["a", "b"][:count], pair[:count], Projection(aligned=True, **settings))


def test_neighbours_come_from_the_space_and_not_from_the_plane(pair):
    made = chart(["a"], pair[:1], Projection())  # its plane is a straight line
    rows, shown = neighbourhood(pair[0], made, 0, 3)
    expected = neighbours(space(pair[0].model, pair[0].gallery, "adapted"), 3)
    assert rows == expected["index"].tolist() and len(shown["tiles"]) == 11
    assert [tile["name"] for tile in shown["tiles"]] == made.frames[0]["name"][[3, *rows]].tolist()
    assert shown["tiles"][0]["lines"][0] == "this picture"
    assert shown["tiles"][1]["lines"][0] == f"1: cosine {expected['similarity'][0]:.2f}"
    with pytest.raises(InputError, match="no point 30"):
        neighbourhood(pair[0], made, 0, 30)


def test_a_lasso_is_counted_and_judged(pair):
    made = chart(["a"], pair[:1], PCA)
    frame = made.frames[0].assign(correct=[True] * 3 + [False] * 27)
    sentence, counts = judged(frame, [0, 1, 5, 6], made.classes[0])
    assert sentence.startswith("4 pictures, 50.0 %") and "all: 10.0 %" in sentence
    assert counts["pictures"].sum() == 4 and list(counts) == ["class", "pictures"]
    assert judged(frame, [], made.classes[0])[0] == "Nothing is selected."


def test_cards_know_every_picture_and_the_generated_adapters(pair):
    with_cores, static = (pictures(one) for one in pair)
    assert with_cores["strips"]["columns"] == 6 and static["strips"] is None
    frame = chart(["a"], pair[:1], PCA).frames[0].assign(label="7", task="red", predicted="1")
    assert lines(frame)[0] == "class 7, task red; its 5 nearest say 1"


def test_the_table_has_a_row_for_each_point_of_each_adapter(pair):
    table = chart(["a", "b"], pair, PCA).table()
    assert table["adapter"].value_counts().to_dict() == {"a": 30, "b": 30}
    assert set(table["projection"]) == {PCA.words} and not table.isna().any().any()


def test_a_page_stands_alone_and_shows_names_as_text(pair):
    frame = chart(["a"], pair[:1], PCA).frames[0].assign(name="<img src=x>")
    page = as_page([embedding(frame)] * 2, [frame] * 2, ["<script>alert(1)</script>"])
    assert "<img src=x>" not in page and "<script>alert" not in page
    assert page.count('class="plotly-graph-div"') == 2
    assert "<script src" not in page and len(page) > 3_000_000


def test_files_hold_the_chart_and_say_how_far_distances_count(pair, tmp_path):
    made = chart(["a", "b"], pair, PCA)
    table = pd.read_csv(write_table(made, tmp_path / "new"), dtype={"label": str, "predicted": str})
    assert table["adapter"].tolist() == ["a"] * 30 + ["b"] * 30
    np.testing.assert_allclose(table["x"], made.table()["x"], rtol=1e-6)
    page = write_page(made, [embedding(frame) for frame in made.frames], tmp_path).read_text(encoding="utf-8")
    assert PCA.words in page and "not metric" not in page
    near = chart(["a"], pair[:1], Projection())
    assert "not metric" in write_page(near, [embedding(near.frames[0])], tmp_path).read_text(encoding="utf-8")


def test_a_chart_is_remembered_but_its_adapter_is_not_kept(open_adapter):
    opened = open_adapter("metalora-cp")
    made = chart(["a"], [opened], PCA)
    cards = pictures(opened)
    assert chart(["a"], [opened], PCA).frames[0] is made.frames[0] and pictures(opened) is cards
    gone = weakref.ref(opened)
    del opened
    gc.collect()
    assert gone() is None and len(made.frames[0]) == 30


def test_aligned_planes_belong_to_their_adapters_in_order(pair, monkeypatch):
    asked = []

    def align(features, neighbours):
        asked.append(([len(one) for one in features], neighbours))
        return [np.full((30, 2), side, np.float32) for side in range(len(features))]

    monkeypatch.setattr("metalora.views.embedding.align", align)
    made = chart(["a", "b"], pair, Projection(neighbours=9, aligned=True))
    assert asked == [([30, 30], 9)] and made.same and not made.before
    assert [frame[["x", "y"]].to_numpy().mean() for frame in made.frames] == [0, 1]
    for frame, alone in zip(made.frames, chart(["a", "b"], pair, PCA).frames, strict=True):
        assert frame["predicted"].equals(alone["predicted"])


def test_captions_claim_no_setting_that_was_not_used():
    assert Projection("cores", "pca", neighbours=7).words.startswith("PCA of generated cores: the two directions")
    assert Projection(neighbours=7, min_dist=0.25).words.endswith("7 neighbours, min_dist 0.25")
    assert Projection(min_dist=0.5, aligned=True).words.endswith("15 neighbours, min_dist 0.1")
