"""`embed`: embeddings of images as files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.inputs import Images, Pool, checked_file, load_adapter, load_original, read_images
from metalora.cli.messages import write_json
from metalora.cli.options import EMBEDDING, SUITE, Json, verb

OPTIONS = EMBEDDING.only("set_size", "batch_size", "device", "precision")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "embed", embed, SUITE, OPTIONS)


def embed(
    *,
    images: Images = None,
    out: Annotated[Path, typer.Option(help="File to write, .npz; a .csv is written beside it.")],
    adapter: Annotated[Path | None, typer.Option(help="Saved adapter: RUN/adapter, or a bundled one.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Or a backbone as it is: bundled, or a timm name.")] = None,
    pool: Pool = False,
    json: Json = None,
    **given: Any,
) -> None:
    """Write embeddings of images, or of a suite's images (all but the training images)."""
    from metalora.inspection.user_images import code_images, embed_images
    from metalora.util.errors import InputError

    if (adapter is None) == (backbone is None):
        raise InputError("Name an adapter or a backbone: use --adapter FOLDER, or --backbone NAME.")
    if bool(images) == ("suite" in given):
        raise InputError("Name images or a suite: files or a folder, or --suite NAME.")
    if given.get("set_size", 1) < 1:
        raise InputError(f"--set-size is {given['set_size']}: use 1 or more.")
    out = checked_file(out, ".npz")
    embed_config = OPTIONS.read(given, **({"set_size": None} if pool else {}))
    model = load_adapter(adapter, given) if adapter is not None else load_original(str(backbone), given)
    user_images = read_images(model, images, given)
    features = embed_images(model, user_images, embed_config)
    codes = code_images(model, user_images, embed_config)
    write_embeddings(out, user_images.table, features.numpy(), None if codes is None else codes.numpy())
    written = [str(out), str(out.with_suffix(".csv"))]
    skipped = [list(pair) for pair in user_images.skipped]
    shape = {"count": len(user_images), "dimensions": features.shape[1]}
    write_json(json, {**shape, "files": written, "skipped": skipped})
    typer.echo(f"{len(user_images)} embeddings of {features.shape[1]} dimensions are in {' and '.join(written)}.")


def write_embeddings(out: Path, known: Any, features: Any, codes: Any | None) -> None:
    """Write `out` (.npz: embeddings, names, labels, tasks, splits, codes) and a CSV of the same beside it."""
    import numpy as np
    import pandas as pd

    from metalora.util.files import text_file, write_whole

    arrays = {"embeddings": features} | ({} if codes is None else {"codes": codes})
    arrays |= {f"{name}s": known[name].to_numpy(dtype=np.str_) for name in known}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    columns = pd.DataFrame(features, columns=[f"e{i}" for i in range(features.shape[1])])
    table = pd.concat([known, columns], axis=1).to_csv(index=False)
    write_whole((out, write), text_file(out.with_suffix(".csv"), table))
