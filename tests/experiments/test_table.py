"""Every writer on one small table whose every cell is known."""

import csv
import io
import math
from xml.etree import ElementTree

import pandas as pd
import pytest
from rich.console import Console

from metalora.experiments.statistics import SEEDS_ONLY
from metalora.experiments.table import Cell, Table, build_table, format_count, format_percent, format_time
from metalora.experiments.table_writers import to_csv, to_html, to_latex, to_markdown, to_terminal
from metalora.util.errors import InputError

METHODS = ["original", "lora_x", "metalora-tr@8"]


@pytest.fixture
def summary():
    base = {"backbone": "net", "suite": "shifts", "gallery": "pooled", "n_seeds": 6}
    lora = {**base, "method": "lora_x", "static_parameters": 88_600, "generator_parameters": 0, "ms_per_step": 9.96}
    tr = {**lora, "method": "metalora-tr@8", "static_parameters": 1_234_567, "generator_parameters": 21_800}
    return pd.DataFrame(
        [
            {**lora, "task_split": "seen", "k": 5, "mean": 0.5, "std": 0.01},
            {**tr, "task_split": "seen", "k": 5, "mean": 0.632, "std": 0.0142},
            {**lora, "task_split": "unseen", "k": 5, "mean": 0.55, "std": math.nan},
            {**lora, "task_split": "unseen", "k": 5, "mean": 0.99, "std": 0, "gallery": "within"},
        ]
    )


@pytest.fixture
def comparison():
    base = {"backbone": "net", "method": "metalora-tr@8", "k": 5, "gallery": "pooled", "against": "lora_x", "note": ""}
    return pd.DataFrame([{**base, "task_split": "seen", "star": "*"}])


@pytest.fixture
def table(summary, comparison):
    return build_table(summary, comparison, METHODS, footnotes=["Sets of 8 & no labels."])


def test_cells(table):
    assert table.header == [
        "method", "net seen K=5", "net unseen K=5", "net static", "net generator", "net ms/step"
    ]  # fmt: skip
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["original", *["not run"] * 5],
        ["lora_x", "50.0 ± 1.0", "55.0", "88.6 k", "0", "10"],
        ["metalora-tr@8", "63.2 ± 1.4*", "not run", "1.2 M", "21.8 k", "10"],
    ]
    bold = [cell for row in table.rows for cell in row if cell.bold]
    assert bold == [Cell("63.2 ± 1.4*", True)]  # 55.0 is alone in its column


def test_notes_say_the_rule(table, summary, comparison):
    first, star, foot = table.notes
    assert first.startswith("k-NN accuracy in %, mean ± standard deviation over 6 seeds; shifts, pooled gallery.")
    assert "(lora_x on net)" in star and "at least 6 seeds" in star and "K=5" in star
    assert foot == "Sets of 8 & no labels."
    few = build_table(summary, comparison.assign(star="n too small"), METHODS)
    assert few.notes[1:] == ["n too small for stars: fewer than 6 seeds."]
    mixed = build_table(summary, pd.concat([comparison, comparison.assign(method="b", star="n too small")]), METHODS)
    assert mixed.notes[1] == star and mixed.notes[2] == "n too small for stars: fewer than 6 seeds (b)."
    assert not any("*" in cell.text for row in few.rows for cell in row)
    assert len(build_table(summary).notes) == 1
    able = build_table(summary, pd.concat([comparison.assign(detectable=gain) for gain in (0.0214, 0.03, 0.0175)]))
    assert able.notes[2] == "Smallest gain that these seeds find with a probability of 80 %: 1.8 to 3.0 points."
    unseen = build_table(summary, comparison.assign(task_split="unseen", note=SEEDS_ONLY))
    assert unseen.notes[2].startswith("Intervals of unseen tasks resample seeds, not tasks")


def test_a_star_belongs_to_its_column_only(summary, comparison):
    for other in ({"task_split": "unseen"}, {"k": 10}, {"gallery": "within"}, {"backbone": "mixer"}, {"star": ""}):
        table = build_table(summary, comparison.assign(**other), METHODS)
        assert not any("*" in cell.text for row in table.rows for cell in row), other


