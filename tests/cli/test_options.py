"""Options: one for every setting, with its default, in a help that needs no torch; old names still work."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from calling import QUICK, refused, run

import metalora
from metalora.cli import bench, compare, options, train
from metalora.util.config import field_help
from metalora.util.errors import InputError
from metalora.util.renamed import OPTIONS, upgrade_options

GROUPS = [options.ADAPTER, options.SUITE, options.TRAINING, options.EMBEDDING, compare.COMPARISON, train.RUN]
GROUPS += [bench.OPTIONS]


@dataclass(frozen=True)
class Toy:
    """Settings.

    Attributes:
        width: Width of it; None is any.
        names: Name of a part.
        flag: Turn it on.
        rank_pattern: Ranks by name.
        share: What is used.
    """

    width: int | None = 3
    names: tuple[str, ...] = ("a", "b")
    flag: bool = False
    rank_pattern: options.Mapping[str, int] = field(default_factory=dict)
    share: float = 0.5


TOY = options.Options(Toy, renamed={"names": "name"})


def test_help_needs_no_torch():
    lines = ("import sys", "from metalora.cli import main", "try:", "    main(['compare', '--help'])", "finally:")
    code = "\n".join([*lines, "    print('torch' in sys.modules)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--method" in done.stdout and done.stdout.strip().endswith("False")


@pytest.mark.parametrize("verb", ["compare", "train", "embed", "inspect", "fold", "bench", "pretrain", "info"])
def test_every_verb_has_help(verb):
    assert "--json" in run(verb, "--help").output


def test_the_help_of_an_option_is_the_documentation_of_its_setting():
    words = {name: parameter.annotation.__metadata__[0].help for name, parameter in TOY.parameters().items()}
    assert words == {
        "width": "Width of it; left out: any. Default: 3.",
        "name": "Name of a part. Repeatable. Default: a, b.",
        "flag": "Turn it on.",
        "rank_pattern": "Ranks by name. Repeatable.",
        "share": "What is used. Default: 0.5.",
    }


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.kind.__name__)
def test_every_option_is_documented(group):
    words = field_help(group.kind)
    assert not [entry.name for entry in group.by_option.values() if not words.get(entry.name)]


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        ({}, Toy()),
        ({"name": ["c"], "flag": True}, Toy(names=("c",), flag=True)),
        ({"rank_pattern": ["a=b=2", "c=3"], "unknown": 1}, Toy(rank_pattern={"a=b": 2, "c": 3})),
    ],
)
def test_options_are_read_into_settings_and_written_back(given, settings):
    assert TOY.read(given) == settings
    words = TOY.write(settings)
    assert [word for word in words if word.startswith("--")] == [
        f"--{name.replace('_', '-')}"
        for name in given
        if name != "unknown"
        for _ in (given[name] if name != "flag" else [1])
    ]


def test_options_of_some_fields():
    assert [*TOY.only("width", "names").parameters()] == ["width", "name"]
    assert [*TOY.without("width", "names").parameters()] == ["flag", "rank_pattern", "share"]
    assert TOY.only("width").read({"width": 2, "share": 0.1}) == Toy(width=2)


def test_a_rank_pattern_needs_a_rank():
    with pytest.raises(InputError, match="not REGEX=RANK"):
        TOY.read({"rank_pattern": ["layer1"]})


@pytest.mark.parametrize("word", ["--rate", "--rate=0.1"])
def test_an_old_option_is_renamed_with_a_note(word):
    words, notes = upgrade_options(["a", word, "b"], {"--lr"})
    assert words == ["a", word.replace("--rate", "--lr"), "b"]
    assert notes == ["--rate is called --lr now; the old name goes with 0.3."]


def test_words_that_are_no_old_options_of_the_verb_stay_as_they_are():
    assert upgrade_options(["--rate", "--batch"], {"--batch", "--batch-size"}) == (["--rate", "--batch"], [])


def test_every_old_option_has_a_new_one():
    assert set(OPTIONS.values()) <= {f"--{name.replace('_', '-')}" for group in GROUPS for name in group.by_option}


def test_verbs_take_old_options(tmp_path):
    call = ["train", tmp_path / "run", *QUICK[:4], "--rank", "2", "--steps", "1", "--device", "cpu", "--batch", "16"]
    notes = [line for line in run(*call, "--clip=2", "--told", "0.25").stderr.splitlines() if line.startswith("Note: ")]
    assert [note.split()[1] for note in notes] == ["--batch", "--clip", "--told"]
    assert "other settings (training.max_grad_norm 2.0, now 3.0" in refused(
        *call[:-2], "--batch-size", "16", "--max-grad-norm", "3", "--teacher-forcing-ratio", "0.25"
    )


def test_version():
    assert metalora.__version__ in run("--version").output
