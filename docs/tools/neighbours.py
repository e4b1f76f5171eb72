"""Draw the picture of README: images and their nearest neighbours under four adapters.

python docs/tools/neighbours.py --adapter resnet20/metalora-tr --static resnet20/lora --out docs/images/neighbours.png

The columns are the original network, a static adapter, generated cores, and generated cores given to the wrong images.
The images are the first query of each of some unseen or seen tasks, one class after the other: nothing is chosen by its
result. The shares in the headings are over all queries of these tasks, with the gallery that comes with the adapter.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[2]))  # to run from a checkout that is not installed

import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont

from metalora.evaluation.embedding import embed
from metalora.inspection.gallery import Gallery
from metalora.inspection.gallery_file import load_gallery
from metalora.models.adapted_model import AdaptedModel
from metalora.models.bundled import bundled_folder
from metalora.models.loading import load
from metalora.plots.thumbnails import to_pil
from metalora.runs.bundled_adapters import GALLERY, read_card
from metalora.runs.run_config import RunConfig
from metalora.suites.load import load_suite
from metalora.suites.suite import Examples
from metalora.views.gallery_images import gallery_images

SIDE, GAP, EDGE, TEXT = 56, 6, 4, 22  # pixels of a tile, between tiles, of its frame, of a line
K = 5
RIGHT, WRONG, INK = "#1a7f37", "#cf222e", "#24292f"


@dataclass(frozen=True)
class Column:
    """One way to embed the queries, and the gallery that they search."""

    title: str
    note: str
    gallery: Gallery
    space: str
    features: torch.Tensor


def columns(adapter: str, static: str, queries: Examples) -> list[Column]:
    """Embed the queries in four ways."""
    config = RunConfig.from_dict(read_card(bundled_folder(adapter))["settings"]).embed_config
    model, gallery = _open(adapter)
    plain, static_gallery = _open(static)
    size = config.set_size
    given = "one core per image" if size == 1 else f"one core per {size} images"
    with model.disabled():
        original = embed(model, queries)
    own, other = embed(model, queries, config), embed(model, queries, replace(config, shuffled=True))
    return [
        Column("original network", "no adapter", gallery, "original", original),
        Column("LoRA", "one adapter for all", static_gallery, "adapted", embed(plain, queries)),
        Column("generated", given, gallery, "adapted", own),
        Column("generated, wrong core", "core of other images", gallery, "adapted", other),
    ]


def _open(name: str) -> tuple[AdaptedModel, Gallery]:
    return load(name).eval(), load_gallery(bundled_folder(name) / GALLERY)


def share(column: Column, labels: list[str]) -> float:
    """Return the fraction of the K nearest neighbours of all queries that have the query's class."""
    nearest = column.gallery.nearest(column.features, column.space, K)
    wanted = pd.Series(labels)[nearest["image"]].to_numpy()
    return float((nearest["label"].to_numpy() == wanted).mean())


def draw(queries: Examples, shown: list[int], labels: list[str], tasks: list[str], found: list[Column]) -> Image.Image:
    """Draw the shown queries, one below the other, and their neighbours by every column."""
    left, wide = 196, K * (SIDE + GAP) + 3 * GAP
    sheet = Image.new("RGB", (left + len(found) * wide, 3 * TEXT + 14 + len(shown) * (SIDE + 2 * GAP)), "white")
    pen, small, large = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(17)
    pen.text((GAP, 4), "image, task", INK, large)
    pen.text((GAP, 4 + 2 * TEXT), "same class, all images", INK, small)
    for i, column in enumerate(found):
        x = left + i * wide
        pen.text((x, 4), column.title, INK, large)
        pen.text((x, 6 + TEXT), column.note, INK, small)
        pen.text((x, 4 + 2 * TEXT), f"{100 * share(column, labels):.0f} % of the {K} nearest", INK, small)
        nearest = column.gallery.nearest(column.features[shown], column.space, K)
        for row, query in enumerate(shown):
            y = 3 * TEXT + 14 + row * (SIDE + 2 * GAP)
            rows = nearest[nearest["image"] == row]
            for j, tile in enumerate(gallery_images(column.gallery, rows["index"].tolist())):
                right = rows["label"].iloc[j] == labels[query]
                _paste(sheet, pen, tile, (x + j * (SIDE + GAP), y), RIGHT if right else WRONG, dashed=not right)
    images = queries[shown].images()
    for row, query in enumerate(shown):
        y = 3 * TEXT + 14 + row * (SIDE + 2 * GAP)
        _paste(sheet, pen, to_pil(images[row]), (GAP, y), INK)
        lines = [labels[query], *tasks[query].replace("+", " ").rsplit(" ", 1)]
        for j, line in enumerate(lines):
            pen.text((GAP + SIDE + 12, y - 2 + 20 * j), line, INK, small)
    return sheet


def _paste(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    tile: Image.Image,
    place: tuple[int, int],
    colour: str,
    dashed: bool = False,
) -> None:
    """Put a tile in its frame: whole where the class is right, corners only where it is wrong."""
    x, y = place
    inner = SIDE - 2 * EDGE
    pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), fill=colour)
    if dashed:  # so that colour is not the only sign
        pen.rectangle((x + SIDE // 4, y, x + 3 * SIDE // 4, y + SIDE - 1), fill="white")
        pen.rectangle((x, y + SIDE // 4, x + SIDE - 1, y + 3 * SIDE // 4), fill="white")
    method = Image.Resampling.NEAREST if tile.width <= inner else Image.Resampling.BILINEAR
    sheet.paste(tile.resize((inner, inner), method), (x + EDGE, y + EDGE))


def picture(
    adapter: Annotated[str, typer.Option(help="Bundled adapter that generates cores.")] = "resnet20/metalora-tr",
    static: Annotated[str, typer.Option(help="Bundled adapter that does not.")] = "resnet20/lora",
    out: Annotated[Path, typer.Option(help="File to write, .png.")] = Path("docs/images/neighbours.png"),
    split: Annotated[str, typer.Option(help="Queries of seen or unseen tasks.")] = "seen",
    rows: Annotated[int, typer.Option(help="Images to show.")] = 4,
) -> None:
    """Draw images and their nearest neighbours under four adapters."""
    settings = RunConfig.from_dict(read_card(bundled_folder(adapter))["settings"])
    suite = load_suite(settings.suite, seed=settings.training.seed)
    queries = suite.splits[f"{split} query"]
    labels = [suite.classes[i] for i in queries.labels.tolist()]
    tasks = [suite.tasks[i] for i in queries.tasks.tolist()]
    order = dict.fromkeys(tasks)
    step = max(1, len(order) // rows)
    chosen = list(order)[::step][:rows]
    classes = torch.linspace(0, len(suite.classes) - 1, rows).round().long().tolist()
    shown = [
        next(i for i, pair in enumerate(zip(tasks, labels, strict=True)) if pair == (task, suite.classes[c]))
        for task, c in zip(chosen, classes, strict=True)
    ]
    sheet = draw(queries, shown, labels, tasks, columns(adapter, static, queries))
    sheet.save(out, optimize=True)
    typer.echo(f"The picture is in {out}.")


if __name__ == "__main__":
    typer.run(picture)
