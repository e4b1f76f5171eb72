"""About: the method in five sentences, its limits, data and licences, versions, how to cite."""

import platform
from importlib.metadata import version

import gradio as gr

from metalora.adapters.methods import METHODS
from metalora.version import __version__

from .context import Context

METHOD = r"""
### The method

A frozen layer has weight $W$; an update $\Delta W$ of low rank is added to it. **LoRA** learns one update for all
images, $\Delta W = \sum_r A_{:r} B_{r:}$ (a convolution gets a small convolution $A$, then a 1×1 convolution $B$).
**Meta-LoRA** puts a *core* between the two factors and lets a small mapping net write it for each image from frozen
features: a vector $c_n$ in **CP** format, $\Delta W_n = \sum_r A_{:r} B_{r:}\, c_n[r]$, or a matrix $C_n$ that
closes a **tensor ring**, $\Delta W_n = \sum_{r_0 r_1 r_2} A_{r_0 : r_1} B_{r_1 : r_2}\, C_n[r_2, r_0]$. Factors and
mapping net are trained together; the backbone and the extractor of features stay frozen. At the start $B = 0$ and
the core is the identity (ones in CP), so an untrained adapter changes nothing and a constant core is a LoRA.

The format and the idea are from M. Wang and X. Zhao, *MetaLoRA: Tensor-Enhanced Adaptive Low-Rank Fine-tuning*,
[arXiv 2504.00460](https://arxiv.org/abs/2504.00460). No code was published with it; this is an independent
implementation.
"""

LIMITS = """
### Limits

- A core can tell tasks apart only by what the pixels show. Where tasks differ in the rule of labels alone, it
  cannot help.
- One small image says little about its task. A set of images that are known to belong together says more; a row
  that uses such knowledge says so (`@8`, `@all`).
- With the extractor "self", generation costs a second, frozen pass through the backbone.
- The bundled backbones are small networks for 32-pixel images. They are for measuring, not for setting records.
- Bundled adapters were trained on scikit-learn's digits: on photographs their predicted classes are digits, which
  says nothing about the photograph. What is worth a look there is how the cores of different images differ.

### Data and licences

Code and bundled weights: Apache-2.0. Digits: scikit-learn's copy of the UCI set (E. Alpaydin, C. Kaynak, CC BY
4.0). The backbones were trained on CIFAR-10 (A. Krizhevsky, 2009). Example images are rendered from these digits.
"""

BIBTEX = """@article{wang2025metalora,
  title   = {MetaLoRA: Tensor-Enhanced Adaptive Low-Rank Fine-tuning},
  author  = {Wang, Maolin and Zhao, Xiangyu},
  journal = {arXiv preprint arXiv:2504.00460},
  year    = {2025}
}"""

PACKAGES = ("torch", "torchvision", "timm", "gradio", "plotly", "umap-learn", "scikit-learn")


def build(context: Context) -> None:
    """Lay out the tab; it has no events."""
    gr.Markdown(METHOD, latex_delimiters=[{"left": "$", "right": "$", "display": False}])
    methods = [[entry.title, name, entry.paper] for name, entry in METHODS.items()]
    gr.Dataframe(methods, headers=["method", "name", "source"], label="Methods and their papers", interactive=False)
    gr.Markdown(LIMITS)
    gr.Code(BIBTEX, language=None, label="BibTeX", interactive=False)
    versions = [["metalora", __version__], ["python", platform.python_version()]]
    versions += [[name, version(name)] for name in PACKAGES]
    gr.Dataframe(versions, headers=["package", "version"], label="Versions", interactive=False)