def test_equal_numbers_are_equally_bold(summary):
    summary.loc[0, "mean"] = 0.6321
    third = summary.iloc[[0]].assign(method="b", mean=0.4)
    table = build_table(pd.concat([summary, third]))
    assert [row[1].bold for row in table.rows] == [True, True, False]


def test_nothing_is_bold_where_nothing_is_worse(summary):
    summary.loc[0, "mean"] = 0.6321
    assert [row[1].bold for row in build_table(summary).rows] == [False, False]


def test_a_row_that_is_told_the_answer_is_never_the_best(summary):
    ceiling = summary.iloc[[1]].assign(method="told")
    for mean in (0.9, 0.632):  # above, and on a tie
        table = build_table(pd.concat([summary, ceiling.assign(mean=mean)]), ceilings=["told"])
        assert [row[1].bold for row in table.rows] == [False, True, False]
        assert table.notes[0].endswith("Bold: best of its column, told left out.")
        for text, mark in ((to_markdown(table), "**"), (to_latex(table), r"\textbf{")):
            (line,) = (line for line in text.splitlines() if line.strip("| ").startswith("told"))
            assert mark not in line
    alone = pd.concat([summary.iloc[[0]], ceiling])
    assert not any(row[1].bold for row in build_table(alone, ceilings=["told"]).rows)


def test_a_budget_that_nobody_has_is_not_applicable(summary):
    assert [row[5].text for row in build_table(summary.assign(ms_per_step=None), None, METHODS).rows] == [
        *("not run", "not applicable", "not applicable")
    ]


def test_what_generation_costs_has_a_column_and_a_note(summary):
    table = build_table(summary.assign(generator_flops=[0, 20_500_000, 0, 0]), None, METHODS)
    assert table.header[5] == "net generator FLOPs"
    assert [row[5].text for row in table.rows] == ["not run", "0", "20.5 M"]
    assert any("extractor included" in note for note in table.notes)


def test_a_failed_mean_is_not_bold(summary):
    summary.loc[1, ["mean", "std"]] = math.nan
    third = summary.iloc[[0]].assign(method="b", mean=0.4)
    table = build_table(pd.concat([summary, third]))
    assert [row[1] for row in table.rows] == [Cell("50.0 ± 1.0", True), Cell("not applicable"), Cell("40.0 ± 1.0")]


def test_backbones_have_columns_of_their_own(summary):
    table = build_table(pd.concat([summary, summary.assign(backbone="mixer", static_parameters=5)]))
    assert table.header[6:9] == ["mixer seen K=5", "mixer unseen K=5", "mixer static"]
    assert table.rows[0][3].text == "88.6 k"
    assert table.rows[0][8].text == "5"


def test_one_suite_and_one_gallery(summary):
    with pytest.raises(InputError, match="has: shifts, digits"):
        build_table(pd.concat([summary, summary.assign(suite="digits")]))
    with pytest.raises(InputError, match="other gallery has: none"):
        build_table(summary, gallery="other")
    assert build_table(summary, gallery="within").rows[0][1].text == "99.0 ± 0.0"


def test_terminal(table):
    out = io.StringIO()
    to_terminal(table, Console(file=out, width=140, force_terminal=True, color_system="standard"))
    printed = out.getvalue()
    assert "lora_x" in printed and "metalora-tr@8" in printed and "not run" in printed
    assert "\x1b[1m63.2 ± 1.4*" in printed and "\x1b[1m50.0" not in printed and "50.0 ± 1.0" in printed
    assert "Holm-corrected" in printed


def test_a_whole_table_with_budgets_fits_120_columns(summary):
    base = summary.iloc[:2].assign(generator_flops=20_500_000, std=0.0123)
    base["method"] = ["lora", "metalora-tr-shuffled@8"]
    base.loc[0, "ms_per_step"] = math.nan
    whole = pd.concat([base.assign(task_split=task_split, k=k) for task_split in ("seen", "unseen") for k in (5, 10)])
    out = io.StringIO()
    to_terminal(build_table(whole), Console(file=out, width=120))
    printed = out.getvalue()
    assert "…" not in printed and printed.count("63.2 ± 1.2") == 4 and "generator" in printed
    assert "applicable" in printed and "metalora-tr-shuffled@8" in printed


