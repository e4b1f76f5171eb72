"""Tables and datasets as suites, and suites of other packages."""

import pandas as pd
import pytest
import torch
from PIL import Image
from suite_checks import assert_disjoint, write_images

from metalora.suites.config import SuiteConfig
from metalora.suites.dataset import suite_from_dataset
from metalora.suites.load import load_suite
from metalora.suites.registry import SUITES, SuiteEntry, register
from metalora.suites.table import suite_from_table
from metalora.util.errors import InputError


@pytest.fixture
def frame(tmp_path):
    """Three tasks with two classes of twelve images each, in groups of three."""
    rows = []
    for task in ("day", "dusk", "night"):
        for label in ("cat", "dog"):
            write_images(tmp_path / task / label, 12, seed=len(rows))
            for number in range(12):
                path = f"{task}/{label}/{number:03d}.png"
                rows.append({"path": path, "task": task, "label": label, "clip": f"{task}-{label}-{number // 3}"})
    return pd.DataFrame(rows)


def groups_by_split(suite, frame, column):
    group = dict(zip(frame["path"], frame[column], strict=True))
    return {name: {group[suite.names[i]] for i in split.index.tolist()} for name, split in suite.splits.items()}


def test_a_csv_file_is_a_suite(frame, tmp_path):
    file = tmp_path / "images.csv"
    frame.to_csv(file, index=False)
    suite = load_suite(f"table:{file}", image_size=8, hold_out=("night",))
    assert (suite.tasks, suite.classes) == (("day", "dusk", "night"), ("cat", "dog"))
    assert [suite.tasks[i] for i in suite.unseen] == ["night"]
    assert_disjoint(suite)


def test_rows_of_a_group_stay_in_one_split(frame, tmp_path):
    config = SuiteConfig("table:frame", image_size=8, hold_out=("night",), group_column="clip")
    for seed in range(3):
        found = groups_by_split(suite_from_table(frame, config, root=tmp_path, seed=seed), frame, "clip")
        names = list(found)
        assert all(not found[a] & found[b] for i, a in enumerate(names) for b in names[i + 1 :])


def test_a_group_that_seen_and_unseen_tasks_share_stays_in_one_split(frame, tmp_path):
    frame["patient"] = frame["path"].str[-6:-4]  # the same twelve in all tasks
    config = SuiteConfig("table:frame", image_size=8, hold_out=("night",), group_column="patient")
    suite = suite_from_table(frame, config, root=tmp_path)
    found = groups_by_split(suite, frame, "patient")
    assert not found["train"] & (found["unseen gallery"] | found["unseen query"])
    assert found["unseen gallery"] <= found["seen gallery"] and found["unseen query"] <= found["seen query"]
    assert "are not used" in suite.notes[-1]


def test_a_split_column_decides(frame, tmp_path):
    frame["part"] = ["Train", "train", "train", "val", "test", "test"] * 12
    config = SuiteConfig("table:frame", image_size=8, split_column="part")
    found = groups_by_split(suite_from_table(frame, config, root=tmp_path), frame, "part")
    assert found == {
        "train": {"Train", "train"},
        "validation": {"val"},
        "seen gallery": {"test"},
        "seen query": {"test"},
    }


def test_validation_is_taken_from_training_where_a_split_column_has_none(frame, tmp_path):
    frame["part"] = ["train", "train", "TEST"] * 24
    config = SuiteConfig("table:frame", image_size=8, split_column="part")
    suite = suite_from_table(frame, config, root=tmp_path)
    found = groups_by_split(suite, frame, "part")
    assert found["validation"] == found["train"] == {"train"} and found["seen query"] == {"TEST"}
    assert any("sixth of those for training" in note for note in suite.notes)
    assert_disjoint_seen(suite)


@pytest.mark.parametrize("clips", [4, 6])
def test_every_class_of_a_task_has_groups_in_every_split(clips):
    rows = [(t, c, g) for t in "ab" for c in range(5) for g in range(clips) for _ in range(3)]
    for seed in range(3):
        suite = suite_from_dataset(
            [(torch.zeros(3, 8, 8), c) for _, c, _ in rows],
            tasks=[t for t, _, _ in rows],
            groups=[f"{t}{c}{g}" for t, c, g in rows],
            config=SuiteConfig("clips", image_size=8),
            seed=seed,
        )
        for split in suite.splits.values():
            assert len(set(zip(split.tasks.tolist(), split.labels.tolist(), strict=True))) == 10


