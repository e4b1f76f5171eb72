"""Settings of benchmarks."""

from dataclasses import dataclass

from metalora.util.checks import check_int

MAX_BATCH, MAX_ROUNDS, MAX_THREADS = 100_000, 10_000, 1_024


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how often.

    Attributes:
        models: Bundled backbone or timm name, with random weights.
        batches: Images of one pass.
        rounds: Times that everything is measured, models interleaved.
        device: auto, cuda, mps or cpu.
        precision: float32 or bfloat16.
        threads: Threads of the processor. Left out: as many as torch takes.
        compile: Compile all networks, with CUDA graphs on a GPU; one that cannot be compiled runs uncompiled.
        channels_last: Plain and PEFT's networks in this memory format too; the others of convolutions always have it.
        variants: Networks to measure beside plain and peft-lora, which ratios are of; left out: all.
        seed: Seed of weights and images.
    """

    models: tuple[str, ...] = (
        "resnet20",
        "resnet18",
        "mixer_b16_224",
        "vit_small_patch16_224",
        "efficientnet_lite0",
        "mobilenetv3_small_100",
        "convnext_atto",
        "regnety_004",
    )
    batches: tuple[int, ...] = (1, 8, 32, 128)
    rounds: int = 7
    device: str = "auto"
    precision: str = "float32"
    threads: int | None = None
    compile: bool = False
    channels_last: bool = False
    variants: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class ExportBenchConfig:
    """Which adapters are exported, and how often their files are run.

    Attributes:
        adapters: Adapter to export: a bundled name, or a folder.
        batches: Images of one pass.
        rounds: Times that everything is measured, forms interleaved.
        threads: Threads of the processor. Left out: as many as torch takes.
        seed: Seed of the images.
    """

    adapters: tuple[str, ...] = (
        "resnet20/metalora-tr",
        "resnet20/metalora-cp",
        "mixer_nano/metalora-tr",
        "mixer_nano/metalora-cp",
    )
    batches: tuple[int, ...] = (1, 32)
    rounds: int = 15
    threads: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)


def _check(config: BenchConfig | ExportBenchConfig) -> None:
    for batch in config.batches:
        check_int("batch_size", batch, 1, MAX_BATCH)
    check_int("rounds", config.rounds, 1, MAX_ROUNDS)
    if config.threads is not None:
        check_int("threads", config.threads, 1, MAX_THREADS)


QUICK = BenchConfig(models=("resnet18",), batches=(32,), rounds=4)
