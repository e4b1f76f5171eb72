"""Example images of the app, for adapters of digits and of photographs."""

from pathlib import Path

import sklearn.datasets

from metalora.models.bundled import DIGITS
from metalora.util.paths import ASSETS

OF_DIGITS = tuple(sorted((ASSETS / "examples").glob("*.png")))
# Three are here, see assets/photographs/README.md; two come with scikit-learn (CC BY 2.0).
OF_SKLEARN = tuple(Path(sklearn.datasets.__file__).parent / "images" / name for name in ("flower.jpg", "china.jpg"))
PHOTOGRAPHS = (*sorted((ASSETS / "photographs").glob("*.jpg")), *OF_SKLEARN)


def example_files(suite: str) -> tuple[Path, ...]:
    """Return files of example images for an adapter that was trained on a suite: digits, or else photographs."""
    return OF_DIGITS if suite == DIGITS else PHOTOGRAPHS
