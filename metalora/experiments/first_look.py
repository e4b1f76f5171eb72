"""The first look, which `compare` takes where nothing is chosen: one question, fixed before any row is measured.

It comes from a study on photographs and is asked of scikit-learn's digits, which need no download. Only trainings with
seed 100 were looked at before, and the learning rate is the study's. A first look has the seeds from 0 on, none of
which chose anything, and what it says is computed from its rows, see `answer`.
"""

from dataclasses import dataclass

from metalora.experiments.config import ComparisonConfig
from metalora.suites.config import SuiteConfig
from metalora.training.config import TrainingConfig

GENERATED, SHUFFLED, STATIC = "metalora-tr-factors@8", "metalora-tr-factors-shuffled@8", "lora-equal-budget"
ROWS = ("original", STATIC, GENERATED, SHUFFLED)  # two trainings
# At the 8×8 pixels that the digits have, so that there are more steps in the same time.
FIRST_LOOK = ComparisonConfig(
    suite=SuiteConfig("digits", image_size=8),
    backbones=("resnet20",),
    methods=ROWS,
    seeds=6,  # as many as a star needs
    ks=(5,),
    hidden=16,  # as in the study
    training=TrainingConfig(lr=6e-3),
)


@dataclass(frozen=True)
class Question:
    """Is a generated row better than others? Asked before the rows are measured.

    Attributes:
        claim: What it would show if it is better than the first of the others.
        method: The row in question.
        words: What the row is, in the plural.
        others: The rows that it is compared with, and what they are; the first one decides the claim.
        task_split: "seen" or "unseen".
    """

    claim: str
    method: str
    words: str
    others: dict[str, str]
    task_split: str


QUESTION = Question(
    claim="Generated cores fit the images that they are generated for",
    method=GENERATED,
    words="the cores of their own set of eight",
    others={SHUFFLED: "the cores of other images", STATIC: "LoRA of as many parameters"},
    task_split="seen",
)
STUDY = "primary", "main"  # and its part that asks the same
