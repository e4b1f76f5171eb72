"""`app`: which package it starts."""

from types import SimpleNamespace

import pytest
from calling import refused, run

from metalora.cli import launch_app


@pytest.fixture
def started(monkeypatch):
    """Names of packages whose `main` was called."""
    names = []
    monkeypatch.setattr(launch_app, "import_module", lambda name: SimpleNamespace(main=lambda: names.append(name)))
    return names


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """As if the package was installed, outside a checkout."""
    monkeypatch.setattr(launch_app, "__file__", str(tmp_path / "site/metalora/cli/app.py"))


def test_in_a_checkout_it_starts_the_pages(started):
    run("app")
    assert started == ["pages"]


def test_installed_it_starts_the_package_of_the_wheel(started, installed, monkeypatch):
    monkeypatch.setattr(launch_app, "find_spec", lambda name: name)
    run("app")
    assert started == ["metalora_app"]


@pytest.mark.parametrize(
    ("missing", "said"), [("gradio", "pip install 'metalora"), ("metalora_app", "is not installed")]
)
def test_a_missing_package_is_refused(started, installed, monkeypatch, missing, said):
    monkeypatch.setattr(launch_app, "find_spec", lambda name: None if name == missing else name)
    assert said in refused("app") and not started
