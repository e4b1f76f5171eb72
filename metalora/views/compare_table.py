"""The short table of a comparison as HTML."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from metalora.experiments.short_table import NOT_TESTED, Entry, ShortRow
from metalora.experiments.table import NOT_RUN


def short_html(
    rows: Sequence[ShortRow], *, caption: str, colours: Mapping[str, str], opponent: str | None, k: int | None = None
) -> str:
    """Return a table element whose columns can be sorted within each group of rows, all text escaped.

    Args:
        rows: one or more, those of a group side by side.
        caption: says what results these are.
        colours: "#rrggbb" by name of a row.
        opponent: what gains are over, in words; None: rows are not compared.
        k: of k-NN, where it is the same for all.
    """
    splits = list(rows[0].accuracies)
    over = f"Gain over {opponent} (points)" if opponent else "Gain (points)"
    groups = [f"Accuracy, K = {k} (%)" if k else "Accuracy (%)", over]
    head = "".join(f'<th colspan="{len(splits)}" scope="colgroup">{escape(group)}</th>' for group in groups)
    names = "".join(_sort_head(split) for _ in groups for split in splits)
    body = ""
    for group, members in groupby(rows, key=lambda row: row.group):
        title = f'<tr class="group"><th colspan="{1 + 2 * len(splits)}" scope="rowgroup">{escape(group)}</th></tr>'
        body += f"<tbody>{title}{''.join(_row(row, colours[row.name]) for row in members)}</tbody>"
    return (
        f'<div class="results short"><div class="results-scroll" tabindex="0" role="region" '
        f'aria-label="{escape(caption)}"><table><caption><span>{escape(caption)}</span></caption><thead>'
        f'<tr><th rowspan="2" scope="col">Method</th>{head}</tr><tr>{names}</tr></thead>{body}</table></div></div>'
    )


def _sort_head(text: str) -> str:
    return f'<th scope="col" aria-sort="none"><button type="button">{escape(text)}</button></th>'


def _row(row: ShortRow, colour: str) -> str:
    head = (
        f'<th scope="row"><span class="mark" style="background:{escape(colour)}"></span>{escape(row.title)}'
        f"<code>{escape(row.name)}</code></th>"
    )
    return f"<tr>{head}{''.join(map(_cell, [*row.accuracies.values(), *row.gains.values()]))}</tr>"


def _cell(entry: Entry) -> str:
    value = "" if math.isnan(entry.value) else f"{entry.value:.6f}"
    text = f"<b>{escape(entry.text)}</b>" if entry.bold else escape(entry.text)
    remark = f' <span class="remark">{escape(entry.remark)}</span>' if entry.remark else ""
    absent = ' class="absent"' if NOT_TESTED in (entry.text, entry.remark) or entry.text == NOT_RUN else ""
    return f'<td data-value="{value}"{absent}>{text}{remark}</td>'
