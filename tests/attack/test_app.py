"""Hostile requests to the running app: each is answered with a sentence or 4xx, and the app goes on as before.

bash tests/run.sh -m slow tests/attack -n 0 -s     all of them, with figures
"""

import json
from collections import Counter
from pathlib import Path

import pytest
from attack.corpus import all_attacks, counted, few_of_each_kind
from attack.images import PNG
from attack.target import attack_all, tracebacks
from figures import record

PEAK, GROWTH = 1_500 * 2**20, 400 * 2**20  # bytes, while attacked and afterwards
# Workers, what torch and Python ask about the machine, and git for the revision that run.json names.
PROGRAMS = ("python", "ldconfig", "uname", "lscpu", "git")


def withstood(attacked, attacks):
    """Send attacks; the outcomes, after a look at the app, its log and what it asked the system for."""
    target, log, watched = attacked
    before, memory, target.peak = inspected(target), target.memory(), 0
    outcomes = attack_all(target, attacks)
    bad = [f"{o.attack.kind}, {o.attack.name}: {o.answer}" for o in outcomes if o.answer.verdict == "bad"]
    assert not bad, "\n".join(bad)
    assert tracebacks(log) == 0
    assert inspected(target) == before
    assert target.client.get("/health").json()["status"] == "ok"
    assert target.peak - memory < PEAK and target.memory() - memory < GROWTH
    for event, arguments in (line.split("\t", 1) for line in watched.read_text(encoding="utf-8").splitlines()):
        if event == "subprocess.Popen":
            program = Path(arguments.split(",")[0].strip("('")).name
            assert program.startswith(PROGRAMS) and (program != "git" or "'describe'" in arguments), arguments
        else:  # neither a file that is nobody's, nor an object of a pickle; no address but this machine's
            assert event in ("socket.connect", "socket.getaddrinfo"), arguments
            assert "127.0.0.1" in arguments or "localhost" in arguments, arguments
    return outcomes, memory


def inspected(target):
    """What an ordinary image gets."""
    answer = target.inspect([target.sent("good.png", PNG)])
    assert answer.verdict == "ok", answer
    return json.loads(answer.text)["data"] if answer.text.endswith("}") else answer.text


def test_a_choice_of_hostile_requests_is_withstood(attacked):
    attacks = few_of_each_kind(all_attacks(attacked[0]), 4)
    assert len(attacks) >= 40
    withstood(attacked, attacks)


@pytest.mark.slow
def test_all_hostile_requests_are_withstood(attacked, capsys):
    attacks = all_attacks(attacked[0])
    assert len(attacks) >= 300
    outcomes, memory = withstood(attacked, attacks)
    longest = max(outcomes, key=lambda outcome: outcome.seconds)
    target = attacked[0]
    verdicts, growth = Counter(outcome.answer.verdict for outcome in outcomes), (target.peak - memory) / 2**20
    record("hostile, app", inputs=len(outcomes), verdicts=verdicts, growth_mb=growth, longest_seconds=longest.seconds)
    with capsys.disabled():
        print(f"\nApp: {len(outcomes)} inputs, {counted([o.answer.verdict for o in outcomes])}, 0 tracebacks.")
        print(f"Memory {memory / 2**20:.0f} MB before, {target.memory() / 2**20:.0f} MB after, ", end="")
        print(f"{target.peak / 2**20:.0f} MB at most.")
        print(f"Longest: {longest.seconds:.1f} s ({longest.attack.kind}, {longest.attack.name}).")
