"""Folders of tasks or classes as suites, and what a person is told about them."""

import pytest
from PIL import Image
from suite_checks import assert_disjoint, assert_same, write_images

from metalora.suites.config import SuiteConfig
from metalora.suites.labelled import judge_names
from metalora.suites.load import load_suite
from metalora.suites.task_lists import FIFTEEN, ROTATED, TEN_TRANSFORMS
from metalora.util.errors import InputError


@pytest.fixture
def by_task(tmp_path):
    """Two tasks with cats and dogs, one with cats and birds; 10 images of each."""
    for seed, path in enumerate(("photo/cat", "photo/dog", "sketch/cat", "sketch/dog", "toy/cat", "toy/bird")):
        write_images(tmp_path / path, 10, seed)
    return tmp_path


def test_folder_of_tasks(by_task):
    suite = load_suite(f"folder:{by_task}", hold_out=["toy"])
    assert_disjoint(suite)
    assert suite.tasks == ("photo", "sketch", "toy") and suite.unseen == (2,)
    assert suite.classes == ("bird", "cat", "dog") and suite.primary == "within"
    assert suite.image_size == 32
    frame = suite.describe()
    per_class = dict(zip(frame.split, frame.smallest, strict=True))
    assert per_class == {
        "train": 5, "validation": 1, "seen gallery": 2, "seen query": 2, "unseen gallery": 5, "unseen query": 5
    }  # fmt: skip
    for examples in suite.splits.values():
        for index, task, label in zip(examples.index, examples.tasks, examples.labels, strict=True):
            assert suite.names[index].startswith(f"{suite.tasks[task]}/{suite.classes[label]}/")
    assert_same(suite, load_suite(f"folder:{by_task}", hold_out=["toy"]))


def test_folder_of_equal_tasks_is_pooled(by_task):
    for path in sorted((by_task / "toy" / "bird").iterdir()):
        path.unlink()
    write_images(by_task / "toy" / "dog" / "deeper", 10)
    suite = load_suite(f"folder:{by_task}")
    assert suite.primary == "pooled" and suite.classes == ("cat", "dog")
    assert not suite.unseen and "unseen query" not in suite.splits


def test_a_domain_may_lack_a_class(by_task):
    for seed, path in enumerate(("clay/cat", "clay/dog", "ink/cat", "ink/dog", "toy/dog")):
        write_images(by_task / path, 10, 20 + seed)
    for path in sorted((by_task / "toy" / "bird").iterdir()):
        path.unlink()
    for path in sorted((by_task / "ink" / "dog").iterdir())[2:]:
        path.unlink()
    write_images(by_task / "toy" / "fox", 1)
    suite = load_suite(f"folder:{by_task}", hold_out=["toy"])
    assert suite.primary == "pooled" and suite.classes == ("cat", "dog")
    assert "Some tasks lack classes: ink lacks dog." in suite.notes
    assert any(note.startswith("Class toy/fox is left out") for note in suite.notes)
    assert_disjoint(suite)


@pytest.mark.parametrize("kind, tasks", [("corruptions", FIFTEEN), ("rotations", ROTATED)])
def test_class_folders_are_shown_through_the_fields_transforms(by_task, kind, tasks):
    suite = load_suite(f"{kind}:{by_task / 'photo'}")
    assert_disjoint(suite)
    assert suite.tasks == tasks.names and suite.classes == ("cat", "dog")
    assert [suite.tasks[task] for task in suite.unseen] == list(tasks.unseen)
    assert SuiteConfig(f"{kind}:{by_task}").seen_tasks == len(suite.seen)
    with pytest.raises(InputError, match=rf"has folders of tasks \(photo, sketch, toy, …\), .*use folder:{by_task}"):
        load_suite(f"{kind}:{by_task}")
    with pytest.raises(InputError, match="Unknown suite"):
        load_suite(f"{kind}:")


def test_numbered_classes_belong_to_their_task(tmp_path):
    for task, classes in (("Greek", 3), ("Latin", 2)):
        for number in range(1, classes + 1):
            write_images(tmp_path / "top" / task / f"character{number:02d}", 4)
    suite = load_suite(f"folder:{tmp_path}")
    assert suite.classes[0] == "Greek/character01" and len(suite.classes) == 5
    assert suite.primary == "within" and "task/class" in suite.notes[0]


def test_folder_of_classes_gets_the_ten_shifts(tmp_path):
    write_images(tmp_path / "cat", 12, 0)
    write_images(tmp_path / "dog", 12, 1)
    suite = load_suite(f"folder:{tmp_path}", hold_out=["invert"])
    assert_disjoint(suite)
    assert suite.tasks == TEN_TRANSFORMS.names and [suite.tasks[i] for i in suite.unseen] == ["invert"]


def test_what_is_left_out_is_named(by_task):
    write_images(by_task / "photo" / "fox", 3)
    write_images(by_task / "toy" / "fox", 3)
    (by_task / "photo" / "cat" / "bad.png").write_bytes(b"no image")
    (by_task / "stray.png").write_bytes((by_task / "photo" / "cat" / "000.png").read_bytes())
    suite = load_suite(f"folder:{by_task}", hold_out=["toy"])
    assert [name for name, _ in suite.skipped] == ["photo/cat/bad.png", "stray.png"]
    assert "Class photo/fox is left out: it has 3 of the 4 images it needs." in suite.notes
    assert "fox" in suite.classes  # three are enough for an unseen task
    assert not any(name.startswith("photo/fox") for name in suite.names)


