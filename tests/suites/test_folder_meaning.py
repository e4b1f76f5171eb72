"""What the folders around images mean, by their names and depth, or as the person says."""

import pytest
from suite_checks import assert_disjoint, write_images

from metalora.suites.folder_meaning import find_meaning
from metalora.suites.load import load_suite
from metalora.util.errors import InputError


def names(*patterns):
    return [f"{pattern}/{i}.png" for pattern in patterns for i in range(3)]


@pytest.mark.parametrize(
    ("folders", "levels"),
    [
        (["cat", "dog"], "class"),
        (["photo/cat", "photo/dog", "sketch/cat"], "task/class"),
        (["train/cat", "test/cat"], "split/class"),
        (["Training/cat", "VALID/cat", "Testing/cat"], "split/class"),
        (["data/train/cat", "data/val/cat"], "split/class"),
        (["archive/data/train/cat", "archive/data/val/cat"], "split/class"),
        (["train/photo/cat", "train/sketch/cat", "test/photo/cat"], "split/task/class"),
        (["photo/train/cat", "photo/test/cat", "sketch/train/cat"], "task/split/class"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "class/split"),
        (["walk/walk_clip0", "walk/walk_clip1", "run/run_clip0"], "class/group"),
        (["sick/patient_1", "sick/patient_2", "well/patient_1"], "class/group"),
        (["sick/Subject 07", "well/Subject 12"], "class/group"),
        (["train/walk/v_walk_g01", "train/run/v_run_g01", "test/walk/v_walk_g02"], "split/class/group"),
        (["train", "bus", "car"], "class"),  # of vehicles
    ],
)
def test_levels(folders, levels):
    meaning = find_meaning(names(*folders))
    assert "/".join(meaning.levels) == levels
    assert bool(meaning.notes) == ("group" in levels)


def test_some_folders_that_look_like_splits_are_refused_with_the_option():
    with pytest.raises(InputError, match=r"test and train look like splits, extra .* --layout task/class"):
        find_meaning(names("train/cat", "test/cat", "extra/cat"))
    assert find_meaning(names("train/cat", "test/cat", "extra/cat"), "task/class").levels == ("task", "class")


def test_tasks_without_a_class_in_common_are_said_to_be_a_guess():
    (note,) = find_meaning(names("pets/cat", "pets/dog", "wild/fox", "wild/owl")).notes
    assert "--layout class/group" in note


@pytest.mark.parametrize("layout", ["task", "class/class", "class/clip", "", "split/"])
def test_a_layout_that_is_none_is_refused(layout):
    with pytest.raises(InputError, match="is no layout of folders"):
        load_suite("folder:nowhere", layout=layout)


def splits_of(suite, part):
    """The splits, by that part of the names of their images."""
    return {
        split: {suite.names[i].split("/")[part] for i in examples.index.tolist()}
        for split, examples in suite.splits.items()
    }


def test_splits_that_are_there_are_kept(tmp_path):
    for split, count in (("train", 20), ("val", 6), ("test", 10)):
        for seed, name in enumerate(("cat", "dog")):
            write_images(tmp_path / split / name, count, 10 * seed + count)
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.classes == ("cat", "dog")
    found = splits_of(suite, 0)
    assert found["train"] == {"train"} and found["validation"] == {"val"}
    assert found["seen gallery"] == found["seen query"] == found["unseen query"] == {"test"}
    assert_disjoint(suite)


@pytest.mark.parametrize("clips", [3, 5])
def test_frames_of_a_clip_stay_in_one_split(tmp_path, clips):
    for seed, name in enumerate(("walk", "run")):
        for clip in range(clips):
            write_images(tmp_path / name / f"{name}_clip{clip}", 6, 10 * seed + clip)
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.classes == ("run", "walk")
    found = splits_of(suite, 1)
    kept_apart = ["seen gallery", "seen query", "train"] + (["validation"] if clips == 5 else [])
    for i, one in enumerate(kept_apart):
        for other in kept_apart[:i]:
            assert not found[one] & found[other]
    assert any("of training groups" in note for note in suite.notes) == (clips == 3)


def test_folders_below_a_class_keep_their_images_together_where_there_are_enough(tmp_path):
    for seed, path in enumerate(("photo/cat", "photo/dog", "sketch/cat", "sketch/dog")):
        for day in range(4):
            write_images(tmp_path / path / f"day{day}", 4, 10 * seed + day)
    suite = load_suite(f"folder:{tmp_path}")
    days = {split: {name.rpartition("/")[0] for name in found} for split, found in whole(suite).items()}
    assert not days["train"] & days["seen query"] and not days["seen gallery"] & days["seen query"]
    assert any("--layout task/class" in note for note in suite.notes)
    apart = load_suite(f"folder:{tmp_path}", layout="task/class")
    assert len(apart.splits["train"]) == 32 and not any("--layout" in note for note in apart.notes)


def whole(suite):
    return {split: {suite.names[i] for i in examples.index.tolist()} for split, examples in suite.splits.items()}


def test_images_in_several_unicode_forms_are_of_one_class(tmp_path):
    for task, name in (("linux", "café"), ("mac", "cafe\u0301"), ("linux", "thé"), ("mac", "the\u0301")):
        write_images(tmp_path / task / name, 6)
    suite = load_suite(f"folder:{tmp_path}", hold_out=["mac"])
    assert suite.classes == ("café", "thé") and suite.primary == "pooled"
