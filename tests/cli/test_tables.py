"""Tables and helps at 80 columns: nothing is cut off, no bracket is taken for markup."""

import io
import re

import pytest
from calling import run
from rich.console import Console

from metalora.cli import app, messages
from metalora.cli.messages import fits, print_table


@pytest.fixture
def printed(monkeypatch):
    """printed(width, …) is what `print_table` prints in a terminal of so many columns."""

    def call(width, *table):
        out = io.StringIO()
        monkeypatch.setattr(messages, "Console", lambda **_: Console(file=out, width=width))
        print_table(*table)
        return out.getvalue()

    return call


def test_columns_that_do_not_fit_come_below_with_the_first_one(printed):
    header, row = ("layer", *(f"image{i:02}.png" for i in range(12))), ("layer1.0.conv1", *(i / 7 for i in range(12)))
    text = printed(80, "Title", header, [row, row])
    assert max(map(len, text.splitlines())) <= 80
    assert all(text.count(name) == 1 for name in header[1:])
    assert all(text.count(f"{i / 7:.3f}") == 2 for i in range(12))
    parts = text.count("layer ")
    assert parts > 1 and text.count("layer1.0.conv1") == 2 * parts


def test_a_table_that_fits_stays_in_one_piece(printed):
    text = printed(80, "Title", ("name", "count", "note"), [("a", 1, "x"), ("b", 20, "")])
    assert [line.split() for line in text.splitlines() if line.strip(" ─")] == [
        ["Title"],
        ["name", "count", "note"],
        ["a", "1", "x"],
        ["b", "20"],
    ]


def test_long_words_are_folded_and_numbers_keep_their_unit(printed):
    text = printed(80, "Title", ("name", "size", "why"), [("x" * 90, "1.2 M", "word " * 40)])
    assert text.count("x") == 90 and text.count("word") == 40 and "1.2 M" in text
    assert max(map(len, text.splitlines())) <= 80


def test_numbers_are_aligned_to_the_right(printed):
    lines = printed(80, "", ("layer", "n"), [("a", "9.9 k"), ("b", "12.3 M"), ("c", 7)]).splitlines()
    assert len({line.rstrip()[-1:] and len(line.rstrip()) for line in lines if line.strip()[:1] in tuple("abc")}) == 1


def test_what_fits():
    assert fits(["layer", *["a"] * 10]) and not fits(["layer", *["a long name of a picture.png"] * 10])


def test_info_of_a_bundled_adapter_loses_no_unit(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run("info", "--adapter", "resnet20/metalora-tr").output
    assert "layer3.0.downsample.0" in text and "(rest of the backbone)" in text
    parameters, flops = text.split("FLOPs of one image")
    total = {part: re.search(r"total +(.*)", text)[1].split("  ") for part, text in (("p", parameters), ("f", flops))}
    assert [cell.strip() for cell in total["p"] if cell] == ["58.3 k", "26.5 k", "271.8 k"]
    assert [cell.strip() for cell in total["f"] if cell] == ["7.8 M", "20.5 M", "20.4 M"]


def test_info_lists_the_bundled_adapters(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = run("info").output
    assert re.search(r"resnet20/metalora-tr +Meta-LoRA TR +digits +98\.9 %", text)
    assert re.search(r"mixer_nano/lora +LoRA +digits +81\.0 %", text)


def test_inspect_numbers_images_whose_names_are_too_long_for_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run("inspect", "assets/examples", "--adapter", "resnet20/metalora-tr").stdout
    assert re.search(r"2 +3-rotate-0\+plain\+red\.png", text)
    assert re.search(r"layer +1 +2 +3 +4", text) and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("verb", [command.name for command in app.registered_commands])
def test_no_help_loses_a_bracket(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = next(command for command in app.registered_commands if command.name == verb)
    written = re.findall(r"\\?\[([^\]]+)\]", command.callback.__doc__)
    shown = run(verb, "--help").output
    assert all(f"[{text}]" in shown for text in written)
    assert written == (["bench", "onnx"] if verb == "bench" else [])
