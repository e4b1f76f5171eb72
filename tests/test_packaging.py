"""The installed package works without the repository around it."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import yaml

import metalora
from metalora.util.renamed import MODULES, OPTIONS

ROOT = Path(__file__).parent.parent


def run(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installed_elsewhere_it_finds_its_bundled_weights(tmp_path):
    site = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site)
    run(*pip, ROOT)
    code = (
        "import metalora; model = metalora.adapt('resnet20'); print(metalora.__file__);"
        "from metalora.models import bundled_networks; print(bundled_networks.card('mixer_nano')['name']);"
        "import metalora_app; print(metalora_app.main.__name__)"
    )
    said = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)})
    assert said.split() == [str(site / "metalora" / "__init__.py"), "mixer_nano", "main"]
    assert (site / "metalora/py.typed").exists() and (site / "metalora_app/plot.js").exists()


APART = ("gradio", "joblib", "plotly", "psutil", "rich", "scipy", "sklearn", "typer", "umap")
BLOCK = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {APART} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def test_the_library_needs_neither_app_nor_laboratory(tmp_path):
    code = f"""{BLOCK}
import torch, metalora
from metalora.suites.config import SuiteConfig
from metalora.suites.dataset import suite_from_dataset
images = torch.rand(60, 3, 16, 16)
data = [(image, i % 2) for i, image in enumerate(images)]
suite = suite_from_dataset(data, config=SuiteConfig(image_size=16))
model = metalora.adapt(metalora.load_backbone("resnet20", image_size=16), metalora.AdapterConfig(rank=2))
steps = list(metalora.fit(model, suite, metalora.TrainingConfig(steps=2, batch_size=8, device="cpu")))
model.save("adapter")
loaded = metalora.load("adapter")
folded = loaded.fold(loaded.generate(images[:1]))
print(len(steps), torch.equal(loaded(images[:2]), model(images[:2])), folded(images).shape)
try:
    metalora.load_suite("digits")
except metalora.InputError as error:
    print(error)
"""
    said = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert said.splitlines() == [
        "2 True torch.Size([60, 64])",
        "The digits come with scikit-learn: pip install 'metalora[lab]'.",
    ]


def test_the_command_line_says_which_package_it_lacks(tmp_path):
    code = f"{BLOCK}\nfrom metalora.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "The command line needs the package typer: pip install 'metalora[lab]'.\n"


def test_requirements_are_those_of_the_library_and_the_app():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["lab"], *extras["app"]} - {"metalora[lab]"}
    assert set((ROOT / "requirements.txt").read_text(encoding="utf-8").split()) == wanted


def test_the_page_of_the_package_begins_with_its_title(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        _, _, text = archive.read(name).decode().partition("\n\n")
    assert text.startswith("# MetaLoRA\n") and "sdk_version" not in text


def test_the_citation_file_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == metalora.__version__
    assert "2504.00460" in citation["preferred-citation"]["url"]


def test_the_changelog_names_this_version_and_whatever_was_renamed():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {metalora.__version__}\n" in text
    old = [*OPTIONS, *(f"metalora.{name}" for name in MODULES)]
    assert not [name for name in old if f"| `{name}` |" not in text]
