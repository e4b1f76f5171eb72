"""`inspect`, `fold` and `export`: the adapters that images get, to look at, to keep and to run elsewhere."""

from pathlib import Path
from typing import Annotated, Any

import typer

from metalora.cli.inputs import READING, Adapter, Images, Pool, checked_file, load_adapter, read_images
from metalora.cli.messages import fits, print_table, write_json
from metalora.cli.options import EMBEDDING, Json, verb


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "inspect", inspect, READING, EMBEDDING.only("device"))
    verb(app, "fold", fold, READING, EMBEDDING.only("device"))
    verb(app, "export", export, READING)


def inspect(
    *,
    images: Images = None,
    adapter: Adapter,
    pool: Pool = False,
    out: Annotated[Path | None, typer.Option(help="Also write cores, strengths and similarities to this .npz.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw the fingerprints: .html, .png, .svg or .pdf.")] = None,
    json: Json = None,
    **given: Any,
) -> None:
    """Print the strength of every image's updates, and how alike the images' cores are."""
    from metalora.inspection.files import arrays_file
    from metalora.inspection.inspect_images import inspect_images
    from metalora.plots import fingerprint, save_figure
    from metalora.util.device import pick_device
    from metalora.util.files import write_whole

    out = checked_file(out, ".npz") if out else None
    model = load_adapter(adapter, given)
    user_images = read_images(model, images, given)
    device = pick_device(given.get("device", "auto"))
    pixels = user_images.images()
    inspection = inspect_images(model.to(device), pixels.to(device), user_images.table["name"], pool=pool)
    if figure:
        save_figure(fingerprint(inspection, pixels), figure)
    if out:
        write_whole(arrays_file(out, inspection))
    write_json(json, {"adapter": str(adapter), **inspection.to_dict()})
    _print_inspection(inspection)


def _print_inspection(inspection: Any) -> None:
    if inspection.constant:
        typer.echo("This method has one constant adapter: it is the same for every image.")
    names, strength = list(inspection.names), inspection.strength
    if not inspection.constant and not fits([max(strength, key=len), *names]):
        numbers = [str(number) for number in range(1, len(names) + 1)]
        print_table("Images", ("", "image"), zip(numbers, names, strict=True))
        names = numbers
    shown = ["every image"] if inspection.constant else names
    rows = [(layer, *strength[layer].iloc[: len(shown)].tolist()) for layer in strength]
    print_table("Strength of the updates, ‖ΔW‖ / ‖W‖", ("layer", *shown), rows)
    if inspection.similarity is not None and not inspection.constant:
        rows = [(name, *row) for name, row in zip(names, inspection.similarity.tolist(), strict=True)]
        print_table("Cosine similarity of the images' cores", ("", *names), rows)


def fold(
    *,
    images: Images = None,
    adapter: Adapter,
    out: Annotated[Path, typer.Option(help="File to write, .safetensors; a .json is written beside it.")],
    json: Json = None,
    **given: Any,
) -> None:
    """Write the plain backbone with an image's update added to its weights (several images: their mean core)."""
    from json import dumps

    from metalora.util.device import pick_device
    from metalora.util.files import tensor_file, text_file, write_whole

    out = checked_file(out, ".safetensors")
    model = load_adapter(adapter, given).to(pick_device(given.get("device", "auto")))
    names, cores = _mean_core(model, images, given)
    plain = model.fold(cores)
    preprocessing, net = plain
    card = {
        "backbone": model.backbone.name,
        "image_size": model.backbone.image_size,
        "adapter": adapter.name,
        "method": model.config.method,
        "images": names,
        "preprocessing": repr(preprocessing),
        "use": "metalora.load_backbone(backbone, image_size=image_size).net.load_state_dict(the tensors of this file)",
    }
    write_whole(
        tensor_file(out, net.state_dict(), {"backbone": model.backbone.name}),
        text_file(out.with_suffix(".json"), dumps(card, indent=1) + "\n"),
    )
    write_json(json, {**card, "file": str(out)})
    typer.echo(f"The folded {model.backbone.name} is {out}; {out.with_suffix('.json').name} beside it says what it is.")


def export(
    *,
    images: Images = None,
    adapter: Adapter,
    out: Annotated[Path, typer.Option(help="File to write, .onnx or .pt2; or a folder, for a LoRA of PEFT.")],
    json: Json = None,
    **given: Any,
) -> None:
    """Write an adapter for other runtimes: whole, each image with its own core; or, for images, with their mean core.

    A LoRA of PEFT holds one core. ONNX and .pt2 files are compared with the network before they are kept.
    """
    from metalora.models.exporting import export as export_network
    from metalora.models.peft_format import save_peft

    model = load_adapter(adapter, given)
    fixed = bool(images) or not out.suffix
    names, cores = _mean_core(model, images, given) if fixed else ([], None)
    if not out.suffix:
        save_peft(model, out, cores)
        difference, what = None, "The LoRA"
    else:
        difference = export_network(model.fold(cores) if fixed else model, out, model.example)
        what = f"The {'folded' if fixed else 'adapted'} {model.backbone.name} (outputs equal to {difference:.0e})"
    write_json(json, {"adapter": str(adapter), "file": str(out), "images": names, "largest_difference": difference})
    typer.echo(f"{what} is {out}.")


def _mean_core(model: Any, images: Any, given: dict[str, Any]) -> tuple[list[str], Any]:
    """Return the names of images and their mean core; None where the method has one adapter for every image."""
    import torch

    from metalora.util.errors import InputError

    if not model.config.generates:
        if images:
            typer.echo("Note: this method has one adapter for every image; the images are not used.", err=True)
        return [], None
    if not images:
        raise InputError("This method's update depends on the image: name one or more images.")
    user_images = read_images(model, images, given)
    with torch.inference_mode():
        cores = model.generate(user_images.images().to(next(model.parameters()).device)).mean()
    return user_images.table["name"].tolist(), cores
