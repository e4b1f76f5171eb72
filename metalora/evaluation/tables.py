"""From summaries and comparisons to one readable table, and that table to terminal, CSV, Markdown, LaTeX, HTML.

`build_table` makes cells of text with a bold flag; each writer turns those into its own form. The
number formats are public: whatever shows a number shows it so.
"""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby, product

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from metalora.errors import InputError
from metalora.evaluation.statistics import SEEDS_FOR_A_STAR, SEEDS_ONLY

NOT_RUN, NOT_APPLICABLE = "not run", "not applicable"
SPLITS = ("seen", "unseen")


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """Headings (backbone, what it shows), rows of as many cells, and sentences that stand below.

    The first column is the method, under the backbone "".
    """

    columns: list[tuple[str, str]]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    @property
    def header(self) -> list[str]:
        """Headings in one line each, such as "resnet20 seen K=5"."""
        return [" ".join(part for part in column if part) for column in self.columns]


def format_count(n: float) -> str:
    """A count in short: 999, "12.3 k", "1.2 M", G, T; "not applicable" for NaN."""
    if math.isnan(n):
        return NOT_APPLICABLE
    for unit in ("", " k", " M", " G", " T"):
        digits = 1 if unit else 0
        # Compare what will be printed, so that 999,960 is 1.0 M and not 1000.0 k.
        if round(abs(n), digits) < 1000 or unit == " T":
            break
        n /= 1000
    return f"{n:.{digits}f}{unit}"


def format_percent(fraction: float, spread: float = math.nan) -> str:
    """A fraction as per cent with one decimal, "63.2" or "63.2 ± 1.4", the sign left to the heading.

    "not applicable" for NaN.
    """
    if math.isnan(fraction):
        return NOT_APPLICABLE
    return f"{100 * fraction:.1f}" if math.isnan(spread) else f"{100 * fraction:.1f} ± {100 * spread:.1f}"


def format_time(ms: float) -> str:
    """Milliseconds with two significant figures, without exponent, the unit left to the heading.

    "not applicable" for NaN.
    """
    if math.isnan(ms):
        return NOT_APPLICABLE
    ms = float(f"{ms:.1e}")
    digits = max(0, 1 - math.floor(math.log10(abs(ms)))) if ms else 0
    return f"{ms:.{digits}f}"


# Column of the summary → heading and format; a column that the summary lacks is left out.
BUDGETS = {
    "static_parameters": ("static", format_count),
    "generator_parameters": ("generator", format_count),
    "generator_flops": ("generator FLOPs", format_count),
    "ms_per_step": ("ms/step", format_time),
}


def build_table(
    summary: pd.DataFrame,
    comparison: pd.DataFrame | None = None,
    methods: Sequence[str] | None = None,
    *,
    gallery: str = "pooled",
    backbones: Sequence[str] | None = None,
    ks: Sequence[int] | None = None,
    footnotes: Sequence[str] = (),
) -> Table:
    """The table of one suite and gallery: a row per method, columns backbone × split × K, then budgets.

    Args:
        summary: from `summarise`, with any of the columns in `BUDGETS`.
        comparison: from `compare_to_static`, for the stars.
        methods: the rows, in this order; None: those of the summary.
        backbones: None: those of the summary. Others have columns that say "not run".
        ks: of columns for both splits, run or not; None: those of the summary.
        footnotes: sentences to add below, for instance what a set row knows.

    Raises:
        InputError: the summary has more than one suite, or no row of this gallery while `backbones` or `ks` is None.
    """
    here = summary[summary["gallery"] == gallery]
    planned = backbones is not None and ks is not None
    if here["suite"].nunique() != 1 and not (planned and here.empty):
        suites = ", ".join(map(str, here["suite"].unique())) or "none"
        raise InputError(f"A table shows one suite on one gallery; the {gallery} gallery has: {suites}.")
    methods = list(here["method"].unique()) if methods is None else list(methods)
    columns = [(("", "method"), [Cell(method) for method in methods])]
    for backbone in here["backbone"].unique() if backbones is None else backbones:
        part = here[here["backbone"] == backbone]
        places = part[["split", "k"]].drop_duplicates().itertuples(index=False) if ks is None else product(SPLITS, ks)
        for split, k in places:
            cells = part[(part["split"] == split) & (part["k"] == k)]
            stars = _stars(comparison, backbone, split, k, gallery)
            columns.append(((backbone, f"{split} K={k}"), _accuracies(cells, stars, methods)))
        for name, (heading, write) in BUDGETS.items():
            if name in part:
                known = part.drop_duplicates("method").set_index("method")[name].astype(float)  # None: NaN
                texts = [write(known[method]) if method in known.index else NOT_RUN for method in methods]
                columns.append(((backbone, heading), [Cell(text) for text in texts]))
    rows = [list(row) for row in zip(*(cells for _, cells in columns), strict=True)]
    return Table([heading for heading, _ in columns], rows, [*_rules(here, comparison, gallery), *footnotes])


def to_terminal(table: Table, console: Console) -> None:
    """Print the table, a part for each backbone, and its notes; where both do not fit, budgets below accuracies."""
    budgets = {heading for heading, _ in BUDGETS.values()}
    for backbone in dict.fromkeys(backbone for backbone, _ in table.columns[1:]):
        own = [i for i, (group, _) in enumerate(table.columns) if group in ("", backbone)]
        parts = [own]
        if _width(_printed(table, own, backbone), console) > console.width:
            cost = [i for i in own if table.columns[i][1] in budgets]
            parts = [[i for i in own if i not in cost], [own[0], *cost]]
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
    """Columns of a terminal that it takes."""
    return console.measure(printed, options=console.options.update(width=1000, max_width=1000)).maximum


