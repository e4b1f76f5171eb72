"""`embed`: embeddings of images as files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.inputs import Images, Pool, checked_file, load_adapter, load_original, read_images
from metalora.cli.messages import write_json
from metalora.cli.options import EMBEDDING, SUITE, Json, verb
from metalora.util.distributed import current_processes

OUT = "File to write: .npz (a .csv is written beside it), .parquet, or .tsv (with a second one of metadata)."
KINDS = (".npz", ".parquet", ".tsv")
OPTIONS = EMBEDDING.only("set_size", "batch_size", "device", "precision")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "embed", embed, SUITE, OPTIONS, several=True)


def embed(
    *,
    images: Images = None,
    out: Annotated[Path, typer.Option(help=OUT)],
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
    out = checked_file(out, *KINDS)
    embed_config = OPTIONS.read(given, **({"set_size": None} if pool else {}))
    processes = current_processes()
    with processes.together(in_turn=True):
        model = load_adapter(adapter, given) if adapter is not None else load_original(str(backbone), given)
        user_images = read_images(model, images, given)
    features = embed_images(model, user_images, embed_config)
    codes = code_images(model, user_images, embed_config)
    if not processes.is_first:
        return
    files = write_embeddings(out, user_images.table, features.numpy(), None if codes is None else codes.numpy())
    written = [str(file) for file in files]
    skipped = [list(pair) for pair in user_images.skipped]
    shape = {"count": len(user_images), "dimensions": features.shape[1]}
    write_json(json, {**shape, "files": written, "skipped": skipped})
    typer.echo(f"{len(user_images)} embeddings of {features.shape[1]} dimensions are in {' and '.join(written)}.")


def write_embeddings(out: Path, known: Any, features: Any, codes: Any | None) -> list[Path]:
    """Write embeddings with the names, labels, tasks and splits of their images; return the files.

    Args:
        out: .npz, with a .csv of the same beside it; .parquet, a row per image with its vector, as Embedding Atlas
            reads; or .tsv, the vectors alone, with their metadata in a second file, as TensorBoard's projector reads.
        known: the table of the images.
        features: (N, D).
        codes: (N, code); None without a mapping net. They are in .npz and .parquet.

    Raises:
        InputError: no package writes parquet, or the disk refuses.
    """
    import numpy as np
    import pandas as pd

    from metalora.util.errors import InputError
    from metalora.util.files import text_file, write_whole

    if out.suffix == ".tsv":
        vectors = pd.DataFrame(features).to_csv(index=False, header=False, sep="\t")
        metadata = out.with_name(f"{out.stem}-metadata.tsv")
        write_whole(text_file(out, vectors), text_file(metadata, known.to_csv(index=False, sep="\t")))
        return [out, metadata]
    if out.suffix == ".parquet":
        table = known.assign(embedding=list(features), **({} if codes is None else {"code": list(codes)}))
        try:
            write_whole((out, lambda path: table.to_parquet(path, index=False)))
        except ImportError as error:
            raise InputError("Parquet needs the package pyarrow: pip install 'metalora[formats]'.") from error
        return [out]
    arrays = {"embeddings": features} | ({} if codes is None else {"codes": codes})
    arrays |= {f"{name}s": known[name].to_numpy(dtype=np.str_) for name in known}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    columns = pd.DataFrame(features, columns=[f"e{i}" for i in range(features.shape[1])])
    text = pd.concat([known, columns], axis=1).to_csv(index=False)
    write_whole((out, write), text_file(out.with_suffix(".csv"), text))
    return [out, out.with_suffix(".csv")]
