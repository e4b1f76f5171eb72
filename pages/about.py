"""About: what this is, what was found, where to read on, words, how to cite, versions."""

import platform
from importlib.metadata import version

import gradio as gr

from metalora.adapters.methods import METHODS
from metalora.version import __version__

from .context import Context

WHAT = """
### What this is

A low-rank adapter (LoRA) changes a frozen network a little, in the same way for every image. Meta-LoRA changes it
differently for each image: a small mapping net looks at the image and writes the middle part of every adapter, its
core. The large parts of the adapters are shared and trained once, together with the mapping net. Images that come from
one source can share a core, which makes it more reliable. The method is that of M. Wang and X. Zhao
([arXiv 2504.00460](https://arxiv.org/abs/2504.00460)); this is an independent implementation.
"""

FINDING = """
### What was found

Where tasks conflict, a core generated from eight images of a task beats the best LoRA of equal size: on tasks of
training, and with convolutions on new ones, too. A core generated from a single image beats it only where one image
shows its task, as noise and blur do. Where tasks differ in their labels alone, nothing is gained. Where a shift is
known and can be inverted, inverting it is better than any adapter. The numbers are in **Compare**, which opens on the
study behind this.
"""

NEXT = """
### Where to go

- **Look**: drop in an image and see its adapter.
- **Train**: a run of your own, on digits or on your archive of images.
- **Map**: all images of a gallery on a plane, before and after.
- In the repository: `README.md`, tutorials and how-to pages in `docs/`, the results report in `docs/results/report.md`,
  programs in `examples/`.
"""

WORDS = (
    ("adapter", "small trained tensors beside a frozen layer"),
    ("core", "the part of an adapter that is generated: a vector c (CP) or a matrix C (tensor ring, TR)"),
    ("constant core", "one learned core for all images: what generation has to beat"),
    ("mapping net", "the network that reads an image and writes its cores"),
    ("code", "the short vector inside the mapping net that cores are computed from"),
    ("task", "all images that look different in the same way, such as rotated ones"),
    ("seen, unseen", "tasks that training had, and new ones"),
    ("set", "images of one task that share a core; `@8` is a row with sets of eight"),
    ("equal budget", "as many trained parameters as Meta-LoRA has in all"),
    ("k-NN accuracy", "how often the K nearest labelled images have the right class"),
)

LIMITS = """
### Limits, data, licences

- A core can tell tasks apart only by what the pixels show.
- Adapters that were trained on digits say nothing about the class of a photograph. What can be looked at is how the
  cores of different images differ.
- Generation costs a second, frozen pass through the backbone, unless the extractor is "stem".
- The bundled backbones are small networks for 32-pixel images. They serve to measure, not to set records.

Code and bundled weights: Apache-2.0. Digits: scikit-learn's copy of the UCI set (E. Alpaydin, C. Kaynak, CC BY 4.0).
The backbones were trained on CIFAR-10 (A. Krizhevsky, 2009).
"""

PAPER = """@article{wang2025metalora,
  title   = {MetaLoRA: Tensor-Enhanced Adaptive Low-Rank Fine-tuning},
  author  = {Wang, Maolin and Zhao, Xiangyu},
  journal = {arXiv preprint arXiv:2504.00460},
  year    = {2025}
}"""
SOFTWARE = f"""@software{{metalora,
  title   = {{MetaLoRA: low-rank adapters generated for each image}},
  author  = {{{{The MetaLoRA developers}}}},
  version = {{{__version__}}},
  license = {{Apache-2.0}}
}}"""

PACKAGES = ("torch", "torchvision", "timm", "gradio", "plotly", "umap-learn", "scikit-learn")


def build(context: Context) -> None:
    """Lay out the tab; it has no events."""
    gr.Markdown(WHAT)
    gr.Markdown(FINDING)
    gr.Markdown(NEXT)
    gr.Markdown("\n".join(["### Words", "", *(f"- **{word}**: {meaning}" for word, meaning in WORDS)]))
    gr.Code(PAPER, language=None, label="BibTeX of the paper", interactive=False)
    gr.Code(SOFTWARE, language=None, label="BibTeX of the software", interactive=False)
    gr.Markdown(LIMITS)
    methods = [[entry.title, name, entry.paper] for name, entry in METHODS.items()]
    gr.Dataframe(
        methods,
        headers=["method", "name", "source"],
        label="Methods and their papers",
        interactive=False,
        show_search="search",
    )
    versions = [["metalora", __version__], ["python", platform.python_version()]]
    versions += [[name, version(name)] for name in PACKAGES]
    gr.Dataframe(versions, headers=["package", "version"], label="Versions", interactive=False)
