"""The app's page, built without a server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from metalora.views.app_state import AppState
from pages.app import build


@pytest.fixture
def build_page(tmp_path):
    """build_page() is the page over a workspace of its own."""

    async def page():  # where no loop runs, gradio would begin one and leave it open
        return build(AppState(tmp_path))

    def built():
        with ThreadPoolExecutor(1) as thread:  # this thread may have the loop of a browser test before it
            return thread.submit(asyncio.run, page()).result()

    return built
