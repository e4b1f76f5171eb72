"""Embeddings of images as files, and the nearest images of such a file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metalora.evaluation.gallery_search import GallerySearch, Recall
from metalora.inspection.gallery import adapter_hash
from metalora.models.adapted_model import AdaptedModel
from metalora.util.errors import InputError
from metalora.util.files import read_tensors, tensor_file, text_file, write_whole

KINDS = (".npz", ".parquet", ".tsv", ".safetensors")
COLUMNS = ["name", "label", "task", "split"]  # of the table of images


def write_embeddings(
    out: Path, table: pd.DataFrame, features: Tensor, codes: Tensor | None, model: AdaptedModel
) -> list[Path]:
    """Write embeddings with the names, labels, tasks and splits of their images; return the files.

    Args:
        out: .npz, with a .csv of the same beside it; .parquet, a row per image with its vector, as Embedding Atlas
            reads; .tsv, the vectors alone, with their metadata in a second file, as TensorBoard's projector reads;
            or .safetensors, as `read_embeddings` reads.
        table: of the images.
        features: (N, D).
        codes: (N, code); None without a mapping net. They are in all files but .tsv.
        model: that embedded them.

    Raises:
        InputError: no package writes parquet, or the disk refuses.
    """
    if out.suffix == ".safetensors":
        words = torch.frombuffer(bytearray(table.to_csv(index=False).encode()), dtype=torch.uint8)
        tensors = {"embeddings": features, "table": words} | ({} if codes is None else {"codes": codes})
        write_whole(tensor_file(out, tensors, {"model": _model_id(model)}))
        return [out]
    if out.suffix == ".tsv":
        vectors = pd.DataFrame(features.numpy()).to_csv(index=False, header=False, sep="\t")
        metadata = out.with_name(f"{out.stem}-metadata.tsv")
        write_whole(text_file(out, vectors), text_file(metadata, table.to_csv(index=False, sep="\t")))
        return [out, metadata]
    if out.suffix == ".parquet":
        return _write_parquet(out, table, features.numpy(), None if codes is None else codes.numpy())
    return _write_npz(out, table, features.numpy(), None if codes is None else codes.numpy())


def _write_parquet(out: Path, table: pd.DataFrame, features: np.ndarray, codes: np.ndarray | None) -> list[Path]:
    table = table.assign(embedding=list(features), **({} if codes is None else {"code": list(codes)}))
    try:
        write_whole((out, lambda path: table.to_parquet(path, index=False)))
    except ImportError as error:
        raise InputError("Parquet needs the package pyarrow: pip install 'metalora[formats]'.") from error
    return [out]


def _write_npz(out: Path, table: pd.DataFrame, features: np.ndarray, codes: np.ndarray | None) -> list[Path]:
    arrays: dict[str, Any] = {"embeddings": features} | ({} if codes is None else {"codes": codes})
    arrays |= {f"{name}s": table[name].to_numpy(dtype=np.str_) for name in table}

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    columns = pd.DataFrame(features, columns=[f"e{i}" for i in range(features.shape[1])])
    text = pd.concat([table, columns], axis=1).to_csv(index=False)
    write_whole((out, write), text_file(out.with_suffix(".csv"), text))
    return [out, out.with_suffix(".csv")]


def read_embeddings(path: Path, model: AdaptedModel) -> tuple[Tensor, pd.DataFrame]:
    """Read the embeddings (G, D) and the table of a .safetensors file of `write_embeddings`.

    Raises:
        InputError: there is none, it holds something else or is damaged, or another model embedded its images.
    """
    tensors, header = read_tensors(path, "embed the images again")
    refusal = InputError(f"{path} holds no embeddings: write it with embed --out {path.stem}.safetensors.")
    features, words = tensors.get("embeddings"), tensors.get("table")
    if features is None or words is None or not _are_embeddings(features, words):
        raise refusal
    try:
        text = io.StringIO(words.numpy().tobytes().decode())
        table = pd.read_csv(text, dtype=str, keep_default_na=False)
    except (ValueError, OverflowError) as error:
        raise refusal from error
    if list(table) != COLUMNS or len(table) != len(features):
        raise refusal
    if header.get("model") != _model_id(model):
        raise InputError(f"The images of {path} were embedded by another adapter: embed them with yours.")
    return features, table


def nearest_images(
    table: pd.DataFrame, features: Tensor, search: GallerySearch, searched: pd.DataFrame
) -> tuple[pd.DataFrame, Recall | None]:
    """Return the nearest gallery images of every image, and the recall of an approximate search.

    Args:
        table: of N images.
        features: their embeddings, (N, D).
        search: of the gallery.
        searched: the table of its images.

    Returns:
        N · k rows, nearest first: image (its name), rank (from 1), similarity (cosine), name, label, task and split.

    Raises:
        InputError: see `GallerySearch.nearest`.
    """
    similarity, rows, recall = search.nearest(features)
    k = search.config.k
    ranks = pd.DataFrame(
        {
            "image": table["name"].repeat(k).to_numpy(),
            "rank": np.tile(np.arange(1, k + 1), len(table)),
            "similarity": similarity.flatten().numpy(),
        }
    )
    return ranks.join(searched.iloc[rows.flatten().numpy()].reset_index(drop=True)), recall


def _are_embeddings(features: Tensor, words: Tensor) -> bool:
    return features.ndim == 2 and features.is_floating_point() and words.dtype == torch.uint8


def _model_id(model: AdaptedModel) -> str:
    """Return what differs from adapter to adapter, and from backbone to backbone."""
    return f"{model.backbone.name} {adapter_hash(model)}"
