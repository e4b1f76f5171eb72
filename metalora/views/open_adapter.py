"""An adapter in memory, with the gallery that images are compared with."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from metalora.adapters.methods import method
from metalora.inspection.gallery import Gallery, build_gallery
from metalora.inspection.gallery_file import LoadSuite, load_gallery
from metalora.models.adapted_model import AdaptedModel
from metalora.models.bundled import DIGITS, bundled_folder
from metalora.models.loading import load
from metalora.models.saving import WEIGHTS
from metalora.runs.bundled_adapters import GALLERY, GALLERY_IMAGES, read_card, read_planes
from metalora.runs.run_config import RunConfig
from metalora.runs.run_folder import ADAPTER, open_run
from metalora.util.errors import InputError

MAX_CACHED = 64  # results of one adapter


@dataclass(frozen=True, eq=False)
class OpenAdapter:
    """A trained adapter and its gallery.

    Attributes:
        config: that it was trained with.
        model: backbone and adapter.
        gallery: of its own suite.
        planes: the gallery projected on a plane, space → (G, 2), if precomputed.
    """

    config: RunConfig
    model: AdaptedModel
    gallery: Gallery
    planes: dict[str, Tensor]
    _cache: OrderedDict[Any, Any] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def title(self) -> str:
        """Method and backbone, in words."""
        return f"{method(self.config.adapter.method).title} on {self.config.backbone}"

    def cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returned for this key, or returns now; results that were used last are kept."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        result = compute()
        with self._lock:
            self._cache[key] = result
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        return result


def open_bundled(name: str, load_suite: LoadSuite) -> OpenAdapter:
    """Open the bundled adapter BACKBONE/METHOD.

    Raises:
        InputError: it is not bundled, or damaged.
    """
    folder = bundled_folder(name)
    if not (folder / WEIGHTS).exists():
        raise InputError(f"The adapter {name} is not here: make it with `python -m metalora bundle {name}`.")
    config = RunConfig.from_dict(read_card(folder)["settings"])
    gallery = load_gallery(folder / GALLERY, load_suite)
    if config.suite.name != DIGITS:
        gallery.read_in_background()
    return OpenAdapter(config, load(folder), gallery, read_planes(folder))


def open_trained(folder: Path, load_suite: LoadSuite) -> OpenAdapter:
    """Open the adapter of the run in `folder`, and embed its gallery.

    Raises:
        InputError: there is none, or it is damaged.
    """
    config, model = open_run(folder).config, load(folder / ADAPTER)
    seed = config.training.seed
    suite = load_suite(config.suite, seed)
    gallery = build_gallery(model, suite, limit=GALLERY_IMAGES, seed=seed, embed_config=config.embed_config)
    return OpenAdapter(config, model, gallery, {})
