"""Searches by faiss against the exact one: what they find, the recall that they report, and refusals."""

import math
import sys

import pytest
import torch

from metalora.evaluation.config import SearchConfig
from metalora.evaluation.gallery_search import SAMPLE, GallerySearch, Recall
from metalora.evaluation.knn import knn_neighbours
from metalora.util.errors import InputError

pytest.importorskip("faiss")

FAISS = SearchConfig(index="faiss")


def clusters(count, seed, spread=0.6, width=16):
    """Points around forty centres."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(40, width, generator=rng)
    rng.manual_seed(seed)
    return centres[torch.randint(40, (count,), generator=rng)] + spread * torch.randn(count, width, generator=rng)


GALLERY, QUERIES = clusters(3000, 1), clusters(500, 2)


def test_the_exact_index_is_the_exact_search():
    found = GallerySearch(GALLERY, SearchConfig(k=7)).nearest(QUERIES)
    similarity, rows = knn_neighbours(QUERIES, GALLERY, 7)
    assert torch.equal(found.similarity, similarity) and torch.equal(found.rows, rows) and found.recall is None


def test_with_all_lists_faiss_finds_what_the_exact_search_does():
    found = GallerySearch(GALLERY * 7, SearchConfig(index="faiss", probes=10**6)).nearest(QUERIES)
    similarity, rows = knn_neighbours(QUERIES, GALLERY, 5)
    assert (found.rows == rows).float().mean() > 0.999  # but for rounding
    torch.testing.assert_close(found.similarity, similarity, rtol=0, atol=2e-6)
    lists = math.isqrt(len(GALLERY))
    assert found.recall == Recall(f"faiss IVF-Flat, {lists} of {lists} lists", 5, 1.0, SAMPLE, 0)


@pytest.mark.parametrize("probes", [1, 4])
def test_the_recall_is_that_of_the_queries_that_were_drawn(probes):
    config = SearchConfig(k=10, index="faiss", probes=probes)
    few = QUERIES[:SAMPLE]  # so that all are compared
    found = GallerySearch(GALLERY, config).nearest(few)
    exact = knn_neighbours(few, GALLERY, 10)[1].tolist()
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found.rows.tolist(), exact, strict=True)]
    assert found.recall.recall == pytest.approx(sum(shared) / len(shared), abs=1e-3) and found.recall.recall < 1
    assert (found.similarity.diff(dim=1) <= 0).all()


def test_more_lists_find_more():
    recalls = [
        GallerySearch(GALLERY, SearchConfig(index="faiss", probes=probes)).nearest(QUERIES).recall.recall
        for probes in (1, 4, 16)
    ]
    assert recalls == sorted(recalls) and recalls[0] < 0.9 < recalls[2]


def test_the_seed_decides_lists_and_sample():
    one, same, other = (
        GallerySearch(GALLERY, SearchConfig(index="faiss", probes=2, seed=seed)).nearest(QUERIES)
        for seed in (3, 3, 2**32 - 1)
    )
    assert torch.equal(one.rows, same.rows) and one.recall == same.recall
    assert not torch.equal(one.rows, other.rows) and other.recall.seed == 2**32 - 1


def test_an_image_that_is_as_similar_as_the_last_one_counts():
    gallery = torch.eye(4).repeat(50, 1)  # of each image fifty copies, of which any five will do
    found = GallerySearch(gallery, FAISS).nearest(torch.eye(4))
    assert found.recall.recall == 1 and (found.rows % 4 == torch.arange(4)[:, None]).all()


def test_the_recall_is_said_with_the_index_and_the_seed():
    said = str(Recall("faiss IVF-Flat, 16 of 54 lists", 5, 0.98765, 200, 3))
    assert said == ("faiss IVF-Flat, 16 of 54 lists: recall@5 is 0.988 against exact search, by 200 queries (seed 3)")


def test_what_a_person_can_get_wrong_is_said():
    with pytest.raises(InputError, match="Unknown index 'hnsw': use exact or faiss"):
        SearchConfig(index="hnsw")
    for wrong in ({"k": 0}, {"probes": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="use a whole number"):
            SearchConfig(**wrong)
    for config in (SearchConfig(), FAISS):
        with pytest.raises(InputError, match="K is 5 and the gallery has 4 images"):
            GallerySearch(GALLERY[:4], config)
        with pytest.raises(InputError, match="one width D"):
            GallerySearch(GALLERY, config).nearest(QUERIES[:, :3])
    with pytest.raises(InputError, match="of the gallery hold values that are not finite"):
        GallerySearch(GALLERY / 0, FAISS)
    with pytest.raises(InputError, match="of the queries hold values that are not finite"):
        GallerySearch(GALLERY, FAISS).nearest(QUERIES / 0)


def test_lists_that_hold_too_few_images_are_said():
    search = GallerySearch(GALLERY, SearchConfig(k=2900, index="faiss", probes=1))
    with pytest.raises(InputError, match="too few images for K = 2900: raise probes, or use the exact index"):
        search.nearest(QUERIES)


def test_without_faiss_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'metalora\[faiss\]', or use the exact index"):
        GallerySearch(GALLERY, FAISS)
    assert GallerySearch(GALLERY, SearchConfig()).nearest(QUERIES).rows.shape == (500, 5)
