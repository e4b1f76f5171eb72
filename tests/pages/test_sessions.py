"""Pages whose state is in memory: METALORA_MAX_SESSIONS of them, however many come."""

import httpx
import psutil
import pytest

SESSIONS, WARM, MORE = 8, 40, 200


@pytest.fixture(scope="module")
def few_sessions(serve, tmp_path_factory):
    """(client, process) of an app that keeps few pages."""
    folder = tmp_path_factory.mktemp("sessions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METALORA_MAX_SESSIONS", str(SESSIONS))
        process, address = serve(folder / "workspace", folder / "app.log")
    with httpx.Client(base_url=address, timeout=90) as client:
        yield client, psutil.Process(process.pid)
    process.terminate()
    process.wait(60)


def ask(client, session, name="nonesuch"):
    """A look-up in a session, which costs as much memory as any event."""
    return client.post("/gradio_api/run/compare", json={"data": [name], "session_hash": session})


@pytest.mark.slow
def test_memory_stays_flat_over_many_new_sessions(few_sessions):
    client, process = few_sessions
    for i in range(WARM):
        assert "There are no bundled results" in ask(client, f"warm{i}").json()["error"]
    before = process.memory_info().rss
    for i in range(MORE):
        ask(client, f"more{i}")
    # Without the limit each takes 70 kB.
    assert process.memory_info().rss - before < MORE * 70_000 // 4
    assert ask(client, "last", "digits-default").status_code == 200
