"""What an adapted network must do, tried on many networks, each in a process of its own."""

import contextlib
import multiprocessing
import time
import warnings

import torch
from timm.layers import set_fused_attn
from torch import nn

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.models.backbones import load_backbone
from metalora.util.errors import LayersLeftOut

METHODS = ("lora", "metalora-cp", "metalora-tr")
SECONDS = 240  # for one network
TOLERANCE = 1e-3  # of float32 through a network of random weights


def outcomes(networks, checked=METHODS):
    """Return name → "" where all holds, else what does not.

    Args:
        networks: name → call that makes it; None is a name of timm.
        checked: methods.
    """
    return {name: _in_a_process(name, make, checked) for name, make in networks.items()}


def _in_a_process(name, make, checked):
    # A fork has imported everything already, and a crash below Python ends it alone.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(there, name, make, checked))
    process.start()
    there.close()
    try:
        said = here.recv() if here.poll(SECONDS) else f"takes more than {SECONDS} s"
    except EOFError:
        process.join()
        said = f"ends with exit code {process.exitcode}"
    process.kill()
    process.join()
    return said


def _tell(pipe, name, make, checked):
    torch.set_num_threads(1)
    set_fused_attn(True)
    try:
        for method in checked:
            check(method, by_name(name) if make is None else make())
        said = ""
    except Exception as error:
        said = f"{method}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    pipe.send(said)


def by_name(name):
    """Return a backbone of timm, for smaller images than its own where it takes them."""
    backbone = load_backbone(name, pretrained=False)
    if not getattr(backbone.net, "pretrained_cfg", {}).get("fixed_input_size", True):
        with contextlib.suppress(Exception), torch.no_grad():
            smaller = load_backbone(name, pretrained=False, image_size=128)
            smaller(torch.rand(1, 3, 128, 128))
            return smaller
    return backbone


def check(method, backbone):
    """Check one network: it trains, folds, and gives each of four images its own core."""
    torch.manual_seed(0)
    started = time.monotonic()
    _open(backbone)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayersLeftOut)
        size = getattr(backbone, "image_size", None) or 96
        images = (torch.rand(4, 3, 1, 1) * torch.rand(4, 3, size, size)).to(
            next(backbone.parameters())
        )  # of several colours
        model = metalora.adapt(backbone, AdapterConfig(method, rank=2, head_init_std=0.3), example=images)
    if model.generated:
        model.standardise(images)
    with torch.no_grad(), model.disabled():
        original = model(images)
    _check_step(model.train(), images[:2])
    model.eval()
    with torch.no_grad():
        cores = _spread(model, images)
        together = model(images, cores=cores)
        change = float((together - original).norm() / original.norm())
        assert change > 1e-3, f"adapters change the output by {change:.1e} only"
        for n in range(len(images)):
            _close(model(images[n : n + 1]), together[n : n + 1], "a batch of four and four of one")
        _close(
            model.fold(None if cores is None else cores[0])(images[:1]), together[:1], "the fold and the adapted model"
        )
        if cores is not None:
            swapped = model(images, cores=cores[[1, 2, 3, 0]])
            assert float((swapped - together).norm()) > 1e-4 * float(together.norm()), "cores have no effect"
    assert time.monotonic() - started < SECONDS


def _open(net):
    """Give residual branches, whose scale begins near 0 in many networks, a part in the output."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim < 4 and not name.endswith("bias") and 0 <= parameter.min() == parameter.max() < 0.1:
                parameter.fill_(0.5)


def _check_step(model, images):
    """Take one step of training, after which the output differs."""
    trained = list(model.trained.parameters())
    optimizer = torch.optim.SGD(trained, lr=1e-3)
    model(images).square().mean().backward()
    idle = [name for name, layer in model.layers.items() if layer.adapter.B.grad is None]
    assert not idle, f"no gradient reaches {idle[0]} and {len(idle) - 1} more"
    assert all(p.grad is None or p.grad.isfinite().all() for p in trained), "gradients are not finite"
    optimizer.step()


def _spread(model, images):
    """Give B values with which every layer's update has a fifth of its weight's norm; return the cores of images."""
    cores = model.generate(images) if model.generated else None
    for layer in model.layers.values():
        nn.init.normal_(layer.adapter.B)
        size = layer.delta(None if cores is None else cores[layer.name][:1]).norm() / layer.weight.norm()
        layer.adapter.B.mul_(0.2 / float(size))
    return cores


def _close(found, wanted, what):
    apart = float((found - wanted).norm() / wanted.norm())
    assert apart < TOLERANCE, f"{what} differ by {apart:.1e}"
