"""Warnings are ignored in the main thread; other threads leave the filters, which are the process's, alone."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import metalora
from metalora.adapters.config import AdapterConfig
from metalora.suites.images import read_images
from metalora.util.quiet import ignore_warnings
from metalora.views.configure import summarise_adapter


def test_modules_are_ignored_by_name_in_the_main_thread():
    with ignore_warnings(r"tests|test_quiet|.*quiet"):
        warnings.warn("not heard", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="heard"), ignore_warnings("elsewhere"):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_the_filters_of_the_process_are_left_alone_by_threads(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("A thread changes the filters of the process.")

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_text("none")
    Image.new("RGB", (9, 9)).save(tmp_path / "a" / "good.png")
    # Not of the module itself, since torch uses that as well.
    monkeypatch.setattr("metalora.util.quiet.warnings", SimpleNamespace(catch_warnings=refuse, filterwarnings=refuse))
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(summarise_adapter, "resnet20", AdapterConfig("lora", rank=2)).result().notes == ()
        assert len(thread.submit(read_images, tmp_path, 8).result().skipped) == 1
    with pytest.raises(AssertionError, match="filters"):
        summarise_adapter("resnet20", AdapterConfig("lora", rank=3))  # the former is known


def test_filters_are_set_where_no_threads_are():
    """That is, in the command line, and in the processes that it starts for a comparison."""
    package = Path(metalora.__file__).parent
    users = {str(path.relative_to(package)) for path in package.rglob("*.py") if "catch_warnings" in path.read_text()}
    assert users == {"util/quiet.py", "cli/messages.py", "experiments/checks.py", "experiments/resumable_job.py"}
