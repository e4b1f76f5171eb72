"""The registry of methods: one entry each, with all that others must know of a method without importing torch.

A new method is a format (see `formats.py`) and an entry: here, by `register`, or in another package that declares it
in its pyproject.toml:

    [project.entry-points."metalora.methods"]
    my-method = "my_package.my_method:METHOD"
"""

from collections.abc import Callable
from dataclasses import dataclass

from metalora.util.errors import InputError, choices
from metalora.util.registry import Registry


def square(reference_rank: int) -> int:
    """Return R², the rank at which A and B have as many entries as those of Meta-LoRA TR of rank R."""
    return reference_rank**2


def twice(reference_rank: int) -> int:
    """Return 2R, the rank of formats whose core has R² numbers of rank R as TR's, but whose A and B are narrower."""
    return 2 * reference_rank


def branch(reference_rank: int) -> int:
    """Return R² / 3, the rank of each of three branches or experts, at least 1."""
    return max(1, reference_rank**2 // 3)


VISION_TRANSFORMER = "a vision transformer of timm, whose blocks attend to all tokens"


@dataclass(frozen=True)
class Method:
    """A way to adapt a backbone.

    Attributes:
        title: Name in tables and in the app.
        format: Subclass of `Format`, or where it is, "module:Class"; None leaves the backbone as it is.
        paper: Where it was proposed.
        colour: "#rrggbb" of its curves and bars, for light and dark pages alike.
        generated: Whether the format has a core, which can be generated for each image.
        told: Whether cores are generated from the image's task, which is told, and not from the image.
        context: Subclass of `Context` that embeds images given their set, one adapter for all, or where it is; None:
            each image by itself.
        rank_for: R of Meta-LoRA TR → this method's rank beside it in a comparison.
        diagram: How its tensor network is drawn: "chain", "branches", "copy" or "ring"; None is not drawn.
        bench_rank: Rank in the benchmark.
        needs: What a backbone must be, after "needs"; "" where any will do.
    """

    title: str
    format: str | type | None
    paper: str
    colour: str = "#8A8A8A"
    generated: bool = False
    told: bool = False
    context: str | type | None = None
    rank_for: Callable[[int], int] = square
    diagram: str | None = None
    bench_rank: int = 8
    needs: str = ""

    @property
    def reads_sets(self) -> bool:
        """Whether it makes something of images that are known to come from one task."""
        return self.generated or self.context is not None


# The rows of the paper's Table I.
PAPER = {
    "original": Method("Original", None, "the backbone as it was trained"),
    "lora": Method(
        "LoRA",
        "metalora.adapters.lora:LoRA",
        "Hu et al. 2106.09685; convolutions as in arXiv 2504.00460, Eq. 5",
        "#0072B2",
        diagram="chain",
    ),
    "multi-lora": Method(
        "Multi-LoRA",
        "metalora.adapters.multi_lora:MultiLoRA",
        "Wang et al. 2311.11501",
        "#56B4E9",
        rank_for=branch,
        diagram="branches",
    ),
    "metalora-cp": Method(
        "Meta-LoRA CP",
        "metalora.adapters.cp:CP",
        "arXiv 2504.00460, Eq. 6",
        "#E69F00",
        generated=True,
        diagram="copy",
    ),
    "metalora-tr": Method(
        "Meta-LoRA TR",
        "metalora.adapters.tr:TR",
        "arXiv 2504.00460, Eq. 7",
        "#D55E00",
        generated=True,
        rank_for=lambda reference_rank: reference_rank,
        diagram="ring",
        bench_rank=3,
    ),
}

# What else the field compares with, and other formats of generated cores.
FIELD = {
    "full": Method(
        "Full fine-tuning",
        "metalora.adapters.full:Full",
        "the weights of the adapted layers, all of them",
        "#CC79A7",
    ),
    "linear-probe": Method(
        "Linear probe",
        "metalora.adapters.linear_probe:LinearProbe",
        "Alain and Bengio 1610.01644: a linear map of the embedding",
    ),
    "film": Method(
        "Generated FiLM",
        "metalora.adapters.film:FiLM",
        "Perez et al. 1709.07871, from the same codes",
        "#009E73",
        generated=True,
    ),
    "metalora-tucker": Method(
        "Meta-LoRA Tucker",
        "metalora.adapters.tucker:Tucker",
        "a generated matrix between LoRA's factors, as Bałazy et al. 2405.17604 learn one",
        generated=True,
        rank_for=twice,
    ),
    "metalora-tt": Method(
        "Meta-LoRA TT",
        "metalora.adapters.tensor_train:TensorTrain",
        "a tensor train (Novikov et al. 1509.06569) with a generated core",
        generated=True,
        rank_for=twice,
    ),
    "lora-mixture": Method(
        "Mixture of LoRAs",
        "metalora.adapters.mixture:Mixture",
        "experts as in Shazeer et al. 1701.06538, routed by the same codes",
        generated=True,
        rank_for=branch,
    ),
    "molora": Method(
        "MoLoRA",
        "metalora.adapters.molora:MoLoRA",
        "Zadouri et al. 2309.05444, routed by each layer's mean input",
        rank_for=branch,
    ),
    "condconv": Method(
        "CondConv",
        "metalora.adapters.condconv:CondConv",
        "Yang et al. 1904.04971, as the update of frozen layers",
    ),
    "moelora": Method(
        "MOELoRA",
        "metalora.adapters.mixture:Mixture",
        "Liu et al. 2310.18339; the task is told",
        generated=True,
        told=True,
        rank_for=branch,
    ),
    "mtlora": Method(
        "MTLoRA",
        "metalora.adapters.mixture:MTLoRA",
        "Agiza et al. 2403.20320; the task is told",
        generated=True,
        told=True,
        rank_for=branch,
    ),
    "lora-per-task": Method(
        "One LoRA per task",
        "metalora.adapters.mixture:TaskLoRA",
        "Hu et al. 2106.09685, for each task; the task is told",
        generated=True,
        told=True,
        rank_for=branch,
    ),
    "fact-tt": Method(
        "FacT, tensor train",
        "metalora.adapters.fact:FacTTrain",
        "Jie and Deng 2212.03145",
    ),
    "fact-tucker": Method(
        "FacT, Tucker",
        "metalora.adapters.fact:FacTTucker",
        "Jie and Deng 2212.03145",
    ),
    "bottleneck": Method(
        "Bottleneck adapter",
        "metalora.adapters.bottleneck:Bottleneck",
        "Houlsby et al. 1902.00751, beside the layer as in He et al. 2110.04366",
    ),
    "vpt-deep": Method(
        "VPT-deep",
        "metalora.adapters.prompts:Prompts",
        "Jia et al. 2203.12119: prompt tokens of every block",
        needs=VISION_TRANSFORMER,
    ),
    "llama-adapter": Method(
        "LLaMA-Adapter",
        "metalora.adapters.prefix:Prefix",
        "Zhang et al. 2303.16199: a gated prefix of keys and values",
        needs=VISION_TRANSFORMER,
    ),
}

# Adapting to unlabelled images without generated cores: one LoRA for all, and what it is told of a set or an image.
RIVALS = {
    "arm-bn": Method(
        "ARM-BN",
        "metalora.adapters.lora:LoRA",
        "Zhang et al. 2007.02931: LoRA under the BatchNorm statistics of each set",
        context="metalora.models.arm_bn:ARMBN",
        needs="BatchNorm layers, as ResNets have",
    ),
    "arm-cml": Method(
        "ARM-CML",
        "metalora.adapters.lora:LoRA",
        "Zhang et al. 2007.02931: LoRA, and a context map of the set added to the image",
        context="metalora.models.arm_cml:ARMCML",
    ),
    "icrm": Method(
        "ICRM",
        "metalora.adapters.lora:LoRA",
        "Gupta et al. 2309.09888: a causal transformer over LoRA's embeddings of a set",
        context="metalora.models.icrm:ICRM",
    ),
    "late-fusion": Method(
        "Late fusion",
        "metalora.adapters.lora:LoRA",
        "LoRA's embedding beside a reading of the extractor's features, a control",
        context="metalora.models.late_fusion:LateFusion",
    ),
}

METHODS: Registry[Method] = Registry("metalora.methods", Method, PAPER | FIELD | RIVALS)

register = METHODS.register


def method(name: str) -> Method:
    """Return the entry called `name`.

    Raises:
        InputError: there is none; the message lists the names.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"Unknown method {name!r}: use {choices(str(name), METHODS)}.")
    return METHODS[name]
