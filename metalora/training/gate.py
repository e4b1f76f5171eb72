"""How far generated cores are trusted: one factor on their offsets from the identity core, fitted after training.

Cores are linear in the code, so the factor is multiplied into the mapping net's last layer. It is chosen by validation
images of seen tasks. Where smaller ones are as good, up to one standard error, the smallest is taken: the rule of
Breiman et al. (1984), in favour of the simpler model. At 0 all images get the identity core.
"""

import math
from collections.abc import Callable, Mapping

import torch

from metalora.models.mapping_net import MappingNet

CANDIDATES = (0.0, 0.25, 0.5, 0.75, 1.0)


@torch.no_grad()
def find_gate(mapping: MappingNet, validate: Callable[[], float], images: int) -> float:
    """Return the gate that is chosen of `CANDIDATES` for a trained mapping net, which stays as it is.

    Args:
        mapping: of the model that is validated.
        validate: returns the model's accuracy.
        images: number of validation images.
    """
    weight, accuracies = mapping.head.weight, {}
    trained = weight.detach().clone()
    for gate in CANDIDATES:
        weight.copy_(gate * trained)
        accuracies[gate] = validate()
    weight.copy_(trained)
    return choose_gate(accuracies, images)


def choose_gate(accuracies: Mapping[float, float], images: int) -> float:
    """Return the smallest gate whose accuracy is within one standard error of the best one's."""
    best = max(accuracies.values())
    error = math.sqrt(best * (1 - best) / max(1, images))
    return min(gate for gate, accuracy in accuracies.items() if best - accuracy <= error)
