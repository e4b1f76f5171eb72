"""kill -9 at any moment: what is resumed ends bit for bit as what was never stopped.

The full form kills twenty times and prints what was lost: `bash tests/run.sh -m slow -n 0 -s tests/resilience`.
"""

import pytest
from figures import record
from killing import SUBJECTS, After, ForkedCompare, ForkedTrain, Write, random_moments, survive

KILLS = {"train": 6, "compare": 5, "study": 4, "worker": 5}
SEED = 0
FEW = {
    ForkedTrain: [After(9, 0.0), Write("checkpoint.safetensors", "torn"), Write("result.json", "named")],
    ForkedCompare: [Write("*.safetensors", "whole"), Write("*.json", "named", 2)],
}


def check(kind, root, moments):
    """What was killed ends as what was not, and leaves nothing more; return the steps lost."""
    whole = kind(root / "whole")
    whole.start()
    assert whole.end() == 0, whole.log.read_text()
    lost, outcomes = survive(kind, root, moments)
    assert all(outcome == whole.outcome() for outcome in outcomes)
    return lost


@pytest.mark.parametrize("kind", FEW)
def test_what_is_killed_ends_as_if_it_never_was(kind, tmp_path):
    assert len(check(kind, tmp_path, FEW[kind])) == len(FEW[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_what_is_killed_at_random_moments_ends_as_if_it_never_was(kind, tmp_path):
    moments = random_moments(SUBJECTS[kind], KILLS[kind], SEED)
    lost = check(SUBJECTS[kind], tmp_path, moments)
    print(f"\n{kind}: {len(lost)} kills survived, steps lost: {lost}, by {', '.join(map(str, moments))}")
    record(f"kills, {kind}", kills=KILLS[kind], survived=len(lost), steps_lost=lost)
    assert len(lost) == KILLS[kind]
