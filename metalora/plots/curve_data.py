"""The curves of a run, thinned to what a page can show."""

import pandas as pd

MAX_POINTS = 300  # of a curve
KINDS = {
    "accuracy": "training batch",
    "validation": "validation",
    "original": "original network",
}


def losses(events: pd.DataFrame, max_points: int = MAX_POINTS) -> pd.DataFrame:
    """Return columns "step" and "loss" of what `read_events` returned; points beyond `max_points` are averaged."""
    return _thin(events[["step", "loss"]].dropna(), max_points)


def accuracies(events: pd.DataFrame, max_points: int = MAX_POINTS) -> pd.DataFrame:
    """Return columns "step", "accuracy" in per cent and "curve", a row per point.

    The curves are training, validation, and the level of the original backbone from the first step to the last.
    """
    ends = events["step"].isin([events["step"].min(), events["step"].max()])
    levels = events.assign(original=events["original"].ffill().where(ends))
    parts = [
        _thin(levels[["step", name]].dropna(), max_points).rename(columns={name: "accuracy"}).assign(curve=curve)
        for name, curve in KINDS.items()
    ]
    points = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return points.assign(accuracy=100 * points["accuracy"])


def _thin(frame: pd.DataFrame, max_points: int) -> pd.DataFrame:
    width = -(-len(frame) // max_points) or 1
    rows = frame.reset_index(drop=True)
    return rows.groupby(rows.index // width).agg({name: "last" if name == "step" else "mean" for name in rows})
