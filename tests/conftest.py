"""Dense references, written from the equations of arXiv 2504.00460 with plain loops, small networks, a running app."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn
from torch.func import functional_call

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.suites.image_cache import CACHE
from metalora.util.processes import NICE

os.environ[CACHE] = ""  # tests leave nothing behind
os.environ.setdefault(NICE, "0")  # other tests keep the machine busy, and a training would hardly get time

# Properties are tested on the same few examples each time; METALORA_EXAMPLES=slow draws many others.
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("few", derandomize=True, max_examples=20, **COMMON)
settings.register_profile("slow", max_examples=400, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("METALORA_EXAMPLES", "few"))


@pytest.fixture(autouse=True)
def logs_as_before():
    """Take back what a command or the app set up: its handler writes to a captured stream that is closed by now."""
    log = logging.getLogger("metalora")
    before = log.handlers, log.level, log.propagate
    yield
    log.handlers, log.level, log.propagate = before


def outer(a, b):
    """The outer product of a slice of A, (I) or (K, K, I), and a slice of B, (O), laid out as a weight."""
    return torch.einsum("...i,o->oi...", a, b)


MIXTURES = ("lora-mixture", "molora", "condconv")


def delta_of_sample(method, A, B, core=None, router=None):
    """ΔW of one sample, of the shape of the weight, term by term."""
    if method == "lora":
        return sum(outer(A[..., r], B[r]) for r in range(A.shape[-1]))
    if method == "multi-lora":
        return sum(delta_of_sample("lora", A[m], B[m]) for m in range(len(A)))
    if method == "metalora-cp":
        return sum(outer(A[..., r], B[r]) * core[r] for r in range(A.shape[-1]))
    if method == "metalora-tucker":
        return sum(outer(A[..., p], B[q]) * core[p, q] for p in range(A.shape[-1]) for q in range(len(B)))
    if method in MIXTURES:
        return sum(core[e] * delta_of_sample("lora", A[e], B[e]) for e in range(len(A)))
    rank = A.shape[0]
    ring = [(p, q, s) for p in range(rank) for q in range(rank) for s in range(rank)]
    return sum(outer(A[p, ..., q], B[q, :, s]) * core[s, p] for p, q, s in ring)


def layer_output(layer, method, x, core=None):
    """Output of an adapted layer for x (N, …): the frozen layer with W + ΔW_n, sample by sample."""
    if method == "bottleneck":
        return bottleneck_output(layer, x)
    if method in ("molora", "condconv"):
        core = torch.stack([weights_of_experts(layer, method, one) for one in x])
    rows = []
    for n in range(len(x)):
        own = None if core is None else core[n if len(core) > 1 else 0]
        weight = layer.base.weight + delta_of_sample(method, **layer.factors(), core=own)
        rows.append(functional_call(layer.base, {"weight": weight}, (x[n : n + 1],)))
    return torch.cat(rows)


def weights_of_experts(layer, method, x):
    """Weights by a layer's router of one sample (…, I) or (C, H, W), whose positions and groups are averaged."""
    if isinstance(layer.base, nn.Conv2d):
        groups = x.chunk(layer.base.groups)
        mean = sum(group.mean((1, 2)) for group in groups) / len(groups)
    else:
        rows = x.reshape(-1, x.shape[-1])
        mean = sum(rows) / len(rows)
    scores = layer.factors()["router"].T @ mean
    return scores.exp() / scores.exp().sum() if method == "molora" else 1 / (1 + (-scores).exp())


def bottleneck_output(layer, x):
    """The frozen layer's output plus B GELU(A x), rank by rank, by the layer itself with A in place of every row."""
    A, B = layer.factors().values()
    out, shape = layer.base(x), (-1, 1, 1) if isinstance(layer.base, nn.Conv2d) else (-1,)
    for r in range(len(B)):
        values = {"weight": outer(A[..., r], torch.ones_like(B[r]))}
        if layer.base.bias is not None:
            values["bias"] = torch.zeros_like(layer.base.bias)
        out = out + nn.functional.gelu(functional_call(layer.base, values, (x,))) * B[r].view(shape)
    return out


@pytest.fixture(scope="session")
def delta_reference():
    return delta_of_sample


@pytest.fixture(scope="session")
def output_reference():
    return layer_output


