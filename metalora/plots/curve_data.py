"""The curves of a run, thinned to what a page can show."""

import pandas as pd

MOST = 300  # points of a curve
KINDS = {
    "accuracy": "training (head, on the batch)",
    "validation": "validation (k-NN, seen tasks)",
    "original": "original backbone (k-NN, seen tasks)",
}


def losses(events: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """Columns "step" and "loss", from the frame of `read_events`; beyond `most` points each is a mean of several."""
    return _thinned(events[["step", "loss"]], most)


def accuracies(events: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """Columns "step", "accuracy" in per cent and "curve", a row per point: training, validation, and the level of
    the original backbone from the first step to the last."""
    ends = events["step"].isin([events["step"].min(), events["step"].max()])
    levels = events.assign(original=events["original"].ffill().where(ends))
    parts = [
        _thinned(levels[["step", name]].dropna(), most).rename(columns={name: "accuracy"}).assign(curve=curve)
        for name, curve in KINDS.items()
    ]
    found = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return found.assign(accuracy=100 * found["accuracy"])


def _thinned(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    width = -(-len(frame) // most) or 1
    rows = frame.reset_index(drop=True)
    return rows.groupby(rows.index // width).agg({name: "last" if name == "step" else "mean" for name in rows})