def test_terminal_splits_by_backbone(summary):
    out = io.StringIO()
    both = pd.concat([summary, summary.assign(backbone="mixer")])
    to_terminal(build_table(both), Console(file=out, width=80))
    printed = out.getvalue()
    assert printed.index("net") < printed.index("lora_x") < printed.index("mixer") < printed.rindex("metalora-tr@8")
    assert printed.count("metalora-tr@8") == 2
    assert printed.count("63.2 ± 1.4") == 2


def test_terminal_shows_brackets_as_they_are(summary):
    out = io.StringIO()
    to_terminal(build_table(summary.replace("lora_x", "lora[bold]")), Console(file=out, width=140))
    assert "lora[bold]" in out.getvalue()


def test_csv(table):
    lines = list(csv.reader(io.StringIO(to_csv(table))))
    assert lines == [table.header, *([cell.text for cell in row] for row in table.rows)]


def test_markdown(table):
    lines = to_markdown(table).splitlines()
    assert lines[0] == "| method | net seen K=5 | net unseen K=5 | net static | net generator | net ms/step |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert lines[3] == r"| lora\_x | 50.0 ± 1.0 | 55.0 | 88.6 k | 0 | 10 |"
    assert lines[4] == r"| metalora-tr@8 | **63.2 ± 1.4\*** | not run | 1.2 M | 21.8 k | 10 |"
    assert lines[5] == "" and lines[-1] == "Sets of 8 & no labels."


def test_latex(table):
    lines = to_latex(table).splitlines()
    assert lines[:2] == [r"\begin{tabular}{lrrrrr}", r"\toprule"]
    assert lines[5] == r"lora\_x & 50.0 $\pm$ 1.0 & 55.0 & 88.6 k & 0 & 10 \\"
    assert lines[6] == r"metalora-tr@8 & \textbf{63.2 $\pm$ 1.4*} & not run & 1.2 M & 21.8 k & 10 \\"
    assert lines[7:9] == [r"\bottomrule", r"\end{tabular}"]
    assert r"accuracy in \%" in lines[9] and r"lora\_x on net" in lines[10] and "p $<$ 0.05" in lines[10]
    assert lines[11] == r"\par{\footnotesize Sets of 8 \& no labels.}"


def test_columns_are_there_before_anything_ran(summary):
    planned = {"backbones": ["net", "mixer"], "ks": [5, 10]}
    table = build_table(summary, None, METHODS, **planned)
    assert table.header[1:5] == ["net seen K=5", "net seen K=10", "net unseen K=5", "net unseen K=10"]
    assert [row[2].text for row in table.rows] == ["not run"] * 3 and table.rows[1][1].text == "50.0 ± 1.0"
    assert {cell.text for row in table.rows for cell in row[8:]} == {"not run"}
    empty = build_table(summary[:0], None, METHODS, **planned)
    assert empty.header == table.header and {cell.text for row in empty.rows for cell in row[1:]} == {"not run"}
    assert empty.notes == ["k-NN accuracy in %; nothing has run yet."]
    with pytest.raises(InputError, match="has: none"):
        build_table(summary[:0], None, METHODS, ks=[5])


def test_html(table):
    found = ElementTree.fromstring(to_html(table, caption="Measured & kept", colours={"lora_x": "#0072B2"}))
    assert found.find(".//caption/span").text == "Measured & kept"
    over, under = found.findall(".//thead/tr")
    assert [(th.text, th.get("colspan")) for th in over] == [("method", None), ("net", "5")]
    assert [th.text for th in under] == ["seen K=5", "unseen K=5", "static", "generator", "ms/step"]
    rows = [["".join(cell.itertext()) for cell in row] for row in found.findall(".//tbody/tr")]
    assert rows == [[cell.text for cell in row] for row in table.rows]
    assert [bold.text for bold in found.findall(".//b")] == ["63.2 ± 1.4*"]
    assert len(found.findall(".//td[@class='absent']")) == 6
    assert [mark.get("style") for mark in found.findall(".//tbody//span")] == ["background:#0072B2"]
    assert [note.text for note in found.findall("p")] == table.notes


