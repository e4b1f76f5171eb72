"""Embeddings as one HTML file that needs nothing else: no server, no network."""

from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from metalora.plots.palette import FONT, label


def as_page(figures: Sequence[go.Figure], frames: Sequence[pd.DataFrame], lines: Sequence[str]) -> str:
    """Return a page with scatters one below the other, whose points have texts on hover.

    Args:
        figures: made by `embedding_scatter`.
        frames: the points of each: "name", "label", "task", "predicted".
        lines: paragraphs above them, as plain text.
    """
    parts = []
    for i, (figure, frame) in enumerate(zip(figures, frames, strict=True)):
        copy = go.Figure(figure)
        for trace in copy.data:
            trace.text = _hover_texts(frame.iloc[list(trace.customdata)])
            trace.hovertemplate = "%{text}<extra></extra>"
            trace.hoverinfo = None
        config = {"displaylogo": False, "showSendToCloud": False, "responsive": True}
        parts.append(copy.to_html(full_html=False, include_plotlyjs=i == 0, default_height=640, config=config))
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>MetaLoRA embedding</title>'
    style = f"<style>body {{ font-family: {FONT}; margin: 1.5rem; max-width: 70rem; color: #333333 }}</style>"
    body = f"<body><h1>MetaLoRA embedding</h1>{text}{''.join(parts)}</body>"
    return f'<!doctype html><html lang="en"><head>{head}{style}</head>{body}</html>\n'


def _hover_texts(frame: pd.DataFrame) -> list[str]:
    """Return every point's name, class, task and prediction, escaped."""
    names = {"name": "", "label": "class ", "task": "task ", "predicted": "nearest say "}
    rows = frame[list(names)].astype(str).itertuples(index=False)
    return [
        "<br>".join(name + label(value, 60) for name, value in zip(names.values(), row, strict=True)) for row in rows
    ]
