"""Logs: lines of JSON, quiet by default."""

import json
import logging

import pytest

from metalora.util.errors import InputError
from metalora.util.logs import VARIABLE, set_up_logs


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_the_default_is_quiet(monkeypatch, capsys):
    monkeypatch.delenv(VARIABLE, raising=False)
    set_up_logs()
    log = logging.getLogger("metalora.runs")
    log.info("a run started")
    log.warning("the disk is nearly full")
    assert [line["message"] for line in lines(capsys)] == ["the disk is nearly full"]


def test_events_have_fields_and_errors_a_traceback(monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "info")
    set_up_logs()
    log = logging.getLogger("metalora.runs.queue")
    log.info("run ended", extra={"run": "a\nb", "seconds": 1.5})
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("it failed")
    ended, failed = lines(capsys)
    assert (ended["level"], ended["logger"], ended["run"], ended["seconds"]) == ("info", log.name, "a\nb", 1.5)
    assert ended["time"].endswith("+00:00")
    assert failed["level"] == "error" and "ValueError: no" in failed["traceback"]


def test_an_unknown_level_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "loud")
    with pytest.raises(InputError, match="METALORA_LOG is 'loud': use debug, info, warning"):
        set_up_logs()