def test_html_escapes_everything():
    evil = "<img src=x onerror='a'>\"&"
    table = Table([("", evil), (evil, evil)], [[Cell(evil), Cell(evil, True)]], [evil])
    html = to_html(table, caption=evil, colours={evil: '"><img>'})
    assert "<img" not in html and html.count("&lt;img src=x") == 8
    assert ElementTree.fromstring(html).find(".//b").text == evil


def test_numbers():
    counts = {0: "0", 999: "999", 1000: "1.0 k", 12_345: "12.3 k", 999_960: "1.0 M", 1_234_567: "1.2 M", 3.2e9: "3.2 G"}
    assert {n: format_count(n) for n in counts} == counts
    times = {0: "0", 0.0123: "0.012", 1.234: "1.2", 9.96: "10", 12.34: "12", 123.4: "120", 1234: "1200"}
    assert {ms: format_time(ms) for ms in times} == times
    assert (format_percent(0.63249), format_percent(0.632, 0.0142), format_percent(1)) == (
        "63.2",
        "63.2 ± 1.4",
        "100.0",
    )
    assert {write(math.nan) for write in (format_count, format_percent, format_time)} == {"not applicable"}


def test_a_narrow_terminal_has_budgets_below_accuracies(summary):
    base = summary.iloc[:2].assign(generator_flops=20_500_000, ms_per_step=[math.nan, 12.0])
    both = pd.concat([base.assign(task_split=task_split, k=k) for task_split in ("seen", "unseen") for k in (5, 10)])
    # Where even that does not fit, lines are longer than the terminal, and nothing is cut.
    for width, tables in ((120, 1), (80, 2), (30, 2)):
        out = io.StringIO()
        to_terminal(build_table(both), Console(file=out, width=width))
        printed = out.getvalue()
        assert "ms/step" in printed and "FLOPs" in printed and printed.count("20.5 M") == 2 and "…" not in printed
        assert printed.count("method") == tables


def test_worst_tasks_and_heads_stand_beside_the_means(summary, comparison):
    base = summary.iloc[0].to_dict() | {"gallery": "linear head", "k": 0}
    heads = pd.DataFrame(
        [{**base, "mean": 0.7}, {**base, "method": "metalora-tr@8", "mean": 0.8, "task_split": "unseen"}]
    )
    worst = summary[summary["gallery"] == "pooled"].assign(mean=0.25, std=math.nan)
    table = build_table(pd.concat([summary, heads]), comparison, METHODS, worst=worst, heads=METHODS[1:])
    beside = ["seen worst task", "unseen worst task", "seen linear head", "unseen linear head"]
    assert [heading for _, heading in table.columns[3:7]] == beside
    texts = [[cell.text for cell in row[3:7]] for row in table.rows]
    assert texts == [
        ["not run", "not run", "not applicable", "not applicable"],
        ["25.0", "25.0", "70.0 ± 1.0", "not measured"],
        ["25.0", "not run", "not measured", "80.0 ± 1.0"],
    ]
    added = [*METHODS, "metalora-cp"]
    table_with_more = build_table(pd.concat([summary, heads]), comparison, added, worst=worst, heads=added[1:])
    assert [cell.text for cell in table_with_more.rows[-1][3:7]] == ["not run"] * 4
    assert [row[:3] for row in table.rows] == [row[:3] for row in build_table(summary, comparison, METHODS).rows]
    assert any(note.startswith("Worst task: in every seed") for note in table.notes)
    assert any(note.startswith("Linear head: ") for note in table.notes)
    assert not any("head" in heading for _, heading in build_table(pd.concat([summary, heads])).columns)