def test_task_without_a_large_enough_class_is_named(by_task):
    write_images(by_task / "clay" / "cat", 2)
    suite = load_suite(f"folder:{by_task}")
    assert "clay" not in suite.tasks and any(note.startswith("Task clay is left out") for note in suite.notes)


def test_max_queries_of_a_folder(by_task):
    suite = load_suite(f"folder:{by_task}", max_queries=3, max_train_images=2)
    assert len(suite.splits["seen query"]) == len(suite.splits["validation"]) == 3
    assert suite.splits["seen query"].labels.bincount().tolist() == [1, 1, 1]
    assert len(suite.splits["train"]) == 12


def test_tasks_to_hold_out_that_are_wrong_are_named(by_task):
    folder = f"folder:{by_task}"
    with pytest.raises(InputError, match=r"no task 'scetch' to hold out \(did you mean sketch\?\).*photo, sketch, toy"):
        load_suite(folder, hold_out=["scetch"])
    with pytest.raises(InputError, match="All tasks are held out"):
        load_suite(folder, hold_out=["photo", "sketch", "toy"])


def test_folders_that_give_no_suite(tmp_path):
    with pytest.raises(InputError, match="check the path"):
        load_suite(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(InputError, match="no image that can be used: check the path"):
        load_suite(f"folder:{tmp_path}")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no class folders"):
        load_suite(f"folder:{tmp_path}")
    write_images(tmp_path / "cat", 8)
    with pytest.raises(InputError, match="two are needed"):
        load_suite(f"folder:{tmp_path}")


def test_seen_tasks_need_two_classes(by_task):
    for path in ("clay/cat", "clay/dog"):
        write_images(by_task / path, 2)
    for kind in ("photo", "sketch"):
        for path in sorted((by_task / kind / "dog").iterdir()):
            path.unlink()
    folder = f"folder:{by_task}"
    with pytest.raises(InputError, match=r"1 class .* to train on \(.* clay/cat, has 2\): two .* hold out fewer tasks"):
        load_suite(folder, hold_out=["toy"])
    with pytest.raises(InputError, match="1 class with 4 images or more"):
        for seed in range(20):  # until toy is drawn
            load_suite(folder, draw_unseen=1, seed=seed)
    assert load_suite(folder, hold_out=["photo"]).classes == ("bird", "cat")


def test_classes_that_are_too_small_are_told_where_none_is_left(tmp_path):
    for path, count in (("photo/cat", 3), ("photo/dog", 3), ("sketch/cat", 2), ("sketch/dog", 3)):
        write_images(tmp_path / path, count)
    said = r"no class with 4 images or more to train on \(the largest of the others, {}, has 3\): two are needed"
    with pytest.raises(InputError, match=said.format("sketch/dog")):
        load_suite(f"folder:{tmp_path}", hold_out=["photo"])
    with pytest.raises(InputError, match=said.format("photo/cat")):
        load_suite(f"folder:{tmp_path}")
    with pytest.raises(InputError, match=said.format("cat")):
        load_suite(f"folder:{tmp_path / 'photo'}")


def names(*folders, count=4):
    return [f"{folder}/{i}.png" for folder in folders for i in range(count)]


@pytest.mark.parametrize(
    ("listed", "tasks"),
    [
        (names("cat", "dog"), []),
        (names("all/cat", "all/dog"), []),
        (names("photo/cat", "photo/dog", "toy/cat", "toy/dog"), ["photo", "toy"]),
        (names("set/toy/cat", "set/toy/dog", "set/photo/cat"), ["photo", "toy"]),
    ],
)
def test_names_alone_tell_the_tasks(listed, tasks):
    assert judge_names(listed, SuiteConfig("folder:mine.zip")) == (tasks, [])


def test_names_alone_tell_what_is_left_out_and_what_makes_no_suite():
    listed = [*names("cat", "dog"), *names("owl", count=2), "stray.png"]
    assert judge_names(listed, SuiteConfig("folder:mine.zip"))[1] == [
        "1 image lies outside the class folders.",
        "Class owl is left out: it has 2 of the 4 images it needs.",
    ]
    with pytest.raises(InputError, match=r"mine\.zip has 1 class with 4 images or more .* two are needed"):
        judge_names([*names("cat"), *names("dog", count=3)], SuiteConfig("folder:mine.zip"))


def test_a_path_is_the_folder_of_that_path(by_task):
    assert_same(load_suite(by_task), load_suite(f"folder:{by_task}"))


def test_classes_and_tasks_that_are_spelled_in_two_ways_are_named():
    listed = [
        f"{task}/{kind}/{i}.png"
        for task in ("a", "A")
        for kind in ("Cat", "cat", "big_dog", "big dog")
        for i in range(4)
    ]
    notes = judge_names(listed, SuiteConfig("folder:mine.zip"))[1]
    assert "A and a are different tasks: rename the folders if they are one." in notes
    assert "Cat and cat are different classes: rename the folders if they are one." in notes
    assert "big dog and big_dog are different classes: rename the folders if they are one." in notes
