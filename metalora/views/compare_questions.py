"""The bundled results, by the question that they answer."""

import functools
from dataclasses import dataclass

from metalora.experiments.results import bundled_results, load_bundled
from metalora.util.errors import InputError

MINE = "My runs"


@dataclass(frozen=True)
class Question:
    """A question, and the bundled results that answer it.

    Attributes:
        text: As the menu shows it.
        results: What is compared, by the name of the result; the first one is shown first.
        sets: Whether the answer is about rows with sets (True), with single images (False), or either (None).
    """

    text: str
    results: dict[str, str]
    sets: bool | None = None


ALPHABETS = ("balinese", "early_aramaic", "greek", "korean", "latin")


def _alphabets(suffix: str, words: str) -> dict[str, str]:
    names = {alphabet: alphabet.replace("_", " ").title() for alphabet in ALPHABETS}
    return {
        f"breadth/omniglot-{alphabet}{suffix}": f"Alphabets, {name} unseen{words}" for alphabet, name in names.items()
    }


QUESTIONS = (
    Question(
        "Do sets pay?",
        {
            "primary/main": "Compositions of shifts",
            "mixer/mixer": "Compositions of shifts",
            "breadth/corruptions": "Corruptions",
            "breadth/corruptions-mixer": "Corruptions",
            "breadth/shifts": "Ten shifts",
            "breadth/shifts-mixer": "Ten shifts",
            "breadth/digits": "Digits",
            "breadth/digits-mixer": "Digits",
            "map/steps-1200": "Sets of 1 to 32 images",
            "field/rotations": "Digits in fourteen rotations, a few of them rare",
        },
        sets=True,
    ),
    Question(
        "Does one image pay?",
        {
            "primary/one": "Compositions, first cores close together",
            "primary/free": "Compositions, identity cores for half",
            "mixer/one": "Compositions, first cores close together",
            "mixer/free": "Compositions, identity cores for half",
            "breadth/corruptions-default": "Corruptions, today's defaults",
            "breadth/corruptions-one": "Corruptions, first cores close together",
            "breadth/corruptions-free": "Corruptions, identity cores for half",
            "breadth/shifts-free": "Ten shifts, identity cores for half",
            "breadth/digits-free": "Digits, identity cores for half",
        },
        sets=False,
    ),
    Question(
        "More steps or parameters?",
        {
            "primary/steps-2400": "Compositions, twice the steps",
            "primary/steps-4800": "Compositions, four times the steps",
            "map/steps-600": "Adapter of 42 k parameters, half the steps",
            "map/steps-2400": "Adapter of 42 k parameters, twice the steps",
            "map/budget-20k": "19 k parameters instead of 42 k",
            "map/budget-10k": "10 k parameters instead of 42 k",
        },
    ),
    Question(
        "Unseen tasks?",
        {
            "map/tasks-8": "Compositions, trained on 8 tasks",
            "map/tasks-2": "Compositions, trained on 2 tasks",
            **_alphabets("-free", ", identity cores for half"),
            **_alphabets("", ""),
            **_alphabets("-mixer", ""),
        },
    ),
    Question(
        "Controls and rivals",
        {
            "breadth/rules": "Negative control: the pixels do not tell the task",
            "breadth/rules-free": "Negative control, identity cores for half",
            "breadth/rules-mixer": "Negative control: the pixels do not tell the task",
            "contexts/corruptions": "Rivals from 0 to 50 images, corruptions",
            "primary/more": "Rivals: inverted shifts, FiLM, several branches",
            "primary/full": "Every weight fine-tuned",
        },
    ),
    Question("Quick looks", {"digits-default": "Digits", "digits-all": "Every method", "cifar10": "Ten shifts"}),
)
HEADLINE = next(iter(QUESTIONS[0].results))


def question_of(name: str) -> Question:
    """Return the question that a bundled result belongs to.

    Raises:
        InputError: there is no such result.
    """
    for question in QUESTIONS:
        if name in question.results:
            return question
    raise InputError(f"There are no results {name!r}: choose some of the list.")


@functools.cache
def title(name: str) -> str:
    """Describe a bundled result for a menu: what is compared, on which backbones, with how many seeds and steps."""
    config = load_bundled(name).config
    seeds = f"{config.seeds} seed{'s' if config.seeds > 1 else ''}"
    words = question_of(name).results[name]
    return f"{words} ({' and '.join(config.backbones)}, {seeds}, {config.training.steps:,} steps)"


def menu(question: Question) -> list[tuple[str, str]]:
    """Return the results of a question that are bundled, as (title, name)."""
    bundled = bundled_results()
    return [(title(name), name) for name in question.results if name in bundled]
