"""From features of an image to its cores: mapping net → code → cores.

arXiv 2504.00460, Fig. 4: a pre-trained network's features of the image, mapped to what each adapted layer needs. The
code in the middle is short, which keeps the generator cheap, and it is what people look at. It is a latent code, or it
predicts the factors that a suite's tasks are made of (factor code).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from metalora.adapters.cores import Cores
from metalora.adapters.formats import Format
from metalora.models.standardised_features import StandardisedFeatures
from metalora.util.device import to_device, without_autocast
from metalora.util.errors import InputError

MIN_PROB = 1e-6  # of a factor's value
INITIAL_STD = 0.05  # of a core's value, before training
PRIOR_STD = 0.2  # of a core's value, as in C-LoRA's code
LOG_VARIANCES = -10.0, 2.0  # smallest and largest; codes without a limit would make the variance infinite


def mean_by_group(codes: Tensor, groups: Tensor) -> Tensor:
    """Replace every code by the mean code of its group.

    Args:
        codes: (N, code).
        groups: (N), equal numbers belong together.

    Raises:
        InputError: not one number for each code.
    """
    if len(groups) != len(codes):
        raise InputError(f"There are {len(groups)} group numbers for {len(codes)} images: give one for each.")
    member, count = _members(groups, codes.device)
    total = codes.new_zeros(len(count), codes.shape[1]).index_add(0, member, codes)
    return (total / count[:, None].to(codes))[member]


def _members(groups: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return which group, by position, each image is in (N), and how many images each group has.

    They are computed where the numbers of the groups are: those on the CPU make no GPU wait.
    """
    _, member, count = groups.unique(return_inverse=True, return_counts=True)
    return to_device(member, device), to_device(count, device)


def factor_loss(scores: Tensor, factor_indices: Tensor, combinations: Tensor, factors: Sequence[int]) -> Tensor:
    """Return the cross-entropy of the images' combinations of factor values, mean over images.

    A combination's score is the sum of its values' scores. Only combinations of the seen tasks take part. With the
    others among the classes, the loss would teach the net to rule them out: it would read one factor from another, and
    take a combination that it first meets in use for a trained one.

    Args:
        scores: (N, Σ factors), of every value of every factor; logits or log-probabilities.
        factor_indices: (N, factors), the index of each factor's value.
        combinations: (T, factors), those of the seen tasks, each once.
        factors: number of values of each factor.
    """
    first = to_device(torch.tensor((0, *itertools.accumulate(factors[:-1]))), factor_indices.device)
    joint = scores[:, combinations + first].sum(2)
    return F.cross_entropy(joint, (factor_indices[:, None] == combinations).all(2).int().argmax(1))


class CoreHead(nn.Module):
    """What cores of all layers have in common: their shapes, their identity values, their order."""

    identity: Tensor

    def __init__(self, formats: Mapping[str, Format], like: Tensor):
        super().__init__()
        self.formats = dict(formats)
        self.sizes = [math.prod(format.core_shape) for format in formats.values()]
        self.total = sum(self.sizes)
        identity = torch.cat([format.identity_core().flatten() for format in formats.values()])
        self.register_buffer("identity", identity.to(like), persistent=False)

    def split(self, flat: Tensor) -> Cores:
        """Build Cores from (N, total), their offsets from the identity core."""
        parts = (flat + self.identity).split(self.sizes, dim=1)
        shaped = zip(self.formats.items(), parts, strict=True)
        return Cores({name: f.constrain(part.unflatten(1, f.core_shape)) for (name, f), part in shaped})


class ConstantCore(CoreHead):
    """One learned core for all images: the static method nested in the generated one."""

    def __init__(self, formats: Mapping[str, Format], like: Tensor):
        super().__init__(formats, like)
        self.offset = nn.Parameter(torch.zeros(1, self.total).to(like))

    def cores(self) -> Cores:
        """Return the one core, as one sample."""
        return self.split(self.offset)


