"""Choices see neither unseen tasks nor query images; tasks to hold out are drawn."""

import pytest
import torch

import metalora
from metalora.suites.config import SuiteConfig
from metalora.suites.splits import draw_tasks
from metalora.suites.task_lists import COMPOSITIONS, DIGITS, TEN_TRANSFORMS
from metalora.util.errors import InputError
from metalora.util.seeding import seeded_generator


@pytest.fixture(scope="module")
def pair():
    settings = {"image_size": 8, "max_queries": 200}
    return metalora.load_suite("digits", **settings), metalora.load_suite("digits", development=True, **settings)


def test_development_shows_nothing_of_the_test(pair):
    whole, part = pair
    shown = {task for split in part.splits.values() for task in split.tasks.tolist()}
    assert shown.isdisjoint(whole.unseen)
    pictures = {index for split in part.splits.values() for index in split.index.tolist()}
    assert pictures.isdisjoint(whole.splits["seen query"].index.tolist())
    assert pictures.isdisjoint(whole.splits["unseen query"].index.tolist())


def test_development_holds_out_a_quarter_of_the_seen_tasks(pair):
    whole, part = pair
    assert len(part.unseen) == len(whole.seen) // 4
    assert set(part.seen) | set(part.unseen) == set(whole.seen)
    for name, split in part.splits.items():
        expected = part.unseen if name.startswith("unseen") else part.seen
        assert set(split.tasks.tolist()) <= set(expected)
        assert len(split)
    # No image is both chosen on and scored.
    for name in ("seen query", "unseen query"):
        assert set(part.splits[name].index.tolist()).isdisjoint(part.splits["validation"].index.tolist())
    assert any("Development" in note for note in part.notes)


def test_one_seen_task_cannot_be_developed_on():
    alone = [name for name in DIGITS.names if name != "rotate-90+plain+red"]
    with pytest.raises(InputError, match="one seen task"):
        metalora.load_suite("digits", image_size=8, hold_out=alone, development=True)


@pytest.mark.parametrize("count", [1, 6, 8])
def test_drawn_tasks_leave_every_value_of_every_factor(count):
    suites = [metalora.load_suite("digits", image_size=8, draw_unseen=count, seed=seed) for seed in range(3)]
    for suite in suites:
        assert len(suite.unseen) == count
        for values in suite.factor_indices.T:
            assert set(values[list(suite.seen)].tolist()) == set(values.tolist())
    assert len({suite.unseen for suite in suites}) > 1
    again = metalora.load_suite("digits", image_size=8, draw_unseen=count, seed=0)
    assert again.unseen == suites[0].unseen


@pytest.mark.parametrize("seed", range(8))
def test_drawn_compositions_are_spread_evenly(seed):
    factor_indices = torch.cartesian_prod(torch.arange(4), torch.arange(6), torch.arange(2))
    names = [str(row) for row in factor_indices.tolist()]
    for count, pairs in ((16, 24), (40, None)):
        held = draw_tasks(count, names, factor_indices, seeded_generator(seed))
        seen = factor_indices[[name not in held for name in names]]
        counts = [column.bincount() for column in seen.T]
        assert [len(n) for n in counts] == [4, 6, 2] and all(n.min() >= 1 and n.max() - n.min() <= 2 for n in counts)
        if pairs:  # few seen tasks cannot have them all
            assert len(seen[:, :2].unique(dim=0)) == pairs
            assert len(seen[:, 1:].unique(dim=0)) == 12 and len(seen[:, [0, 2]].unique(dim=0)) == 8


@pytest.mark.parametrize("count", [12, 50])
def test_a_task_is_left_to_train_on(count):
    with pytest.raises(InputError, match="none is left"):
        metalora.load_suite("digits", image_size=8, draw_unseen=count)


def test_tasks_are_named_or_drawn():
    with pytest.raises(InputError, match="not both"):
        SuiteConfig(hold_out=("rotate-0+plain+red",), draw_unseen=2)


def test_factors_are_those_that_names_are_made_of():
    assert [len(values) for values in COMPOSITIONS.factors] == [4, 6, 2]
    assert DIGITS.factors == (("rotate-0", "rotate-90"), ("plain", "invert"), ("red", "green", "blue"))
    names = ["+".join(DIGITS.factors[i][v] for i, v in enumerate(row)) for row in DIGITS.factor_indices]
    assert tuple(names) == DIGITS.names
    assert TEN_TRANSFORMS.factors == ()
    assert TEN_TRANSFORMS.factor_indices is None


def test_a_folder_of_tasks_draws_its_unseen_ones(tmp_path):
    from PIL import Image

    for task in "abc":
        for name in ("x", "y"):
            (tmp_path / task / name).mkdir(parents=True)
            for i in range(5):
                Image.fromarray(torch.full((8, 8, 3), 40 * i, dtype=torch.uint8).numpy()).save(
                    tmp_path / task / name / f"{i}.png"
                )
    suite = metalora.load_suite(f"folder:{tmp_path}", image_size=8, draw_unseen=1)
    assert len(suite.unseen) == 1
    assert len(suite.seen) == 2
