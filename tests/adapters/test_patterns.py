"""Regular expressions over names: the same answers as those of `re`, in a bounded time."""

import itertools
import random
import re
import time

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.adapters.patterns import MAX_LENGTH, check_plain, matches
from metalora.util.errors import InputError

NAMES = ["", "conv1", "layer1.0.conv1", "layer2.0.downsample.0", "blocks.11.attn.qkv", "head_drop", "a-b.c"]
PLAIN = [
    *("", "layer3", r"layer1\.0", "^conv1$", r"layer[23]\..*conv1", r"^layer1\.0\.conv1$|fc", "conv1$", "^$", "$", "."),
    *(r"blocks\.\d+\.attn", r"(layer1|blocks)\.\d+", r"(?:\d\.)+", "a*", "(ab|b)*c", "x?y?1", r"[^a-z.]+$", r"[]\].]0"),
    *(r"\w+\W\w+", "l.*?1", r"^(a|l)?(b|ayer)+", "(|conv)1", r"\-", r"(\.(conv|attn))+[12]?", "()*", "(^|2)0?"),
]


@pytest.mark.parametrize("pattern", PLAIN)
def test_plain_expressions_match_as_those_of_re(pattern):
    check_plain(pattern)
    for name in NAMES:
        assert matches(pattern, name) == bool(re.search(pattern, name)), name


def test_random_plain_expressions_match_as_those_of_re():
    draw, found = random.Random(0), 0
    names = ["".join(letters) for length in range(5) for letters in itertools.product("ab", repeat=length)]
    for _ in range(2000):
        pattern = "".join(
            draw.choice(["a", "b", "(", ")", "|", "*", "+", "?", ".", "^", "$", "[ab]"]) for _ in range(7)
        )
        try:
            expression = re.compile(pattern)
            check_plain(pattern)
        except (re.error, InputError):
            continue
        found += 1
        assert [matches(pattern, name) for name in names] == [bool(expression.search(name)) for name in names], pattern
    assert found > 150


@pytest.mark.parametrize("pattern", ["(([a-z0-9.]+)+)+!", r"(a|a)(a|a)*(\w*)*!", "a" * (MAX_LENGTH + 1)])
def test_what_may_take_too_long_is_refused(pattern):
    with pytest.raises(InputError, match=r"too long|letters: use 200 at most"):
        check_plain(pattern)


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)", "(?i)a", "a{2}", r"\bconv", "a*+b", "(?P<n>a)", r"\x41"])
def test_others_are_refused_of_strangers_and_go_to_re(pattern):
    with pytest.raises(InputError, match="can take too long"):
        check_plain(pattern)
    assert matches(pattern, "aab conv") == bool(re.search(pattern, "aab conv"))


@pytest.mark.parametrize("pattern", [".*" * 99 + "!", "(a?)" * 49 + "b", "(a|a)" * 39 + "b", "([ab]|a|a.|.)*!"])
def test_the_worst_plain_expressions_take_no_time(pattern):
    check_plain(pattern)
    began = time.perf_counter()
    assert not matches(pattern, "a" * 100)
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 5000 + ")" * 5000])
def test_what_re_refuses_is_one_sentence(pattern):
    with pytest.raises(InputError, match="is not a regular expression"):
        AdapterConfig(targets=pattern)