class MappingNet(CoreHead, StandardisedFeatures):
    """Features (N, F), standardised → ReLU layer → code → cores of every layer.

    A factor code has a probability for every value of every factor; cores are linear in these and in the products of
    any two factors' probabilities. So a combination that was never trained is made of known parts, and an image that
    leaves a factor open gets the mean of the cores in question.

    With Gaussian cores (C-LoRA, Rahmati et al. 2505.17773) a second linear map of the same inputs gives the logarithm
    of a variance for every value of the cores; all layers up to the code are shared. What `split` constrains, such as
    weights of experts, is normal before that. A set has the distribution of its pooled code; in training each of its
    images draws a core of its own from that.

    Args:
        formats: layer → format.
        like: a tensor of the device and dtype to use.
        features: F; None when only data will tell (then `materialise` before use).
        hidden: width of the ReLU layer.
        code: width of a latent code.
        factors: number of values of each factor, for a factor code; none for a latent code.
        head_init_std: standard deviation of the last layer's first weights, of formats that allow random cores.
        code_norm_limit: length that a latent code approaches and never has; 0 is no limit. Images unlike the training
            images give codes several times as long as theirs, and cores are linear in them.
        gaussian: give every value of a core a variance.
        rng: gives the first weights.
    """

    def __init__(
        self,
        formats: Mapping[str, Format],
        like: Tensor,
        *,
        features: int | None,
        hidden: int,
        code: int,
        factors: Sequence[int] = (),
        head_init_std: float,
        code_norm_limit: float,
        gaussian: bool = False,
        rng: torch.Generator,
    ):
        super().__init__(formats, like)
        self.factors, self.code_norm_limit = tuple(factors), code_norm_limit
        code = sum(self.factors) or code
        pairs = sum(a * b for a, b in itertools.combinations(self.factors, 2))
        self.rng_state = rng.get_state()
        self.hidden = nn.LazyLinear(hidden) if features is None else nn.Linear(features, hidden)
        self.code = nn.Linear(hidden, code)
        self.head = nn.Linear(code + pairs, self.total, bias=False)
        self.log_variance = nn.Linear(code + pairs, self.total) if gaussian else None
        sizes = [(math.prod(f.core_shape), head_init_std * f.random_core_init) for f in formats.values()]
        self.head_init_std = torch.cat([torch.full((size,), value, dtype=torch.float64) for size, value in sizes])
        self.register_statistics(features or 0)
        self.to(like)
        if features is not None:
            self._start()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        if f"{prefix}standardised" not in state and f"{prefix}feature_std" in state:  # of format version 1
            state[f"{prefix}standardised"] = (state[f"{prefix}feature_std"] != 1).any()
        mean = state.get(f"{prefix}feature_mean")
        if mean is not None and not self.materialised:  # the width is known now, as that of a first batch would be
            self.feature_mean, self.feature_std = (self.feature_mean.new_empty(mean.shape) for _ in range(2))
            self.hidden.in_features = len(mean)
        super()._load_from_state_dict(state, prefix, *args)

    @property
    def width(self) -> int:
        """F, the width of the features."""
        return len(self.feature_mean)

    @property
    def materialised(self) -> bool:
        """Whether the width of the features is known."""
        return not isinstance(self.hidden.weight, nn.UninitializedParameter)

    def materialise(self, features: Tensor) -> None:
        """Learn the width F from features (N, F)."""
        if not self.materialised:
            self.hidden(features)
            self.feature_mean = features.new_zeros(features.shape[1])
            self.feature_std = features.new_ones(features.shape[1])
            self._start()

    @torch.no_grad()
    def _start(self) -> None:
        rng = torch.Generator()
        rng.set_state(self.rng_state)
        for layer in (self.hidden, self.code, self.head):
            std = self.head_init_std[:, None] if layer is self.head else (2 / layer.in_features) ** 0.5
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng, dtype=torch.float64) * std)
            if layer.bias is not None:
                layer.bias.zero_()
        # Pairs start at 0: one that is never seen in training adds nothing to its factors' own parts.
        self.head.weight[:, self.code.out_features :] = 0
        if self.log_variance is not None:
            self.log_variance.weight.zero_()
            self.log_variance.bias.zero_()

    def codes(self, features: Tensor) -> Tensor:
        """Map features (N, F) to codes (N, code), outside autocast, in the module's own dtype."""
        with without_autocast(features.device):
            codes = self.code(F.relu(self.hidden(self.scores(features))))
            return self._softmax(codes) if self.factors else self._limit(codes)

    def pool(self, codes: Tensor, groups: Tensor) -> Tensor:
        """Replace every code (N, code) by that of its group (N): the mean of latent codes, the product of factor codes.

        The product combines independent evidence: an image that leaves a factor open adds nothing to it.

        Raises:
            InputError: not one number for each code.
        """
        if not self.factors:
            return mean_by_group(codes, groups)
        evidence = mean_by_group(codes.clamp(min=MIN_PROB).log(), groups)
        member, count = _members(groups, codes.device)
        return self._softmax(evidence * count[member].to(evidence)[:, None])

    def factor_codes(self, factor_indices: Tensor) -> Tensor:
        """Return codes (N, code) of images whose factors are known, by the index of each one's value, (N, factors)."""
        parts = [F.one_hot(index, count) for index, count in zip(factor_indices.T, self.factors, strict=True)]
        return torch.cat(parts, dim=1).to(self.head.weight)

    def factor_loss(self, codes: Tensor, factor_indices: Tensor, combinations: Tensor) -> Tensor:
        """Return the function's loss for codes (N, code)."""
        return factor_loss(codes.clamp(min=MIN_PROB).log(), factor_indices, combinations, self.factors)

    def _limit(self, codes: Tensor) -> Tensor:
        if not self.code_norm_limit:
            return codes
        return codes / (1 + codes.square().sum(1, keepdim=True) / self.code_norm_limit**2).sqrt()

    def _softmax(self, codes: Tensor) -> Tensor:
        """Turn the scores of every factor's values into probabilities."""
        return torch.cat([part.softmax(dim=1) for part in codes.split(self.factors, dim=1)], dim=1)

    def cores(self, codes: Tensor) -> Cores:
        """Map codes (N, code) to Cores of N samples: Gaussian ones are drawn in training, else their means."""
        if self.log_variance is not None and self.training:
            return self.sample_cores(codes)
        with without_autocast(codes.device):
            return self.split(self.head(self._with_pairs(codes)))

    def distribution(self, codes: Tensor) -> Normal:
        """Return the distribution of the cores' offsets from the identity core, (N, total), for codes (N, code).

        Raises:
            InputError: cores have no distribution.
        """
        if self.log_variance is None:
            raise InputError("This adapter's cores have no distribution: train one with core_distribution gaussian.")
        with without_autocast(codes.device):
            inputs = self._with_pairs(codes)
            log_variance = 2 * math.log(INITIAL_STD) + self.log_variance(inputs)
            return Normal(self.head(inputs), (log_variance.clamp(*LOG_VARIANCES) / 2).exp(), validate_args=False)

    def sample_cores(self, codes: Tensor, noise: Tensor | None = None) -> Cores:
        """Draw a core of each code's distribution, with a gradient to mean and variance.

        Args:
            codes: (N, code).
            noise: standard normal numbers, (N, total), or (1, total) for all; None: of torch's own generator.

        Raises:
            InputError: as `distribution`.
        """
        normal = self.distribution(codes)
        return self.split(normal.rsample() if noise is None else normal.loc + normal.scale * noise.to(normal.loc))

    @torch.no_grad()
    def scale_offsets(self, factor: float) -> None:
        """Multiply the offsets of all cores from the identity core, and their standard deviations, with a factor."""
        self.head.weight.mul_(factor)
        if self.log_variance is not None:
            self.log_variance.bias.add_(2 * math.log(max(factor, torch.finfo(torch.float32).tiny)))

    def kl_divergence(self, codes: Tensor) -> Tensor:
        """Return the divergence KL(N(μ, σ²) ‖ N(0, PRIOR_STD²)) of the cores' offsets, summed over values: (N).

        Raises:
            InputError: as `distribution`.
        """
        normal = self.distribution(codes)
        mean, std = torch.zeros_like(normal.loc), torch.full_like(normal.loc, PRIOR_STD)
        return kl_divergence(normal, Normal(mean, std, validate_args=False)).sum(1)

    def _with_pairs(self, codes: Tensor) -> Tensor:
        """Return codes (N, code), and behind them the products of any two factors' probabilities."""
        codes = codes.to(self.head.weight)
        parts = codes.split(self.factors, dim=1) if self.factors else ()
        pairs = [(a[:, :, None] * b[:, None]).flatten(1) for a, b in itertools.combinations(parts, 2)]
        return torch.cat([codes, *pairs], dim=1)
