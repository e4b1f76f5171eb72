"""What is selected on an embedding: one image with its neighbours, or the points of a lasso."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import pandas as pd

from metalora.experiments.table import format_percent
from metalora.inspection.projection import nearest_others
from metalora.inspection.spaces import SPACES, gallery_features
from metalora.plots.thumbnails import as_url
from metalora.util.errors import InputError
from metalora.views.embedding import EmbeddingView
from metalora.views.embedding_points import K
from metalora.views.gallery_images import gallery_images
from metalora.views.open_adapter import OpenAdapter

MAX_NEIGHBOURS = 10


def neighbour_tiles(
    adapter: OpenAdapter, view: EmbeddingView, position: int, row: int
) -> tuple[list[int], dict[str, Any]]:
    """Find the images nearest to one, not on the plane but in the space that was projected.

    Args:
        adapter: one of the view's.
        view: on the screen.
        position: that of the adapter in the view.
        row: of the image.

    Returns:
        Rows of the neighbours, nearest first, and what to show of them, the image itself first:
        {"heading", "tiles": [{"image", "name", "lines"}]}.

    Raises:
        InputError: there is no such image.
    """
    features = gallery_features(adapter.model, adapter.gallery, view.spaces[position])
    nearest = nearest_others(features, row, min(MAX_NEIGHBOURS, len(features) - 1))
    neighbours = nearest["index"].tolist()
    rows = [row, *neighbours]
    similarities = [f"{rank}: cosine {cosine:.2f}" for rank, cosine in enumerate(nearest["similarity"], start=1)]
    images = gallery_images(adapter.gallery, rows)
    points = view.frames[position].iloc[rows].itertuples()
    tiles = [
        {"image": as_url(image), "name": point.name, "lines": [similarity, f"class {point.label}", point.task]}
        for image, point, similarity in zip(images, points, ["this image", *similarities], strict=True)
    ]
    heading = f"{view.titles[position]}: nearest in {SPACES[view.spaces[position]]}"
    return neighbours, {"heading": heading, "tiles": tiles}


def describe_selection(points: pd.DataFrame, rows: Sequence[int], classes: Sequence[str]) -> tuple[str, pd.DataFrame]:
    """Describe the points of a lasso.

    Args:
        points: a `point_table`.
        rows: positions in `points`; one that comes twice counts once.
        classes: order of the counts.

    Returns:
        A sentence with the k-NN accuracy, and the counts (columns class, images), without classes that do not occur.

    Raises:
        InputError: a row that is not in the frame.
    """
    wrong = [row for row in rows if not isinstance(row, Integral) or not 0 <= row < len(points)]
    if wrong:
        raise InputError(f"There is no point {wrong[0]!r}: points are numbered 0 to {len(points) - 1}.")
    selected = points.iloc[sorted(set(rows))]
    counts = selected["label"].value_counts()
    counts = counts.reindex([name for name in classes if name in counts.index])
    table = counts.rename_axis("class").reset_index(name="images")
    if selected.empty:
        return "Nothing is selected.", table
    accuracy, of_all = (format_percent(float(frame["correct"].mean())) for frame in (selected, points))
    count = f"{len(selected)} images"
    return f"{count}, {accuracy} % classified correctly by their {K} nearest others (all: {of_all} %).", table
