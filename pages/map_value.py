"""What the plots of the map get: figures, hover cards, names of clusters, the way from one plane to the other."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from metalora.plots import embedding_scatter
from metalora.plots.scatter import cluster_labels
from metalora.views.embedding import EmbeddingView, Side
from metalora.views.embedding_points import K, hover_lines, hover_sprites, search_keys

from .plot import cards, marks, morph

COLOURS = {"class": "label", "task": "task", "right or wrong": "correct"}


def figures(view: EmbeddingView, colour: str) -> list[Any]:
    """Draw a scatter for each of the view's galleries."""
    return [_figure(view, i, colour, view.frames[i]) for i in range(len(view.frames))]


def values(
    view: EmbeddingView, shown: Sequence[Side], guests: Sequence[list[dict[str, Any]]], colour: str
) -> list[dict[str, Any]]:
    """Return the value of each plot, one for two galleries that turn into each other."""
    assert view.request is not None
    request = replace(view.request, files=())
    kept = shown[-1].opened.cached(("plots", request, colour), lambda: recoloured(view, colour))
    plots = [dict(plot) for plot in kept]
    for i, plot in enumerate(plots):
        frame, side = (view.frames[-1], shown[-1]) if view.morphs else (view.frames[i], shown[i])
        before = view.frames[0] if view.morphs else None
        lines = hover_lines(frame, before)
        hover = cards(frame["name"].tolist(), lines, **hover_sprites(side.opened), keys=search_keys(frame))
        link = "map" if view.same_images and not view.morphs else None
        plot |= {"cards": hover, "marks": marks(), "morph": None, "guests": guests[i], "link": link, "busy": None}
    if view.morphs:
        ends = [f"{title}, {view.accuracy(i)}" for i, title in enumerate(view.titles)]
        plots[0]["morph"] = morph(view.frames[1][["x", "y"]].to_numpy().tolist(), *ends, play=True)
        pairs = zip(guests[0], guests[1], strict=True)
        plots[0]["guests"] = [
            {
                **start,
                "lines": [f"{t}: {line}" for t, line in zip(view.titles, start["lines"] + end["lines"], strict=True)],
                "towards": end["place"],
            }
            for start, end in pairs
        ]
    return plots


def recoloured(view: EmbeddingView, colour: str) -> list[dict[str, Any]]:
    """Return figure and cluster names of each plot."""
    if not view.morphs:
        return [
            {"figure": figure, "labels": cluster_labels(frame, COLOURS[colour])}
            for figure, frame in zip(figures(view, colour), view.frames, strict=True)
        ]
    # The points start where the first gallery has them; what is right or wrong is judged at the end.
    start, end = view.frames
    figure = _figure(view, 1, colour, end.assign(x=start["x"], y=start["y"])).update_layout(title=None)
    labels = [
        {**label, "end": i} for i, frame in enumerate(view.frames) for label in cluster_labels(frame, COLOURS[colour])
    ]
    return [{"figure": figure, "labels": labels}]


def _figure(view: EmbeddingView, i: int, colour: str, frame: Any) -> Any:
    title = f"{view.titles[i]}: {view.accuracy(i)} by {K}-NN"
    return embedding_scatter(frame, colour=COLOURS[colour], classes=view.classes[i], title=title, axes=view.axes(i))
