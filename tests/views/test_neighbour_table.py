"""Tables of neighbours: a row per image, images as data URLs, and no text as HTML."""

from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
import torch

from metalora.inspection.gallery import Gallery, Source
from metalora.inspection.inspect_images import Inspection
from metalora.inspection.neighbours import NeighbourReport, SwapResult
from metalora.plots.palette import class_colours
from metalora.plots.thumbnails import card, thumbnail
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.views.neighbour_table import Column, neighbour_table, swap_table

NASTY = '<img src=x onerror="alert(1)">'


class Reader(HTMLParser):
    """Collects tags, attributes and words."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def gallery():
    suite = load_suite("digits", max_queries=30, max_train_images=5)
    rows, examples = torch.arange(20), suite.splits["seen gallery"][:20]
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    source = Source(suite.name, suite.seed, "seen gallery", suite.classes, suite.tasks, suite.factors)
    numbers = (rows, examples.labels, examples.tasks)
    embeddings = (features, features.flip(0), None)
    return Gallery(source, tuple(map(str, rows)), *numbers, *embeddings, "some adapter", "", lambda: examples)


@pytest.fixture
def report(gallery):
    """Two images, of which only names, classes and neighbours matter here."""
    names = (NASTY, "two.png")
    inspection = Inspection(names, None, pd.DataFrame({"layer": [0.1, 0.1]}, index=names), None, True)
    features = gallery.original[:2]
    before, after = (gallery.nearest(features, space, 3) for space in ("original", "adapted"))
    return NeighbourReport(inspection, features, features, before, after, ["1", "2"], ["3", NASTY])


@pytest.fixture
def images():
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def table(report, images, gallery):
    columns = [
        Column("original network", report.predicted_before, report.nearest_before, gallery),
        Column(f"its own {NASTY}", report.predicted_after, report.nearest_after, gallery),
    ]
    return Reader(neighbour_table(report.inspection.names, images, columns))


def test_a_row_per_image_with_neighbours_before_and_after(report, images, gallery):
    page = table(report, images, gallery)
    assert page.tags.count("tr") == 3 and page.tags.count("table") == 1
    assert page.tags.count("img") == 2 * (1 + 3 + 3)
    titles = [entry["title"] for entry in page.attributes if "title" in entry]
    expected = [
        f"class {row.label}, task {row.task}, cosine {row.similarity:.3f}"
        for image in (0, 1)
        for nearest in (report.nearest_before, report.nearest_after)
        for row in nearest[nearest["image"] == image].itertuples()
    ]
    assert titles == expected
    classes = [page.words[i + 1] for i, word in enumerate(page.words) if word == "class "]
    assert classes == ["1", "3", "2", NASTY]


def test_the_gallerys_own_images_are_shown(report, images, gallery):
    page = table(report, images, gallery)
    sources = [entry["src"] for entry in page.attributes if "src" in entry]
    first = report.nearest_before["index"].iloc[0]
    assert sources[0] == thumbnail(images[0])
    assert sources[1] == thumbnail(gallery.examples[[first]].images()[0])


def test_a_card_stands_for_an_image_that_is_not_here(report, images, gallery):
    def read():
        raise InputError("There is no CIFAR-10 here: get it.")

    page = table(report, images, replace(gallery, read=read))
    sources = [entry["src"] for entry in page.attributes if "src" in entry]
    first = report.nearest_before.iloc[0]
    assert sources[1] == thumbnail(card(first["label"], first["task"], class_colours(gallery.classes)[first["label"]]))


def test_text_from_outside_is_text(report, images, gallery):
    source = replace(gallery.source, classes=tuple(f"{NASTY}{name}" for name in gallery.classes))
    hostile = replace(gallery, source=source)
    nearest = hostile.nearest(hostile.original[:2], "original", 3)
    page = table(replace(report, nearest_before=nearest), images, hostile)
    assert not any("onerror" in entry for entry in page.attributes)
    assert any(NASTY in entry.get("title", "") for entry in page.attributes)
    assert page.words.count(NASTY) >= 1 and f"its own {NASTY}" in page.words


def test_a_swap_is_one_row_of_the_receiver(report, images, gallery):
    nearest = gallery.nearest(gallery.adapted[7:8], "adapted", 3)
    page = Reader(swap_table(report, images, 1, SwapResult(gallery.adapted[7], nearest, "9", 0.2), gallery))
    assert page.tags.count("tr") == 2 and "2. two.png" in page.words
    titles = [entry["title"] for entry in page.attributes if "title" in entry]
    assert len(titles) == 6 and titles[3].endswith("cosine 1.000")
    classes = [page.words[i + 1] for i, word in enumerate(page.words) if word == "class "]
    assert classes == [NASTY, "9"]
