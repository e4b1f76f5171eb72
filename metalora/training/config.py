"""Settings of a training, and which of them decide what it ends with."""

from dataclasses import dataclass, replace
from typing import Any

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.evaluation.config import EmbedConfig
from metalora.util.checks import MAX_SEED, check_device, check_float, check_int, check_precision
from metalora.util.config import to_plain
from metalora.util.errors import InputError

MAX_STEPS, MAX_BATCH = 10**9, 10**6
VALIDATIONS = 8  # of a training whose best state is kept
# Settings that an identity names where they are not at their default only: checkpoints of before them do not have them.
UNNAMED = {
    "adapter": ("adapter_dtype", "modules_to_save", "condition", "core_distribution"),
    "training": ("fit_gate",),
}


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training.

    Attributes:
        steps: Training steps.
        batch_size: Images of a step.
        lr: Learning rate of the adapters and the head.
        mapping_lr_scale: Learning rate of the mapping net, as a multiple of lr.
        set_size: Images of one task that share a core. Of several sizes every step draws one, and of 0 among them
            that all images get the identity core; a size that is named twice is drawn twice as often.
        factor_loss_weight: Weight of factor prediction in the loss, for a factor code.
        teacher_forcing_ratio: Fraction of the sets that get the core of their true factors, for a factor code.
        identity_core_prob: Fraction of single images that get the identity core, for a latent code. With several
            sizes of sets, 0 among them says how often they do.
        identity_core_prob_sets: Fraction of sets that get the identity core, for a latent code; likewise.
        kl_weight: Weight of the divergence of an image's core from the prior in the loss, for a Gaussian core.
        max_grad_norm: Norm to which gradients are clipped.
        validate_every: Steps between validations; 0 is at the end only, or eight times if the best one is kept.
        keep_best: End with the state of the best validation instead of the last, and with that before the first step
            unless a later one is better by more than its standard error.
        fit_gate: Shrink the cores' offsets from the identity core after the last step, all by the one factor that is
            best on validation images of seen tasks.
        precision: float32 or bfloat16.
        device: auto, cuda, mps or cpu.
        compile: Compile the network with torch.compile; if that fails, train it uncompiled and say so.
        seed: Decides splits, initial values and the order of images.

    Raises:
        InputError: a value with which nothing can be trained.
    """

    steps: int = 64
    batch_size: int = 64
    lr: float = 3e-3
    mapping_lr_scale: float = 1.0
    set_size: tuple[int, ...] | int = 1
    factor_loss_weight: float = 1.0
    teacher_forcing_ratio: float = 0.5
    identity_core_prob: float = 0.15
    identity_core_prob_sets: float = 0.25
    kl_weight: float = 1e-4
    max_grad_norm: float = 1.0
    validate_every: int = 0
    keep_best: bool = False
    fit_gate: bool = False
    precision: str = "float32"
    device: str = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_int("steps", self.steps, 1, MAX_STEPS)
        check_int("batch_size", self.batch_size, 1, MAX_BATCH)
        self._check_set_sizes()
        check_int("validate_every", self.validate_every, 0)
        check_device(self.device)
        check_precision(self.precision)
        check_int("seed", self.seed, 0, MAX_SEED)
        ratio = self.teacher_forcing_ratio
        check_float("teacher_forcing_ratio", ratio, lambda value: 0 <= value <= 1, "a fraction from 0 to 1")
        for name in ("identity_core_prob", "identity_core_prob_sets"):
            check_float(name, getattr(self, name), lambda value: 0 <= value < 1, "a fraction from 0 to below 1")
        for name in ("factor_loss_weight", "kl_weight"):
            check_float(name, getattr(self, name), lambda value: value >= 0, "a weight of 0 or more")
        for name in ("mapping_lr_scale", "max_grad_norm"):
            check_float(name, getattr(self, name), lambda value: value > 0, "a number above 0")
        use = "a number between 0 and 1, such as 0.003"
        check_float("The learning rate", self.lr, lambda value: 0 < value < 1, use)

    def _check_set_sizes(self) -> None:
        sizes = tuple(self.set_size) if isinstance(self.set_size, tuple | list) else (self.set_size,)
        if not sizes:
            raise InputError("set_size is empty: name one or more sizes, such as 1 and 8.")
        for size in sizes:
            check_int("set_size", size, 0 if len(sizes) > 1 else 1, MAX_BATCH)
            if size and self.batch_size % size:
                raise InputError(f"A batch of {self.batch_size} does not divide into sets of {size}: change either.")
        if not any(sizes):
            raise InputError("set_size has 0 only, with which no core is trained: name another size too, such as 1.")
        object.__setattr__(self, "set_size", sizes if len(sizes) > 1 else sizes[0])

    @property
    def set_sizes(self) -> tuple[int, ...]:
        """Sizes of sets, of which every step draws one; in a step of 0 all images get the identity core."""
        return self.set_size if isinstance(self.set_size, tuple) else (self.set_size,)

    @property
    def validation_interval(self) -> int:
        """Steps between validations; 0 is at the end only."""
        return self.validate_every or (-(-self.steps // VALIDATIONS) if self.keep_best else 0)

    @property
    def embed_config(self) -> EmbedConfig:
        """How images are embedded by a model that was trained so.

        Of several sizes of sets it is the smallest above 0: single images, where these are among them.
        """
        return EmbedConfig(
            set_size=min(size for size in self.set_sizes if size),
            seed=self.seed,
            batch_size=2 * self.batch_size,
            device=self.device,
            precision=self.precision,
        )


def identity_of(training: TrainingConfig, adapter: AdapterConfig, *, predicts: bool) -> dict[str, Any]:
    """Return the settings that decide what a training ends with, in canonical form, as plain values.

    Where two trainings differ in other settings only (device, compilation, validation, what concerns other methods),
    one may resume from the other's checkpoint.

    Args:
        training: settings of the training.
        adapter: settings of what is trained.
        predicts: whether the suite has the factors that the adapter is to predict.
    """
    generates, sizes = adapter.generates, training.set_sizes
    has_context = method(adapter.method).context is not None
    latent = generates and not predicts
    effective = {
        "steps batch_size lr set_size max_grad_norm precision seed": True,
        "mapping_lr_scale": generates,
        "factor_loss_weight": predicts,
        "teacher_forcing_ratio": generates and predicts,
        "identity_core_prob": latent and sizes == (1,),
        "identity_core_prob_sets": latent and len(sizes) == 1 and sizes != (1,),
        "kl_weight": adapter.gaussian,
    }
    of_adapter = {
        "method rank rank_pattern alpha targets exclude branches dropout factors seed": True,
        "core": method(adapter.method).generated,
        "extractor hidden": generates or has_context,
        "head_init_std": generates,
        "code": (generates and not adapter.factors) or has_context,
        "code_norm_limit": generates and not adapter.factors,
    }
    values = _only(adapter.to_dict(), of_adapter)
    if adapter.scale(adapter.rank) == 1 and not adapter.rank_pattern:
        values["alpha"] = None
    if adapter.head_init_std == replace(adapter, head_init_std=None).initial_head_std and generates:
        values["head_init_std"] = None
    for name in UNNAMED["adapter"]:
        if getattr(adapter, name) != getattr(AdapterConfig, name):
            values[name] = adapter.to_dict()[name]
    chosen: dict[str, Any] = {"keep_best": training.validation_interval} if training.keep_best else {}
    if training.fit_gate and generates and not adapter.told:
        chosen["fit_gate"] = True
    return {"adapter": values, "training": _only(to_plain(training), effective) | chosen}


def _only(values: dict[str, Any], effective: dict[str, bool]) -> dict[str, Any]:
    return {name: values[name] for names, counts in effective.items() if counts for name in names.split()}
