"""What the app and long commands log: a line of JSON for each event, on standard error; quiet unless asked for.

METALORA_LOG=info (or debug, warning, error) chooses the level; left out, warnings and errors are logged.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime

from metalora.util.errors import InputError, choices

VARIABLE = "METALORA_LOG"
LEVELS = ("debug", "info", "warning", "error")
ROOT = "metalora"
_USUAL = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}


def set_up_logs() -> None:
    """Log at the level of METALORA_LOG from here on.

    Raises:
        InputError: there is no such level.
    """
    level = os.environ.get(VARIABLE) or "warning"
    if level.lower() not in LEVELS:
        raise InputError(f"{VARIABLE} is {level!r}: use {choices(level, LEVELS)}.")
    log = logging.getLogger(ROOT)
    log.setLevel(level.upper())
    log.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    log.handlers = [handler]


class Lines(logging.Formatter):
    """A record as a line of JSON: time (UTC), level, logger, message, what `extra` adds, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _USUAL},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