def test_groups_are_counted_where_they_are_divided(frame, tmp_path):
    frame.loc[(frame["task"] == "day") & (frame["label"] == "cat"), "clip"] = "one clip"
    config = SuiteConfig("table:frame", image_size=8, group_column="clip")
    suite = suite_from_table(frame, config, root=tmp_path)
    assert "Class day/cat is left out: it has 1 of the 3 groups it needs." in suite.notes


def test_without_tasks_images_are_shown_through_ten_transforms(frame, tmp_path):
    suite = suite_from_table(frame.drop(columns="task"), SuiteConfig("table:frame", image_size=8), root=tmp_path)
    assert len(suite.tasks) == 10 and suite.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda f: f.drop(columns="label"), {}, "no column 'label'"),
        (lambda f: f, {"task_column": "scene"}, "no column 'scene'"),
        (lambda f: f, {"group_column": "clips"}, "no column 'clips'.*clip"),
        (lambda f: f.assign(label=[None, *f["label"][1:]]), {}, "Row 1 of the table has no label"),
        (lambda f: f.assign(part="fold-1"), {"split_column": "part"}, "'fold-1' is no split"),
        (lambda f: f.assign(part=["train", "val"] * 36), {"split_column": "part", "group_column": "clip"}, "Group"),
        (lambda f: pd.concat([f, f[:1].assign(label="dog")]), {}, "several labels"),
        (lambda f: f.assign(path="nowhere/" + f["path"]), {}, "No image of the table can be used"),
        (lambda f: f[f["label"] == "cat"], {}, "two are needed"),
    ],
)
def test_what_a_table_lacks_is_said(frame, tmp_path, change, settings, message):
    with pytest.raises(InputError, match=message):
        suite_from_table(change(frame), SuiteConfig("table:frame", image_size=8, **settings), root=tmp_path)


def test_missing_files_and_repeated_rows_are_counted(frame, tmp_path):
    (tmp_path / frame["path"][0]).unlink()
    suite = suite_from_table(pd.concat([frame, frame[5:7]]), SuiteConfig("table:frame", image_size=8), root=tmp_path)
    assert [name for name, _ in suite.skipped] == [frame["path"][0]]
    assert "2 rows of the table repeat others" in suite.notes[-1]


@pytest.mark.parametrize("content", [None, ""])
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    file = tmp_path / "images.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=r"no file|is not a table"):
        load_suite(f"table:{file}")


def items(count):
    rng = torch.Generator().manual_seed(0)
    return [(torch.rand(3, 10, 12, generator=rng), i % 2) for i in range(count)]


def test_a_dataset_is_a_suite():
    suite = suite_from_dataset(items(40), tasks=["a", "b"] * 10 + ["b", "a"] * 10, classes=("cat", "dog"))
    assert (suite.tasks, suite.classes, suite.image_size) == (("a", "b"), ("cat", "dog"), 32)
    assert_disjoint_seen(suite)
    pictures = [(Image.new("L", (8, 8), i), "task", "xy"[i % 2]) for i in range(20)]
    assert suite_from_dataset(pictures, config=SuiteConfig("mine", image_size=8)).tasks == ("task",)


def assert_disjoint_seen(suite):
    rows = [set(split.index.tolist()) for split in suite.splits.values()]
    assert all(not a & b for i, a in enumerate(rows) for b in rows[i + 1 :])


@pytest.mark.parametrize(
    ("dataset", "settings", "message"),
    [
        ([], {}, "is empty"),
        (items(8), {"tasks": ["a"]}, "There are 1 tasks for 8 items"),
        ([torch.zeros(3, 8, 8)] * 8, {}, "Item 0 of the dataset is no"),
        ([(torch.zeros(8, 8), 0)] * 8, {}, "no image of 1 or 3 channels"),
    ],
)
def test_a_dataset_of_another_form_is_refused(dataset, settings, message):
    with pytest.raises(InputError, match=message):
        suite_from_dataset(dataset, **settings)


def test_a_suite_of_another_package_is_loaded_by_its_name():
    def toy(config, seed, progress):
        return suite_from_dataset(items(40), config=config, seed=seed)

    register("toy", SuiteEntry(toy))
    try:
        suite = load_suite("toy", image_size=8, seed=1)
        assert (suite.name, suite.seed, suite.image_size) == ("toy", 1, 8)
        with pytest.raises(InputError, match="is built in"):
            register("digits", SuiteEntry(toy))
    finally:
        SUITES.unregister("toy")
