"""Equal budgets of all methods, counted on the models that they become."""

import pytest

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import METHODS
from metalora.experiments.equal_budget import equal_budget, total_parameters
from metalora.models.adapt import adapt
from metalora.models.backbones import load_backbone
from metalora.util.errors import InputError

REFERENCE = AdapterConfig("metalora-tr", rank=3, hidden=8)
UNRANKED = ("full", "linear-probe", "film", "condconv")
RANKED = [name for name, entry in METHODS.items() if entry.format and name not in (*UNRANKED, "metalora-tr")
          and "transformer" not in entry.needs]  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet20", image_size=8, pretrained=False)


@pytest.fixture(scope="module")
def goal(backbone):
    return total_parameters(adapt(backbone, REFERENCE))


@pytest.mark.parametrize("name", RANKED)
def test_every_ranked_method_reaches_the_budget_and_hardly_more(backbone, goal, name):
    found = adapt(backbone, equal_budget(backbone, REFERENCE, name, tasks=3))
    assert found.config.method == name
    most = {"lora": 1.15, "molora": 1.05, "fact-tt": 1.5, "fact-tucker": 1.5}.get(name, 1.03)
    assert goal <= total_parameters(found) < most * goal
    assert found.layers.keys() == adapt(backbone, REFERENCE).layers.keys()


@pytest.mark.parametrize("name", UNRANKED)
def test_a_rank_without_effect_is_refused(backbone, name):
    with pytest.raises(InputError, match=r"The rank has no effect on .*leave -equal-budget out"):
        equal_budget(backbone, REFERENCE, name)


def test_the_code_of_a_mixture_predicts_the_factors_of_the_suite(backbone, goal):
    config = equal_budget(backbone, REFERENCE, "lora-mixture", factors=(4, 2))
    assert config.factors == (4, 2)
    assert goal <= total_parameters(adapt(backbone, config)) < 1.03 * goal
