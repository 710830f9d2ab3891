"""JSON as the service takes it, from bodies and headers: UTF-8, no lone surrogates, numbers that are doubles.

Python's reader is kinder in each of these: it guesses UTF-16, lets surrogates through, and counts beyond any double.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from .errors import bad_request

_EXACT_INTEGERS: Final = 2**53
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parse_body(raw: bytes) -> Any:
    """A request's body; an integer beyond 2^53 loses its last digits, as in the service."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise bad_request("The request body is not valid UTF-8.") from None
    return parse(text, "The request body")


def parse(text: str, what: str) -> Any:
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise bad_request(f"{what} is not valid JSON.") from None
    if not text.isascii() or ("\\u" in text and _SURROGATE.search(text)):
        _check_unicode(value, what)
    return value


def _check_unicode(value: Any, what: str) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise bad_request(f"{what} is not valid Unicode: it has a lone surrogate.") from None


def _as_double(text: str) -> int:
    number = int(text)
    return number if abs(number) <= _EXACT_INTEGERS else int(_finite(text))


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(parse_int=_as_double, parse_float=_finite, parse_constant=_no_constant)