@pytest.fixture(scope="session")
def randomise():
    """Gives a module's parameters random values, so that B, s and the mapping net's offsets are not zero."""

    def fill(module, seed=0, scale=0.5):
        rng = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64) * scale)
        return module

    return fill


@pytest.fixture(scope="session")
def adapt():
    """adapt(net, method, …) with rank 2, unless another is given."""

    def adapted(net, method="metalora-tr", *, example=None, **settings):
        return metalora.adapt(net, AdapterConfig(method=method, **{"rank": 2, **settings}), example=example)

    return adapted


@pytest.fixture(scope="session")
def tiny_resnet(adapt):
    """tiny_resnet(…) adapts a ResNet-20 of random weights for images of 16 pixels."""

    def made(**settings):
        torch.manual_seed(0)
        return adapt(metalora.load_backbone("resnet20", image_size=16, pretrained=False), **settings)

    return made


@pytest.fixture(scope="session")
def close():
    """close(found, wanted, tolerance) compares by the norm of the difference."""

    def compare(found, wanted, tolerance):
        assert found.shape == wanted.shape
        assert float((found - wanted).detach().norm() / wanted.detach().norm()) < tolerance

    return compare


class SmallNet(nn.Module):
    """Images (N, 3, H, W) → (N, 5): convolutions of several geometries, BatchNorm, linear layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, padding="valid", groups=2, bias=False)
        self.token = nn.Linear(8, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, images):
        x = self.relu(self.norm(self.conv(images)))
        x = self.relu(self.grouped(x)).flatten(2).transpose(1, 2)
        return self.head(torch.tanh(self.token(x)).mean(1))


@pytest.fixture
def small_net():
    torch.manual_seed(0)
    net = SmallNet()
    with torch.no_grad():
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture
def images():
    return torch.rand(4, 3, 10, 9, generator=torch.Generator().manual_seed(1))


ROOT = Path(__file__).parents[1]
STARTED_WITHIN = 120  # seconds


def serve(workspace: Path, log: Path, command: tuple[str, ...] = ("app.py",), answer: str = "config"):
    """Start the app, or another page, in a process of its own and wait for an answer; (process, address)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "METALORA_WORKSPACE": str(workspace), "GRADIO_SERVER_PORT": str(port)}
    environment |= {"GRADIO_IS_E2E_TEST": "1", "GRADIO_SERVER_NAME": "127.0.0.1"}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=out, stderr=out)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + STARTED_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/{answer}", timeout=STARTED_WITHIN).close()
            return process, address
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError(f"The app does not answer:\n{log.read_text()}")


@pytest.fixture(scope="session", name="serve")
def serving():
    return serve


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    """Address of a running app."""
    folder = tmp_path_factory.mktemp("app")
    process, address = serve(folder / "workspace", folder / "app.log")
    yield address
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="session", name="local_cluster")
def clusters_here(tmp_path_factory):
    """local_cluster(n_workers=…, threads_per_worker=…) is a context: the address of a cluster of processes here."""
    distributed = pytest.importorskip("distributed")

    @contextlib.contextmanager
    def started(**settings):
        folder = tmp_path_factory.mktemp("cluster")  # workers work elsewhere than tests do
        options = {"dashboard_address": ":0", "local_directory": str(folder), "silence_logs": logging.CRITICAL}
        with distributed.LocalCluster(host="127.0.0.1", processes=True, **options, **settings) as cluster:
            yield cluster.scheduler_address

    return started


@pytest.fixture(scope="session")
def scheduler(local_cluster):
    """Address of a cluster of two workers with a thread each."""
    with local_cluster(n_workers=2, threads_per_worker=1) as address:
        yield address


@pytest.fixture(scope="session")
def small_transformer():
    """small_transformer(kind): a network of two blocks, ids of three sequences, and settings; "bert" or "llama"."""
    transformers = pytest.importorskip("transformers")

    def build(kind):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        if kind == "bert":
            net = transformers.BertModel(transformers.BertConfig(vocab_size=50, max_position_embeddings=32, **sizes))
        else:
            net = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=50, pad_token_id=0, **sizes))
        ids = torch.randint(4, 50, (3, 7), generator=torch.Generator().manual_seed(0))
        return net.eval(), ids, {"exclude": "pooler"} if kind == "bert" else {}

    return build
