"""The loggers of this package and of `projections`: whatever they are given, a record is one line of printable text.

Names, run ids and errors come from stores and checkpoints. They are escaped here, in every record that passes, so that
no call can forget it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, TypeAlias

from .clock import SYSTEM_CLOCK, Clock
from .lru import Lru
from .text import safe

__all__ = ["escaped", "logger_of", "safe_traceback"]

_ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_WIDTH: Final = 4_000  # characters of one value in a line
_NUMBERS: Final = frozenset({float, bool, type(None)})
_BITS: Final = 128
_MINUTE: Final = 60.0  # seconds
_LINES: Final = 100  # that are remembered

_formatter = logging.Formatter()


def logger_of(name: str) -> logging.Logger:
    """The logger with this name, whose records are escaped. Every module that logs gets its logger here."""
    logger = logging.getLogger(name)
    if _escaping not in logger.filters:
        logger.addFilter(_escaping)
    return logger


def safe_traceback(exc_info: _ExcInfo) -> str:
    """A traceback for a log. Its lines are escaped one by one, and indented: none of them looks like a record."""
    lines = _formatter.formatException(exc_info).split("\n")
    return "\n".join(f"  {safe(line)}" for line in lines)


@contextmanager
def escaped(package: str, logger: logging.Logger, *, clock: Clock = SYSTEM_CLOCK) -> Generator[None, None, None]:
    """Until the block ends, what another package warns of goes to a logger of ours, which escapes it; the same line
    once in a minute, and nowhere else.

    Args:
        package: its name, as its loggers begin.
        logger: see `logger_of`.
        clock: for tests.
    """
    theirs, handler = logging.getLogger(package), _OncePerMinute(logger, clock)
    before, theirs.propagate = theirs.propagate, False
    theirs.addHandler(handler)
    try:
        yield
    finally:
        theirs.removeHandler(handler)
        theirs.propagate = before


class _OncePerMinute(logging.Handler):
    """Hands records on to a logger, the same line once in a minute."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger
        self._clock = clock
        self._said: Lru[str, float] = Lru(_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        text, now = record.getMessage(), self._clock.monotonic()
        before = self._said.get(text)
        if before is None or now - before >= _MINUTE:
            self._said.put(text, now)
            self._logger.log(record.levelno, "%s: %s", record.name, text)


class _Shown:
    """A value for a log line, which is turned into text when a handler wants it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return _cut(safe(self._value))

    def __repr__(self) -> str:
        try:
            return _cut(safe(repr(self._value)))
        except Exception:
            return str(self)


class _Escaping(logging.Filter):
    """Lets every record pass, and no character in it that is obeyed instead of shown."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, Mapping):
            record.args = {name: _shown(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_shown, record.args))
        if record.exc_info:
            record.exc_text = safe_traceback(record.exc_info)
        return True


_escaping: Final = _Escaping()


def _shown(value: object) -> Any:
    """A number stays one, for formats such as `%d`; one with very many digits cannot be formatted."""
    is_number = type(value) in _NUMBERS or (type(value) is int and value.bit_length() <= _BITS)
    return value if is_number else _Shown(value)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
