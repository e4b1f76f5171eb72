"""Models of Hugging Face's transformers by name, hf:NAME: from the cache of this machine, unless one says download.

They are modules like any other: ids, masks or pixels come as their own tokenizer or processor gives them.
"""

import importlib.util
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from metalora.util.errors import InputError

PREFIX = "hf:"


def load_auto_model(name: str, *, download: bool = False) -> nn.Module:
    """Load a model by `transformers.AutoModel`, without the head of a task, in evaluation mode.

    Weights that the checkpoint lacks, such as a pooler's, are random but the same each time; transformers names them.

    Args:
        name: hf:USER/NAME, as on the Hub, or hf:FOLDER.
        download: fetch what is not in the cache of this machine.

    Raises:
        InputError: transformers is not installed, the model is not on this machine as safetensors, or cannot be loaded.
    """
    if importlib.util.find_spec("transformers") is None:
        raise InputError(f"{name} needs transformers: pip install transformers.")
    from transformers import AutoModel
    from transformers.utils import find_adapter_config_file

    source = name.removeprefix(PREFIX)
    local = not download or Path(source).is_dir()
    try:
        if find_adapter_config_file(source, local_files_only=local) is not None:  # whose weights may be a pickle
            raise InputError(f"{name} is an adapter of PEFT: load it by metalora.load, with its backbone.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModel.from_pretrained(  # nosec B615 # weights without code
                source,
                local_files_only=local,
                use_safetensors=True,  # never a pickle
                trust_remote_code=False,
                adapter_kwargs={"local_files_only": local},
            )
    except InputError:
        raise
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        if local and isinstance(error, OSError) and not Path(source).is_dir():
            raise InputError(
                f"{name} is not on this machine as safetensors: check the name, or fetch it with download=True."
            ) from error
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{name} cannot be loaded ({reason}): name a model with safetensors, or its folder."
        ) from error
    return model.eval()
