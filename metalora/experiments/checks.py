"""Everything that can be wrong with a comparison, found before the first training."""

import warnings
from collections.abc import Callable

from torch.nn.modules.batchnorm import _BatchNorm

from metalora.adapters.methods import method
from metalora.evaluation.accuracy import check_galleries
from metalora.experiments.config import ComparisonConfig
from metalora.experiments.inversion import make_reader
from metalora.experiments.job import JobConfig, equal_budget, total_parameters
from metalora.experiments.variants import parse_variant
from metalora.models.adapt import adapt
from metalora.models.backbones import Backbone, image_size_for, load_backbone
from metalora.suites.suite import Suite
from metalora.util.device import autocast, pick_device
from metalora.util.errors import InputError, LayersLeftOut


def check_comparison(
    config: ComparisonConfig, progress: Callable[[int, int | None], None] | None = None
) -> tuple[Suite, list[str]]:
    """The suite of the first seed, and sentences on what a reader of the table should know.

    Args:
        progress: called while the suite is read, see `load_suite`.

    Raises:
        InputError: the device, a backbone, a method's rank or targets, the suite or K does not serve, or a row makes a
            use of sets that the backbone or the suite does not have.
    """
    with autocast(pick_device(config.training.device), config.training.precision):
        pass
    backbones = {name: load_backbone(name, download=config.download) for name in config.backbones}
    suite = config.suite.load(0, progress)
    notes = [*check_galleries(suite, config.ks), *suite.notes]
    for job in config.jobs(0, config.training.lr):
        backbone = backbones[job.backbone]
        size = image_size_for(job.backbone, suite.image_size)
        if size is not None and size != backbone.image_size:
            backbone = backbones[job.backbone] = load_backbone(job.backbone, image_size=size)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                # The reference is adapted first, so that its extractor is here when the equal budget is counted.
                model = adapt(backbone, job.adapter, download=config.download)
                if job.equal_budget:
                    goal = total_parameters(model)
                    model = adapt(backbone, equal_budget(backbone, job.adapter))
            except InputError as error:  # whose rank follows from the one that was given
                where = f"{job.variants[0]} on {job.backbone}, rank {config.rank}"
                raise InputError(f"{where}: {error}") from error
        _check_uses(job, backbone, suite)
        if job.equal_budget and (largest := total_parameters(model)) < goal:
            notes.append(
                f"{job.variants[0]} on {job.backbone}: the budgets are not equal, LoRA has {largest:,} parameters at its "
                f"largest rank, {method(job.adapter.method).title} {goal:,}."
            )
        left_out = [warning.message for warning in told if issubclass(warning.category, LayersLeftOut)]
        notes += [f"{job.variants[0]} on {job.backbone}: {words}" for words in left_out]
    return suite, notes


def _check_uses(job: JobConfig, backbone: Backbone, suite: Suite) -> None:
    """See that backbone and suite have what the rows make of sets."""
    for row in map(parse_variant, job.variants):
        if row.set_use == "bn-adapted" and not any(isinstance(module, _BatchNorm) for module in backbone.modules()):
            raise InputError(f"{row.name} needs BatchNorm layers, {job.backbone} has none: leave it out.")
        if row.set_use == "inverted":
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", LayersLeftOut)  # the reader leaves all layers as they are
                    make_reader(backbone, suite, job.adapter, download=job.download)
            except InputError as error:
                raise InputError(f"{row.name} on {job.backbone}: {error}") from error
