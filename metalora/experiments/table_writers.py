"""Write a table to the terminal, and as CSV, Markdown, LaTeX and HTML."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from metalora.experiments.table import BUDGETS, NOT_APPLICABLE, NOT_RUN, Cell, Table


def to_terminal(table: Table, console: Console) -> None:
    """Print the table, a part for each backbone, and its notes; where both do not fit, budgets below accuracies."""
    budgets = {heading for heading, _ in BUDGETS.values()}
    for backbone in dict.fromkeys(backbone for backbone, _ in table.columns[1:]):
        own = [i for i, (group, _) in enumerate(table.columns) if group in ("", backbone)]
        parts = [own]
        if _width(_printed(table, own, backbone), console) > console.width:
            cost = [i for i in own if table.columns[i][1] in budgets]
            parts = [[i for i in own if i not in cost], *([[own[0], *cost]] if cost else [])]
        for part in parts:
            printed = _printed(table, part, backbone)
            printed.width = _width(printed, console)  # beyond the console's where need be, rather than cut
            console.print(printed, soft_wrap=True)
    for note in table.notes:
        console.print(Text(note, style="dim"))


def _printed(table: Table, columns: Sequence[int], title: str) -> RichTable:
    printed = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=Text(title, style="bold"), title_justify="left")
    for i in columns:
        # A word a line: columns stay narrow. Numbers are never cut or broken.
        printed.add_column(Text(table.columns[i][1].replace(" ", "\n")), justify="right" if i else "left", no_wrap=True)
    for row in table.rows:
        texts = {i: row[i].text.replace(" ", "\n") if row[i].text == NOT_APPLICABLE else row[i].text for i in columns}
        printed.add_row(*(Text(texts[i], style="bold" if row[i].bold else "") for i in columns))
    return printed


def _width(printed: RichTable, console: Console) -> int:
    """Return the columns of a terminal that it takes."""
    return console.measure(printed, options=console.options.update(width=1000, max_width=1000)).maximum


def to_csv(table: Table) -> str:
    """Return the cells as CSV, without bold and without notes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([table.header, *([cell.text for cell in row] for row in table.rows)])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """Return a pipe table, bold as **…**, and the notes as paragraphs."""

    def escape(text: str) -> str:
        return re.sub(r"([\\`*_\[\]<|])", r"\\\1", text)

    def line(texts: list[str]) -> str:
        return f"| {' | '.join(texts)} |"

    rule = ["---", *["---:"] * (len(table.header) - 1)]
    cells = [[f"**{escape(c.text)}**" if c.bold else escape(c.text) for c in row] for row in table.rows]
    lines = [line([escape(heading) for heading in table.header]), line(rule), *map(line, cells)]
    return "\n".join([*lines, *(f"\n{escape(note)}" for note in table.notes)]) + "\n"


def to_latex(table: Table) -> str:
    r"""Return a booktabs tabular, bold as \textbf, and the notes in \footnotesize below."""

    def line(texts: list[str]) -> str:
        return f"{' & '.join(texts)} \\\\"

    cells = [[f"\\textbf{{{_tex(c.text)}}}" if c.bold else _tex(c.text) for c in row] for row in table.rows]
    head = [f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", "\\toprule", line(list(map(_tex, table.header)))]
    body = [*head, "\\midrule", *map(line, cells), "\\bottomrule", "\\end{tabular}"]
    return "\n".join([*body, *(f"\\par{{\\footnotesize {_tex(note)}}}" for note in table.notes)]) + "\n"


def to_html(table: Table, *, caption: str = "", colours: Mapping[str, str] | None = None) -> str:
    """Return a table element and the notes as paragraphs, all text escaped; "not run" has a class of its own.

    Args:
        caption: of the table, "" for none.
        colours: "#rrggbb" by the text of a row's first cell, for a mark before it.
    """
    groups = [(name, len(list(same))) for name, same in groupby(column[0] for column in table.columns[1:])]
    first = escape(table.columns[0][1])
    over = "".join(f'<th colspan="{width}" scope="colgroup">{escape(name)}</th>' for name, width in groups)
    under = "".join(f'<th scope="col">{escape(heading)}</th>' for _, heading in table.columns[1:])
    head = f'<tr><th rowspan="2" scope="col">{first}</th>{over}</tr><tr>{under}</tr>'
    body = "".join(f"<tr>{_row_head(row[0], colours)}{''.join(map(_html_cell, row[1:]))}</tr>" for row in table.rows)
    title = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    # Scrolling must be possible with the keyboard as well, hence the tabindex.
    return (
        f'<div class="results"><div class="results-scroll" tabindex="0" role="region" '
        f'aria-label="{escape(caption or "Results")}"><table>{title}<thead>{head}</thead><tbody>{body}</tbody>'
        f"</table></div>{notes}</div>"
    )


def _row_head(cell: Cell, colours: Mapping[str, str] | None) -> str:
    colour = (colours or {}).get(cell.text)
    mark = f'<span class="mark" style="background:{escape(colour)}"></span>' if colour else ""
    return f'<th scope="row">{mark}{escape(cell.text)}</th>'


def _html_cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    return f'<td class="absent">{text}</td>' if cell.text == NOT_RUN else f"<td>{text}</td>"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    special |= {"±": r"$\pm$", "<": r"$<$", ">": r"$>$", **{mark: f"\\{mark}" for mark in "&%$#_{}"}}
    return "".join(special.get(letter, letter) for letter in text)
