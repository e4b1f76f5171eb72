"""The dots of gains are where the gains are."""

import math

import pandas as pd

from metalora.plots.gain_dots import gain_dots
from metalora.plots.palette import method_colour


def test_dots_stand_at_their_gains_with_their_intervals():
    rows = [
        {
            "method": method,
            "task_split": split,
            "gain": gain,
            "low": gain - 0.01,
            "high": gain + 0.02,
            "against": "lora",
        }
        for method, split, gain in (
            ("metalora-tr", "seen", 0.05),
            ("metalora-tr", "unseen", -0.02),
            ("metalora-cp", "seen", 0.01),
        )
    ]
    figure = gain_dots(pd.DataFrame(rows))
    found = {(trace.marker.color, trace.marker.symbol): trace for trace in figure.data}
    seen = found[method_colour("metalora-tr"), "circle"]
    assert math.isclose(seen.x[0], 5) and math.isclose(seen.error_x.array[0], 2)
    assert math.isclose(seen.error_x.arrayminus[0], 1)
    unseen = found[method_colour("metalora-tr"), "circle-open"]
    assert math.isclose(unseen.x[0], -2) and seen.y[0] < unseen.y[0]
    assert method_colour("metalora-cp") in {trace.marker.color for trace in figure.data}
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 0
    assert figure.layout.title.text.startswith("Gain over LoRA, in points")
    assert list(figure.layout.yaxis.ticktext) == ["Meta-LoRA TR", "Meta-LoRA CP"]


def test_one_seed_has_dots_without_bars():
    row = {"method": "metalora-tr", "task_split": "seen", "gain": 0.05, "low": None, "high": None, "against": "lora"}
    (dots,) = gain_dots(pd.DataFrame([row])).data
    assert math.isnan(dots.error_x.array[0]) and "interval" not in dots.text[0]
