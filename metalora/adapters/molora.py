"""MoLoRA (Zadouri et al. 2309.05444): a mixture of LoRAs, with a router in each layer that reads the layer's input.

    ΔW_n = Σ_e ω_n[e] A_e B_e,   ω_n = softmax(W_r x̄_n)

The paper routes every token; here x̄_n is the mean over an image's positions (and over a convolution's groups), so that
convolutions have it as well, and an image has one update.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metalora.adapters.formats import Factors, Shape
from metalora.adapters.mixture import Mixture


@dataclass(frozen=True)
class MoLoRA(Mixture):
    """A (e, *kernel, I, R), router (I, e) and B (e, R, O)."""

    routes: ClassVar[bool] = True
    not_a_weight: ClassVar[str] = "each layer weighs its experts by its own input"

    @property
    def core_shape(self) -> Shape:
        """(): nothing is generated."""
        return ()

    def parameter_shapes(self, kernel: Shape, inputs: int, outputs: int) -> dict[str, Shape]:
        """Return the shapes of A, router and B."""
        first, last = super().parameter_shapes(kernel, inputs, outputs).items()
        return dict([first, ("router", (inputs, self.branches)), last])

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return A, scaled, B and the router."""
        return super().factors(parameters, scale) | {"router": parameters["router"]}

    def route(self, factors: Factors, mean_input: Tensor) -> Tensor:
        """Return the weights of the experts, (N, e), from the layer's mean input, (N, I)."""
        return self.constrain(mean_input @ factors["router"].to(mean_input.dtype))
