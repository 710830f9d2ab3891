"""Logs for machines: one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from eventckpt import settings
from eventckpt.log import safe_traceback
from eventckpt.text import safe, safe_json

__all__ = ["log_as_json"]


_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


class _Lines(logging.Formatter):
    """Whoever shows a line's fields on a terminal shows what other packages logged too: all of it is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": safe(record.name),
            "message": safe(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = safe_traceback(record.exc_info)
        return safe_json(json.dumps(line))


def log_as_json(level: str) -> None:
    """Send the logs of this package, and warnings of all others, to stderr.

    Raises:
        ValueError: `level` is none.
    """
    name = level.upper()
    settings.choice("log_level", name, *_LEVELS)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("eventckpt").setLevel(name)
