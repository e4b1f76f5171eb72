"""The curves of a run, accuracies above and the loss below; and the validation curves of several runs."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from metalora.plots.curve_data import KINDS, accuracies, losses
from metalora.plots.palette import NEUTRAL, Theme, label, layout, lighter, method_colour

HEIGHT = 440
OVERLAY_HEIGHT = 320
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # of runs of one method, whose colour is the same


def training_curves(events: pd.DataFrame, method: str, *, theme: Theme = "light", waiting: str = "") -> go.Figure:
    """Plot accuracy in per cent (training, validation, the level of the original backbone) and loss in nats by step.

    Args:
        events: as `run_log.read_events` returns them; without steps the axes are empty.
        method: whose colour the run has.
        theme: of the page.
        waiting: what is said where there are no steps yet.
    """
    hue = method_colour(method)
    colours = dict(zip(KINDS.values(), (lighter(hue), hue, method_colour("original")), strict=True))
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    points = accuracies(events)
    for curve, colour in colours.items():
        part = points[points["curve"] == curve]
        style = {"dash": "dot"} if curve == KINDS["original"] else {}
        mode = "lines+markers" if curve == KINDS["validation"] else "lines"
        figure.add_scatter(x=part["step"], y=part["accuracy"], name=curve, mode=mode, line={"color": colour, **style})
    loss = losses(events)
    figure.add_scatter(x=loss["step"], y=loss["loss"], name="loss", line={"color": lighter(hue)}, row=2, col=1)
    figure.data[-1].showlegend = False
    figure.update_yaxes(title_text="accuracy in %", range=[0, 100], row=1, col=1)
    figure.update_yaxes(title_text="loss", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="step", rangemode="tozero", row=2, col=1)
    if waiting and events.empty:
        figure.add_annotation(text=label(waiting, 80), xref="paper", yref="paper", x=0.5, y=0.7, showarrow=False)
    return figure.update_layout(
        layout(theme), overwrite=True, legend=_legend(), height=HEIGHT, uirevision="run", hovermode="x unified"
    )


def validation_curves(runs: Iterable[tuple[str, str, pd.DataFrame]], *, theme: Theme = "light") -> go.Figure:
    """Plot the validation accuracies of runs in one figure, in per cent by step.

    Args:
        runs: (title, method, events) of each, events as `run_log.read_events` returns them.
        theme: of the page.
    """
    figure, count, levels = go.Figure(), Counter[str](), set[float]()
    for title, method, events in runs:
        points = accuracies(events)
        part, level = (points[points["curve"] == KINDS[name]] for name in ("validation", "original"))
        line = {"color": method_colour(method), "dash": DASHES[count[method] % len(DASHES)]}
        figure.add_scatter(x=part["step"], y=part["accuracy"], name=label(title, 60), mode="lines+markers", line=line)
        levels |= set(level["accuracy"].round(1))
        count[method] += 1
    for level in sorted(levels):
        figure.add_hline(y=level, line={"color": NEUTRAL, "dash": "dot", "width": 1})
    figure.update_yaxes(title_text="validation accuracy in %")
    figure.update_xaxes(title_text="step", rangemode="tozero")
    return figure.update_layout(layout(theme), overwrite=True, legend=_legend(), height=OVERLAY_HEIGHT, showlegend=True)


def _legend() -> dict:
    return {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
