"""Checks of a comparison before the first training."""

import warnings
from collections.abc import Callable
from dataclasses import replace

from torch.nn.modules.batchnorm import _BatchNorm

from metalora.adapters.config import AdapterConfig
from metalora.adapters.methods import method
from metalora.evaluation.accuracy import usable_ks
from metalora.experiments.config import ComparisonConfig, JobConfig
from metalora.experiments.equal_budget import settings_of, total_parameters
from metalora.experiments.inversion import make_reader
from metalora.models.adapt import adapt
from metalora.models.backbones import Backbone, image_size_for, load_backbone
from metalora.suites.load import load_suite
from metalora.suites.suite import Suite
from metalora.util.device import autocast, pick_device
from metalora.util.errors import InputError, LayersLeftOut

MOST = 1.2  # of a budget, up to which another one counts as equal


def check_comparison(
    config: ComparisonConfig, progress: Callable[[int, int | None], None] | None = None
) -> tuple[ComparisonConfig, Suite, list[str]]:
    """Check that every job of a comparison can run.

    Args:
        config: settings.
        progress: called while the suite is read, see `load_suite`.

    Returns:
        The settings with the Ks that the galleries can serve, the suite of the first seed, and notes that a reader of
        the table needs.

    Raises:
        InputError: the device, a backbone, a method's rank or targets, the suite or K cannot be used, or a row uses
            sets in a way that the backbone or the suite does not allow.
    """
    with autocast(pick_device(config.training.device), config.training.precision):
        pass
    # Every name first: they are cheap to check, a suite may have to be decoded.
    backbones = {name: load_backbone(name, download=config.download) for name in config.backbones}
    suite = load_suite(config.suite, progress=progress)
    ks, notes = usable_ks(suite, config.ks)
    config, notes = replace(config, ks=ks), [*notes, *suite.notes]
    for name, backbone in backbones.items():
        size = image_size_for(name, suite.image_size)
        if size is not None and size != backbone.image_size:
            backbones[name] = load_backbone(name, image_size=size)
    for job in config.jobs(0, config.training.lr):
        job = replace(job, adapter=job.adapter.with_tasks(len(suite.seen)))
        notes += _check_adapter(job, backbones[job.backbone], suite, config.rank)
        _check_set_uses(job, backbones[job.backbone], suite)
    return config, suite, notes


def _check_adapter(job: JobConfig, backbone: Backbone, suite: Suite, rank: int) -> list[str]:
    """Check that the job's adapter fits the backbone; return notes on its budget and on layers that are left out."""
    where, notes = f"{job.variants[0]} on {job.backbone}", []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # The reference is adapted first, so that its extractor is here when the equal budget is counted.
            model = adapt(backbone, job.adapter, download=job.download)
            if job.equal_budget:
                own = settings_of(job, backbone, suite)
                notes += _on_budget(where, own, total_parameters(adapt(backbone, own)), job, total_parameters(model))
        except InputError as error:  # on a rank that follows from the one that was given
            raise InputError(f"{where}, rank {rank}: {error}") from error
    left_out = [warning.message for warning in caught if issubclass(warning.category, LayersLeftOut)]
    return notes + list(dict.fromkeys(f"{where}: {message}" for message in left_out))


def _on_budget(where: str, own: AdapterConfig, count: int, job: JobConfig, goal: int) -> list[str]:
    """Say that a budget cannot be that of the reference, if it cannot; a little more is the next rank."""
    if goal <= count <= MOST * goal:
        return []
    at = "largest" if count < goal else "smallest"
    return [
        f"{where}: the budgets are not equal, {method(own.method).title} has {count:,} parameters at its {at} rank, "
        f"{method(job.adapter.method).title} {goal:,}."
    ]


def _check_set_uses(job: JobConfig, backbone: Backbone, suite: Suite) -> None:
    """Check that backbone and suite allow what the rows make of sets."""
    for variant in job.variants:
        has_norms = any(isinstance(module, _BatchNorm) for module in backbone.modules())
        if variant.set_use in ("bn-adapted", "augbn") and not has_norms:
            raise InputError(f"{variant} needs BatchNorm layers, {job.backbone} has none: leave it out.")
        if variant.set_use == "inverted":
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", LayersLeftOut)  # the reader leaves all layers as they are
                    make_reader(backbone, suite, job.adapter, download=job.download)
            except InputError as error:
                raise InputError(f"{variant} on {job.backbone}: {error}") from error
