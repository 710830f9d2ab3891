"""Text to tokens. Comments are skipped; strings are unescaped; keywords are words, told apart by the parser."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import bad_request
from .values import as_number

_LONGEST_NUMBER = 400
"""Digits that Python may read as an integer at once; more of them are beyond a double anyway."""

RESERVED = frozenset(
    {
        "AND",
        "ARRAY",
        "AS",
        "ASC",
        "BETWEEN",
        "BY",
        "DESC",
        "DISTINCT",
        "ESCAPE",
        "EXISTS",
        "FALSE",
        "FROM",
        "GROUP",
        "IN",
        "JOIN",
        "LIKE",
        "LIMIT",
        "NOT",
        "NULL",
        "OFFSET",
        "OR",
        "ORDER",
        "SELECT",
        "TOP",
        "TRUE",
        "UDF",
        "UNDEFINED",
        "VALUE",
        "WHERE",
    }
)
"""Words that cannot name an alias or follow a dot: `c.value` is a syntax error there, `c["value"]` is not."""

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<number>0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<parameter>@[A-Za-z_][A-Za-z0-9_]*)
  | (?P<word>[^\W\d]\w*)
  | (?P<symbol>>>>|<<|>>|<=|>=|!=|<>|\|\||\?\?|[-+*/%=<>(){}\[\],.:?&|^~!])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    kind: str
    """`number`, `string`, `parameter`, `word`, `symbol` or `end`."""
    text: str
    value: Any = None
    position: int = 0

    @property
    def keyword(self) -> str:
        return self.text.upper() if self.kind == "word" else ""


def tokenize(text: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise bad_request(f"Syntax error, invalid character at position {position}: {text[position]!r}.")
        kind = str(match.lastgroup)
        if kind != "space":
            tokens.append(Token(kind, match.group(), _value(kind, match.group()), position))
        position = match.end()
    tokens.append(Token("end", "end of query", position=position))
    return tokens


def _value(kind: str, text: str) -> Any:
    if kind == "number":
        return _number(text)
    if kind == "string":
        return _unescape(text)
    return None


def _number(text: str) -> Any:
    if text[:2].lower() == "0x":
        return as_number(int(text, 16))
    return as_number(int(text)) if text.isdigit() and len(text) < _LONGEST_NUMBER else as_number(float(text))


def _unescape(text: str) -> str:
    """Both quotes take JSON's escapes, plus an escaped quote of either kind."""
    body = text[1:-1].replace("\\'", "'")
    body = re.sub(r'(\\.)|"', lambda found: found.group(1) or '\\"', body)
    try:
        value = json.loads(f'"{body}"', strict=False)
        value.encode()  # a lone surrogate is no text
        return value
    except ValueError:
        raise bad_request(f"Syntax error, invalid string literal {text}.") from None
