"""The map of gains, on rows written by hand."""

import pandas as pd
import pytest

from metalora.experiments.comparison import Comparison
from metalora.experiments.gain_map import AXES, CENTRE, SIZES, gain_map
from metalora.experiments.studies import STUDIES
from metalora.plots.gain_curves import gain_figure as figure


def comparison(gain, part=CENTRE, seeds=3):
    rows = []
    config = STUDIES["map"].parts.get(part, STUDIES["primary"].parts["main"])
    for variant in config.variants:
        generated = variant.generated
        for task_split in ("seen", "unseen"):
            for seed in range(seeds):
                size = {1: 0.0, None: 0.02}.get(variant.set_size, 0.01)
                accuracy = 0.5 + 0.001 * seed + (gain + size + 0.0001 * seed**2 if generated else 0)
                rows.append(
                    {"method": str(variant), "backbone": "resnet20", "suite": "s", "task_split": task_split, "k": 5}
                )
                rows[-1] |= {"gallery": "pooled", "seed": seed, "accuracy": accuracy, "validation": accuracy}
                rows[-1] |= {"generated": generated, "static": variant.static, "generator_parameters": 10}
                rows[-1] |= {"static_parameters": 90}
    empty = pd.DataFrame()
    return Comparison(config, pd.DataFrame(rows), empty, empty, empty, "pooled")


def test_gains_are_on_the_axes_of_the_parts_that_ran():
    found = gain_map({CENTRE: comparison(0.03), "tasks-2": comparison(-0.05, "tasks-2")})
    assert set(found["axis"]) == {"parameters", "tasks", "steps", SIZES}
    tasks = found[(found["axis"] == "tasks") & (found["task_split"] == "seen")].set_index(["value", "set_size"])["gain"]
    assert tasks[2, "1"] == pytest.approx(-0.05, abs=1e-3)
    assert tasks[32, "all"] == pytest.approx(0.05, abs=1e-3)
    sets = found[(found["axis"] == SIZES) & (found["task_split"] == "unseen")]
    assert list(sets["set_size"]) == ["1", "2", "4", "8", "32", "all"]
    assert set(found.loc[found["axis"] == "parameters", "value"]) == {100}
    assert (found["low"] <= found["gain"]).all()
    assert (found["gain"] <= found["high"]).all()


def test_the_largest_budget_has_its_rows_with_factor_codes_only():
    found = gain_map({"budget-80k": comparison(0.03, "budget-80k")})
    assert sorted(found["set_size"]) == ["1", "1", "8", "8", "all", "all"]  # on seen and unseen tasks
    assert set(found["axis"]) == {"parameters"}


def test_every_part_of_the_study_is_on_an_axis():
    places = {part for values in AXES.values() for part in values}
    assert places - set(STUDIES["map"].parts) == {"budget-80k"}
    assert set(STUDIES["map"].parts) <= places


def test_the_figure_shows_what_is_negative_as_negative():
    rows = gain_map({CENTRE: comparison(0.03), "tasks-2": comparison(-0.05, "tasks-2")})
    drawn = figure(rows)
    heights = [y for trace in drawn.data for y in trace.y]
    assert min(heights) == pytest.approx(-5, abs=0.1)
    titles = {axis.title.text for axis in drawn.select_xaxes() if axis.title.text}
    assert titles == {"parameters", "tasks", "steps", SIZES}
    assert sum(trace.showlegend for trace in drawn.data) == 3
    assert "No part" in figure(gain_map({})).layout.annotations[0].text
