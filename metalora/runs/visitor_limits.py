"""What an app accepts from its visitors, to protect the server's files, time and memory."""

from dataclasses import dataclass, fields

from metalora.adapters.patterns import check_plain
from metalora.models.backbones import has_weights
from metalora.models.bundled_networks import BUNDLED
from metalora.runs.app_process import on_own_machine
from metalora.runs.run_config import RunConfig
from metalora.suites.cifar10 import find_cifar10
from metalora.suites.config import SuiteConfig
from metalora.suites.registry import check_name
from metalora.util.checks import check_int, whole_from_environment
from metalora.util.errors import InputError

LIMITS = {
    "adapter": {"rank": 10_000, "hidden": 4_096, "code": 4_096, "branches": 64},
    "training": {"steps": 1_000_000, "batch_size": 4_096, "set_size": 4_096, "validate_every": 1_000_000},
    "suite": {"image_size": 512, "max_queries": 1_000_000, "max_train_images": 1_000_000},
}
PUBLIC = {"rank": 256, "hidden": 1_024, "code": 1_024, "branches": 16, "steps": 100_000, "batch_size": 512}
VARIABLE = "METALORA_MAX_"  # begins the name of an environment variable, such as METALORA_MAX_STEPS


@dataclass(frozen=True)
class ServerLimits:
    """What visitors of an app may use together; 0 is no limit.

    Attributes:
        minutes: by the clock, of a run or comparison from one start to its end or the next resume.
        per_visitor: runs of one visitor that wait or are being trained.
        per_address: the same of all visitors of one network address.
        waiting: runs that wait, of all.
        disk_gb: of the workspace; one address may use a quarter of it.
        temporary_gb: of files that are being sent or shown.
        sessions: pages whose state is kept in memory, three quarters of a megabyte each; those used last.
    """

    minutes: int = 0
    per_visitor: int = 4
    per_address: int = 0
    waiting: int = 16
    disk_gb: int = 0
    temporary_gb: int = 0
    sessions: int = 256


SHARED = ServerLimits(minutes=60, per_address=4, waiting=32, disk_gb=10, temporary_gb=2)


def server_limits() -> ServerLimits:
    """Return the limits of this app: METALORA_MAX_MINUTES and so on, else `SHARED` but on a person's own machine.

    Raises:
        InputError: a variable is no whole number.
    """
    defaults = ServerLimits() if on_own_machine() else SHARED
    return ServerLimits(
        **{
            field.name: whole_from_environment(VARIABLE + field.name.upper(), getattr(defaults, field.name))
            for field in fields(ServerLimits)
        }
    )


def maximum_of(name: str, largest: int) -> int:
    """Return the maximum of a setting: its variable, such as METALORA_MAX_STEPS, else what holds where the app is."""
    default = largest if on_own_machine() else PUBLIC.get(name, largest)
    return whole_from_environment(VARIABLE + name.upper(), default)


def check_limits(config: RunConfig) -> None:
    """Check that a visitor's settings are within `LIMITS`; None is allowed.

    Raises:
        InputError: one is not, a regular expression may take too long, or weights are a file.
    """
    adapter = config.adapter
    for name in (config.backbone, adapter.extractor):
        if "@" in name:
            raise InputError(f"{name!r} is not taken here, since weights of your own would be a file of the server.")
    for pattern in (*(adapter.targets or ()), *adapter.exclude, *adapter.modules_to_save, *adapter.rank_pattern):
        check_plain(pattern)
    for part, limits in LIMITS.items():
        for name, largest in limits.items():
            value = getattr(getattr(config, part), name)
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None:
                    check_int(name, one, 0, maximum_of(name, largest))


def check_names(config: RunConfig) -> None:
    """Check that a visitor's backbone, extractor and suite are here, before their run waits for its turn.

    Raises:
        InputError: one is not known, or its weights or images are not on this machine.
    """
    backbones = {config.backbone, config.adapter.extractor if config.adapter.reads_sets else "self"}
    for name in sorted(backbones - {"self", "stem"}):
        if not has_weights(name):
            raise InputError(
                f"The weights of {name} are not on this machine, so it cannot be trained here: use "
                f"{' or '.join(BUNDLED)}."
            )
    if ":" not in config.suite.name:  # the workspace looks for uploads
        check_name(config.suite.name)
        problem = missing_data(config.suite)
        if problem:
            raise InputError(problem)


def missing_data(suite: SuiteConfig) -> str:
    """Say what to do about a bundled suite whose images are not on this machine; "" where they are here."""
    if not suite.name.startswith("cifar10") or suite.download or find_cifar10(suite.source) is not None:
        return ""
    return "CIFAR-10 is not on this machine: choose digits or your own images, or put cifar10.zip into data/."
