"""`embed`: embeddings of images as files, and their nearest images in a gallery."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.inputs import Images, Pool, checked_file, load_adapter, load_original, read_images
from metalora.cli.messages import write_json
from metalora.cli.options import EMBEDDING, SEARCH, SUITE, Json, verb
from metalora.util.distributed import current_processes

OUT = (
    "File to write: .npz (a .csv is written beside it), .parquet, .tsv (with a second one of metadata), or "
    ".safetensors, which --gallery takes."
)
GALLERY = (
    "Also write the nearest images of this gallery, to a .csv beside the file: a .safetensors file that embed wrote "
    "with the same adapter or backbone."
)
OPTIONS = EMBEDDING.only("set_size", "batch_size", "device", "precision")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "embed", embed, SUITE, OPTIONS, SEARCH, several=True)


def embed(
    *,
    images: Images = None,
    out: Annotated[Path, typer.Option(help=OUT)],
    adapter: Annotated[Path | None, typer.Option(help="Saved adapter: RUN/adapter, or a bundled one.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Or a backbone as it is: bundled, or a timm name.")] = None,
    pool: Pool = False,
    gallery: Annotated[Path | None, typer.Option(help=GALLERY)] = None,
    json: Json = None,
    **given: Any,
) -> None:
    """Write embeddings of images, or of a suite's images (all but the training images)."""
    from metalora.inspection.embedding_files import KINDS, write_embeddings
    from metalora.inspection.user_images import code_images, embed_images
    from metalora.util.errors import InputError

    if (adapter is None) == (backbone is None):
        raise InputError("Name an adapter or a backbone: use --adapter FOLDER, or --backbone NAME.")
    if bool(images) == ("suite" in given):
        raise InputError("Name images or a suite: files or a folder, or --suite NAME.")
    if given.get("set_size", 1) < 1:
        raise InputError(f"--set-size is {given['set_size']}: use 1 or more.")
    unused = [name for name in SEARCH.by_option if name in given and gallery is None]
    if unused:
        raise InputError(f"--{unused[0]} is for searching a gallery: add --gallery FILE, or leave it out.")
    out = checked_file(out, *KINDS)
    embed_config = OPTIONS.read(given, **({"set_size": None} if pool else {}))
    processes = current_processes()
    with processes.together(in_turn=True):
        model = load_adapter(adapter, given) if adapter is not None else load_original(str(backbone), given)
        searched = _read_gallery(gallery, model, SEARCH.read(given)) if gallery and processes.is_first else None
        user_images = read_images(model, images, given)
    features = embed_images(model, user_images, embed_config)
    codes = code_images(model, user_images, embed_config)
    if not processes.is_first:
        return
    result: dict[str, Any] = {"count": len(user_images), "dimensions": features.shape[1]}
    files = write_embeddings(out, user_images.table, features, codes, model)
    said = [f"{len(user_images)} embeddings of {features.shape[1]} dimensions are in {' and '.join(map(str, files))}."]
    if searched is not None:
        file, search = _write_nearest(out, user_images.table, features, *searched)
        files.append(file)
        result["search"] = search
        said.append(f"The {search['k']} nearest images of each are in {file}, by {search['words']}.")
    skipped = [list(pair) for pair in user_images.skipped]
    write_json(json, {**result, "files": list(map(str, files)), "skipped": skipped})
    typer.echo("\n".join(said))


def _read_gallery(file: Path, model: Any, config: Any) -> tuple[Any, Any]:
    """Return the search of a gallery, made before the work whose result it is for, and the table of its images."""
    from metalora.evaluation.gallery_search import GallerySearch
    from metalora.inspection.embedding_files import read_embeddings

    features, table = read_embeddings(checked_file(file, ".safetensors", option="--gallery"), model)
    return GallerySearch(features, config), table


def _write_nearest(out: Path, table: Any, features: Any, search: Any, searched: Any) -> tuple[Path, dict[str, Any]]:
    """Write the nearest gallery images of images; return the file, and how they were found."""
    from dataclasses import asdict

    from metalora.inspection.embedding_files import nearest_images
    from metalora.util.files import write_text

    nearest, recall = nearest_images(table, features, search, searched)
    file = out.with_name(f"{out.stem}-nearest.csv")
    write_text(file, nearest.to_csv(index=False))
    if recall is None:
        return file, {"index": "exact", "k": search.config.k, "words": "exact search"}
    return file, {**asdict(recall), "words": str(recall)}
