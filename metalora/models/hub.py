"""Adapters on the Hugging Face Hub: a folder and a model card, pushed and loaded when a person asks for it."""

import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCardData, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

from metalora.adapters.methods import method
from metalora.models.adapted_model import AdaptedModel
from metalora.models.bundled_networks import BUNDLED
from metalora.models.loading import load
from metalora.models.saving import CONFIG, WEIGHTS
from metalora.util.errors import InputError
from metalora.util.files import write_text

CARD = "README.md"
BODY = """# {title} for {backbone}

{about}

```python
import metalora

model = metalora.load_from_hub("{repo}"{arguments})
output = model(images)
```

| setting | value |
|---|---|
{rows}
Parameters: {adapters:,} in the adapters{generator}. Weights are safetensors; the backbone is not among them.

Method: M. Wang, X. Zhao, [arXiv 2504.00460](https://arxiv.org/abs/2504.00460).
"""


def card_text(model: AdaptedModel, repo: str) -> str:
    """Return the text of an adapter's model card, with the Hub's metadata.

    Args:
        model: to be pushed.
        repo: USER/NAME.
    """
    entry, name = method(model.config.method), model.backbone.name
    data = ModelCardData(
        library_name="metalora",
        tags=["lora", "peft", "hypernetwork", "metalora", model.config.method, "arxiv:2504.00460"],
        base_model=None if name is None or name in BUNDLED else f"timm/{name}",
    )
    settings = {key: value for key, value in model.config.to_dict().items() if value not in (None, [], {}, "", 0)}
    total = model.budget().loc["total"]
    generator = int(total["generator_parameters"])
    body = BODY.format(
        title=entry.title,
        backbone=name or type(model.backbone.net).__name__,
        about="A mapping net generates a core for each image." if model.config.generates else "One adapter for all.",
        repo=repo,
        arguments="" if name else ", backbone=network",
        rows="".join(f"| {key} | {value} |\n" for key, value in settings.items()),
        adapters=int(total["adapter_parameters"]),
        generator=f", {generator:,} in the mapping net" if generator else "",
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body}"


def push_to_hub(model: AdaptedModel, repo: str, *, private: bool | None = None, token: str | None = None) -> str:
    """Push an adapter, with a model card, to the Hub; return the address of the commit.

    Args:
        model: with adapted layers.
        repo: USER/NAME; it is made where there is none.
        private: whether a new one is private; None is the owner's default.
        token: of the Hub; None is the one that `hf auth login` kept.

    Raises:
        InputError: the Hub refuses, or the adapter cannot be saved.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        write_text(Path(folder) / CARD, card_text(model, repo))
        try:
            api = HfApi(token=token, library_name="metalora")
            api.create_repo(repo, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Adapter of metalora"))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise InputError(f"{repo} cannot be pushed ({_said(error)}): check name, token and network.") from error


def load_from_hub(
    repo: str,
    backbone: str | nn.Module | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    extractor: nn.Module | None = None,
) -> AdaptedModel:
    """Fetch an adapter from the Hub, and load it; weights of timm that it needs are fetched too.

    Args:
        repo: USER/NAME.
        backbone: as in `load`.
        revision: branch, tag or commit.
        token: of the Hub, for private ones.
        extractor: as in `load`.

    Raises:
        InputError: it cannot be fetched, or as `load`.
    """
    wanted: dict[str, Any] = {"allow_patterns": [CONFIG, WEIGHTS], "revision": revision, "token": token}
    try:
        folder = snapshot_download(repo, library_name="metalora", **wanted)  # nosec B615 # the caller's revision
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{repo} cannot be fetched ({_said(error)}): check name, token and network.") from error
    return load(folder, backbone, extractor=extractor, download=True)


def _said(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
