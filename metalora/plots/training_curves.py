"""The curves of a run: accuracies above, the loss below."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from metalora.plots.curve_data import KINDS, accuracies, losses
from metalora.plots.palette import Theme, layout, lighter, method_colour

HEIGHT = 440


def training_curves(events: pd.DataFrame, method: str, *, theme: Theme = "light") -> go.Figure:
    """Plot accuracy in per cent (training, validation, the level of the original backbone) and loss in nats by step.

    Args:
        events: as `run_log.read_events` returns them; without steps the axes are empty.
        method: whose colour the run has.
        theme: of the page.
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
    figure.update_yaxes(title_text="loss in nats", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="step", rangemode="tozero", row=2, col=1)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}}
    return figure.update_layout(**layout(theme), legend=legend, height=HEIGHT, uirevision="run", hovermode="x unified")
