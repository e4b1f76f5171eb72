"""Regular expressions over names of layers and modules; plain ones are matched without going back.

`re` tries one way after another: where repetitions lie in each other it takes years, and no thread runs meanwhile. So
plain expressions are matched here along all ways at once, in time that grows with the expression times the name.
Plain are letters, classes, groups, alternatives, ^ and $, and repetitions by *, + and ? without one inside a
repeated group. Others go to `re`: what a person runs on their own machine may take their own time, while an app refuses
them by `check_plain`. So small a language needs no package of its own.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from metalora.util.errors import InputError

MAX_LENGTH = 200  # letters of a plain expression
TOKEN = re.compile(r"\\[dDwWsS]|\\[^\w\s]|\[\^?\]?(?:[^\]\\]|\\.)*\]|\(\?:|[*+?]\??|[^\\\[{}]", re.ASCII)
SIGNS = ("*", "+", "?")
ADVICE = "use letters, classes, groups, |, ^, $ and *, + or ?, with none of these in a repeated group"


@dataclass
class _Name:
    """A name, in which places are bits: bit i is the place before letter i."""

    text: str
    masks: dict[str, int] = field(default_factory=dict)  # token → places of the letters that it fits

    @property
    def places(self) -> int:
        return (2 << len(self.text)) - 1

    def after(self, token: str, fits: Callable[[str], object], places: int) -> int:
        """Return the places behind the letters at `places` that fit."""
        if token not in self.masks:
            self.masks[token] = sum(1 << i for i, letter in enumerate(self.text) if fits(letter))
        return (places & self.masks[token]) << 1


_Step = Callable[[_Name, int], int]  # the places that are reached from places


class _NotPlain(Exception):
    pass


def check_pattern(pattern: str) -> None:
    """Check that this is a regular expression.

    Raises:
        InputError: it is none.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{pattern[:MAX_LENGTH]!r} is not a regular expression ({error}): correct it.") from error


def check_plain(pattern: str) -> None:
    """Check that an expression can be matched in a bounded time, whatever it is.

    Raises:
        InputError: it is longer than `MAX_LENGTH`, or not plain.
    """
    if len(pattern) > MAX_LENGTH:
        raise InputError(f"The expression has {len(pattern):,} letters: use {MAX_LENGTH} at most.")
    if _plain(pattern) is None:
        raise InputError(f"The expression {pattern!r} can take too long: {ADVICE}.")


def matches(pattern: str, name: str) -> bool:
    """Return whether a regular expression matches somewhere in a name, as `re.search` does."""
    step = _plain(pattern)
    if step is None:
        return re.search(pattern, name) is not None
    searched = _Name(name)
    return step(searched, searched.places) != 0


@functools.lru_cache(1024)
def _plain(pattern: str) -> _Step | None:
    """Return what a plain expression does with places; None for another one."""
    if len(pattern) > MAX_LENGTH:
        return None
    try:
        return _Parser(pattern).parse()
    except _NotPlain:
        return None


class _Parser:
    """Parses one expression, which `re` accepts, into a step."""

    def __init__(self, pattern: str):
        self.tokens: list[str] = []
        end = 0
        while found := TOKEN.match(pattern, end):
            self.tokens.append(found[0])
            end = found.end()
        if end < len(pattern):
            raise _NotPlain
        self.tokens.reverse()  # the next one is the last
        self.loops = 0  # repetitions so far

    def parse(self) -> _Step:
        step = self._alternatives()
        if self.tokens:
            raise _NotPlain
        return step

    def _next(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def _alternatives(self) -> _Step:
        steps = [self._sequence()]
        while self._next() == "|":
            self.tokens.pop()
            steps.append(self._sequence())
        return (
            steps[0]
            if len(steps) == 1
            else lambda name, at: functools.reduce(int.__or__, (step(name, at) for step in steps))
        )

    def _sequence(self) -> _Step:
        steps: list[_Step] = []
        while self._next() not in ("", "|", ")"):
            steps.append(self._repeated())

        def follow(name: _Name, at: int) -> int:
            for step in steps:
                if not at:
                    break
                at = step(name, at)
            return at

        return follow

    def _repeated(self) -> _Step:
        loops = self.loops
        step = self._item()
        sign = self._next()[:1]
        if sign not in SIGNS:
            return step
        self.tokens.pop()
        if self._next()[:1] in SIGNS:  # possessive, which leaves ways out
            raise _NotPlain
        if sign == "?":
            return lambda name, at: at | step(name, at)
        if self.loops > loops:  # a repetition in a repetition
            raise _NotPlain
        self.loops += 1
        return _star(step) if sign == "*" else lambda name, at: _star(step)(name, step(name, at))

    def _item(self) -> _Step:
        token = self.tokens.pop()
        if token in ("(", "(?:"):
            if self._next()[:1] == "?":  # a flag, a look ahead
                raise _NotPlain
            step = self._alternatives()
            if self._next() != ")":
                raise _NotPlain
            self.tokens.pop()
            return step
        if token == "^":  # nosec B105 # a letter of an expression
            return lambda name, at: at & 1
        if token == "$":  # nosec B105
            return lambda name, at: at & (1 << len(name.text))
        if token[0] in SIGNS:
            raise _NotPlain
        fits = re.compile(token).fullmatch  # of one letter
        return lambda name, at: name.after(token, fits, at)


def _star(step: _Step) -> _Step:
    """Return the step any number of times, each place taken once."""

    def star(name: _Name, at: int) -> int:
        reached = new = at
        while new:
            new = step(name, new) & ~reached
            reached |= new
        return reached

    return star
