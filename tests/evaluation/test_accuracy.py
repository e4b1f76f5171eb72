"""k-NN accuracy on the galleries of a suite."""

import pytest
import torch
from suite_checks import write_images

from metalora.evaluation.accuracy import keep_splits, measure, usable_ks, validation_accuracy
from metalora.suites.load import load_suite
from metalora.util.errors import InputError
from metalora.util.files import remove_with_parts


def test_validation_makes_do_with_the_smallest_gallery_of_a_task(tmp_path):
    for seed, path in enumerate(("photo/cat", "photo/dog", "toy/cat", "toy/bird")):
        write_images(tmp_path / path, 10, seed)
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.primary == "within" and usable_ks(suite, [1]) == ((1,), [])

    def by_class(split):
        return torch.eye(len(suite.classes))[suite.splits[split].labels]

    assert validation_accuracy(suite, by_class) == pytest.approx(1)  # of 4 images, 2 of either class


def test_ks_that_the_galleries_cannot_serve_are_left_out_and_named():
    suite = load_suite("digits", image_size=8)
    size = len(suite.splits["seen gallery"])
    ks, notes = usable_ks(suite, [5, size, size + 1])
    assert ks == (5, size)
    assert notes[0] == f"K = {size + 1} is left out: the gallery of seen tasks has {size} images."
    assert any(f"K = {size} is not measured on the within gallery of seen tasks" in note for note in notes)
    with pytest.raises(InputError, match=r"K = 5000 is too large: the gallery of seen tasks has"):
        usable_ks(suite, [5000])
    with pytest.raises(InputError, match="K is 0"):
        usable_ks(suite, [0])


def test_only_ks_that_a_gallery_can_serve_are_measured():
    suite = load_suite("digits", image_size=8)
    features = {name: torch.eye(len(suite.classes))[split.labels] for name, split in suite.splits.items()}
    measured = {(s["task_split"], s["gallery"], s["k"]) for s, _, _ in measure(suite, features.get, [5, 300])}
    assert ("seen", "pooled", 300) in measured and ("seen", "within", 300) not in measured
    assert ("seen", "within", 5) in measured


def test_embeddings_that_are_kept_are_computed_once_for_all_processes(tmp_path):
    computed = []

    def embed(split):
        computed.append(split)
        return torch.full((2, 3), float(len(computed)))

    file = tmp_path / "checkpoint.safetensors"
    first = keep_splits(embed, file)
    assert torch.equal(first("seen query"), first("seen query"))
    assert torch.equal(keep_splits(embed, file)("seen query"), first("seen query"))
    assert keep_splits(embed, file)("validation").mean() == 2
    assert computed == ["seen query", "validation"]
    remove_with_parts(file)
    assert not list(tmp_path.iterdir())
    assert keep_splits(embed, None) is embed
