"""The wheel brings the app along, under a name of its own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
import metalora_app
from metalora_app.app import STYLE, build
from metalora_app.plot import SCRIPT
from metalora.views.app_state import AppState

assert callable(metalora_app.main)
assert not any(name.partition(".")[0] in ("app", "pages") for name in sys.modules)
print(len(build(AppState("workspace")).fns), STYLE, SCRIPT)
"""


def run(*command, **settings):
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_is_built_from_an_installed_wheel_alone(tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "GRADIO_ANALYTICS_ENABLED": "False"}
    events, style, script = run(sys.executable, "-c", BUILD, cwd=elsewhere, env=environment).split()
    assert int(events) > 50
    assert style == str(site / "metalora" / "assets" / "style.css") and Path(style).exists()
    assert script == str(site / "metalora_app" / "plot.js") and Path(script).exists()