def to_csv(table: Table) -> str:
    """The cells as CSV, without bold and without notes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([table.header, *([cell.text for cell in row] for row in table.rows)])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """A pipe table, bold as **…**, and the notes as paragraphs."""

    def escape(text: str) -> str:
        return re.sub(r"([\\`*_\[\]<|])", r"\\\1", text)

    def line(texts: list[str]) -> str:
        return f"| {' | '.join(texts)} |"

    rule = ["---", *["---:"] * (len(table.header) - 1)]
    cells = [[f"**{escape(c.text)}**" if c.bold else escape(c.text) for c in row] for row in table.rows]
    lines = [line([escape(heading) for heading in table.header]), line(rule), *map(line, cells)]
    return "\n".join([*lines, *(f"\n{escape(note)}" for note in table.notes)]) + "\n"


def to_latex(table: Table) -> str:
    """A booktabs tabular, bold as \\textbf, and the notes in \\footnotesize below."""

    def line(texts: list[str]) -> str:
        return f"{' & '.join(texts)} \\\\"

    cells = [[f"\\textbf{{{_tex(c.text)}}}" if c.bold else _tex(c.text) for c in row] for row in table.rows]
    head = [f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", "\\toprule", line(list(map(_tex, table.header)))]
    body = [*head, "\\midrule", *map(line, cells), "\\bottomrule", "\\end{tabular}"]
    return "\n".join([*body, *(f"\\par{{\\footnotesize {_tex(note)}}}" for note in table.notes)]) + "\n"


def to_html(table: Table, *, caption: str = "", colours: Mapping[str, str] | None = None) -> str:
    """A table element and the notes as paragraphs below, all text escaped; what was not run has a class of its own.

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
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
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


def _stars(comparison: pd.DataFrame | None, backbone: str, split: str, k: int, gallery: str) -> set[str]:
    """Methods that earned a star in this column."""
    if comparison is None:
        return set()
    place = {"backbone": backbone, "split": split, "k": k, "gallery": gallery, "star": "*"}
    here = comparison[(comparison[list(place)] == pd.Series(place)).all(axis=1)]
    return set(here["method"])


def _accuracies(cells: pd.DataFrame, stars: set[str], methods: list[str]) -> list[Cell]:
    """One column; bold is the best as printed, so that equal numbers are equally bold."""
    known = cells.set_index("method")[["mean", "std"]]
    shown = (100 * known["mean"].reindex(methods)).round(1)
    column = []
    for method in methods:
        if method not in known.index:
            column.append(Cell(NOT_RUN))
            continue
        text = format_percent(*known.loc[method]) + ("*" if method in stars else "")
        column.append(Cell(text, bold=bool(shown[method] == shown.max())))
    return column


def _rules(summary: pd.DataFrame, comparison: pd.DataFrame | None, gallery: str) -> list[str]:
    """What the numbers, bold and * mean."""
    if summary.empty:
        return ["k-NN accuracy in %; nothing has run yet."]
    fewest, most = summary["n_seeds"].min(), summary["n_seeds"].max()
    seeds = f"{most} seed{'s' if most > 1 else ''}" if fewest == most else f"{fewest} to {most} seeds"
    spread = " ± standard deviation" if most > 1 else ""
    suite = summary["suite"].iloc[0]
    notes = [f"k-NN accuracy in %, mean{spread} over {seeds}; {suite}, {gallery} gallery. Bold: best of its column."]
    if "generator_flops" in summary:
        notes.append("Generator FLOPs: of one image's cores, the extractor included.")
    if comparison is None or comparison.empty:
        return notes
    few = comparison["star"] == "n too small"
    if not few.all():
        pairs = comparison.loc[~few, ["backbone", "against"]].drop_duplicates().itertuples(index=False)
        static = ", ".join(f"{against} on {backbone}" for backbone, against in pairs)
        notes.append(
            f"*: better than the static row it is held against ({static}): paired t-test over at least "
            f"{SEEDS_FOR_A_STAR} seeds, Holm-corrected p < 0.05, and a 95 % bootstrap interval above zero; "
            f"tested at K={comparison['k'].iloc[0]}."
        )
        notes += _power(comparison.loc[~few])
        if (comparison.loc[~few, "note"] == SEEDS_ONLY).any():
            notes.append(
                "Intervals of unseen tasks resample seeds, not tasks: accuracies of single tasks were not given."
            )
    if few.any():
        rows = "" if few.all() else f" ({', '.join(comparison.loc[few, 'method'].unique())})"
        notes.append(f"n too small for stars: fewer than {SEEDS_FOR_A_STAR} seeds{rows}.")
    return notes


def _power(comparison: pd.DataFrame) -> list[str]:
    """The smallest gains that could have been starred; results of earlier versions do not have them."""
    known = comparison["detectable"].dropna() if "detectable" in comparison else ()
    if not len(known):
        return []
    gains = " to ".join(dict.fromkeys(format_percent(gain) for gain in (known.min(), known.max())))
    return [f"Smallest gain that these seeds find with a probability of 80 %: {gains} points."]
