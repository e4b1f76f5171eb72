"""Hostile files and words for the command line: one sentence and exit code 2, or an ordinary end; nothing unpickled."""

from collections import Counter

import pytest
from attack.command_line import call_all, peak_memory
from attack.commands import inputs, runs, words
from attack.corpus import choose, counted
from attack.weights import hostile_adapters, hostile_files
from calling import run
from figures import record
from PIL import Image

GROWTH = 1_500 * 2**20  # bytes


@pytest.fixture
def commands(adapters, stopped, tmp_path, monkeypatch):
    """(all commands, the file that a pickle would leave behind)."""
    monkeypatch.chdir(tmp_path)
    trap, image = tmp_path / "trap", tmp_path / "image.png"
    Image.new("RGB", (12, 10), "red").save(image)

    def embedding(write):
        def make(folder):
            write(folder / "adapter")
            out = str(folder / "e.npz")
            return ["embed", str(image), "--adapter", str(folder / "adapter"), "--device", "cpu", "--out", out]

        return make

    def searching(content):
        def make(folder):
            (folder / "gallery.safetensors").write_bytes(content)
            out = str(folder / "e.npz")
            return [*backbone, "--gallery", str(folder / "gallery.safetensors"), "--k", "1", "--out", out]

        return make

    backbone, good = ["embed", str(image), "--backbone", "resnet20", "--device", "cpu"], tmp_path / "good.safetensors"
    run(*backbone, "--out", good)
    searches = [(f"gallery, {name}", searching(content)) for name, content in hostile_files(good, trap).items()]
    loads = [(f"adapter, {name}", embedding(write)) for name, write in hostile_adapters(*adapters, trap)]
    return [*loads, *searches, *runs(stopped, trap), *inputs(), *words()], trap


def withstood(commands, trap, folder):
    """Call commands; the outcomes, after a look at the memory and for what a pickle leaves behind."""
    before = peak_memory()
    outcomes = call_all(commands, folder)
    bad = [f"{outcome.name}: {outcome.said}" for outcome in outcomes if outcome.verdict == "bad"]
    assert not bad, "\n".join(bad)
    assert not trap.exists()
    assert peak_memory() - before < GROWTH
    return outcomes


def test_a_choice_of_hostile_files_and_words_is_withstood(commands, tmp_path):
    withstood(choose(commands[0], 20), commands[1], tmp_path)


@pytest.mark.slow
def test_all_hostile_files_and_words_are_withstood(commands, tmp_path, capsys):
    before, outcomes = peak_memory(), withstood(*commands, tmp_path)
    assert len(outcomes) >= 300
    verdicts, growth = Counter(outcome.verdict for outcome in outcomes), (peak_memory() - before) / 2**20
    record("hostile, command line", inputs=len(outcomes), verdicts=verdicts, growth_mb=growth)
    with capsys.disabled():
        print(f"\nCommand line: {len(outcomes)} inputs, {counted([o.verdict for o in outcomes])}, nothing unpickled.")
        print(f"Memory at most {before / 2**20:.0f} MB before, {peak_memory() / 2**20:.0f} MB after.")
