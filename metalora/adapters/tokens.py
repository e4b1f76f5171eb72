"""Trained tokens in a vision transformer: what prompts and prefixes have in common."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from metalora.adapters.formats import Factors, Format, Layer
from metalora.adapters.forward_context import current
from metalora.adapters.layers import AdaptedLayer
from metalora.util.errors import InputError


class Tokens(Format):
    """R trained tokens for each adapted module; no weight is changed."""

    def factors(self, parameters: Factors, scale: float) -> Factors:
        """Return the parameters as they are: alpha has no effect."""
        return parameters

    @abstractmethod
    def run(self, base: nn.Module, x: Tensor, factors: Factors) -> Tensor:
        """Return what the frozen module makes of tokens (N, L, D) beside the trained ones."""

    def apply(self, layer: Layer, out: Tensor, x: Tensor, core: Tensor | None, samples: int) -> Tensor:
        """Refuse: tokens enter a module, and add nothing to its output (see `run`)."""
        raise NotImplementedError("Trained tokens act through run().")

    def dense(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Refuse.

        Raises:
            InputError: no weight is changed.
        """
        raise InputError("This method trains tokens and changes no weight: choose another to see an update.")

    def update_norm(self, weight: Tensor, factors: Factors, core: Tensor | None = None) -> Tensor:
        """Return ‖P‖, (1), since there is no ΔW."""
        return factors["P"].norm()[None]


class AdaptedTokens(AdaptedLayer):
    """A block or an attention of a vision transformer, for tokens (N, L, D)."""

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the frozen module makes of its tokens and the trained ones.

        Raises:
            InputError: there is an attention mask.
        """
        if not current.enabled:
            return self.base(input, *args, **kwargs)
        if any(given is not None and given is not False for given in (*args, *kwargs.values())):
            raise InputError(f"{self.name!r} gets an attention mask, which leaves trained tokens out: call it without.")
        format = self.adapter.format
        assert isinstance(format, Tokens)
        factors = self.factors()
        return format.run(self.base, input, factors | {"P": self.adapter.dropout(factors["P"])})
