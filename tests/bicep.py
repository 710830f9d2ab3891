"""As much of Bicep as docs/cosmos.md uses, so that tests can read there what would be deployed.

There is no Bicep on the package index, and what a document says is only worth something if somebody compares it with
the code. Parameters without a default stand for themselves, as `<name>`; so do calls of functions, and properties of
resources.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["Resource", "resources"]

_TOKEN: Final = re.compile(
    r"""\s+ | //[^\n]* | @\w+\([^)\n]*\) | (?P<text>'(?:[^'\\]|\\.)*') | (?P<number>\d+)
    | (?P<name>[A-Za-z_][\w.]*(?:\([^()\n]*\)(?:\.\w+)*)?) | (?P<mark>[{}\[\]:=,])""",
    re.VERBOSE,
)
_WORDS: Final = {"true": True, "false": False, "null": None}


class Resource(NamedTuple):
    """One resource that a file declares; of a loop, each of them."""

    name: str
    type: str
    """Without its version."""
    body: dict[str, Any]


class _Name(str):
    """An expression that is looked up, in contrast to text."""


def resources(source: str) -> list[Resource]:
    """Every resource of a Bicep file, in its order.

    Raises:
        ValueError: there is something that this does not know.
    """
    found: list[Resource] = []
    known: dict[str, Any] = {}
    tokens = _tokens(source)
    while tokens:
        match _take(tokens):
            case "param":
                name, _ = _take(tokens), _take(tokens)
                known[name] = f"<{name}>"
                if tokens and tokens[0] == "=":
                    _take(tokens, "=")
                    known[name] = _resolved(_value(tokens), known)
            case "var":
                name = _take(tokens)
                _take(tokens, "=")
                known[name] = _resolved(_value(tokens), known)
            case "resource":
                name, kind = _take(tokens), _take(tokens)[1:-1].partition("@")[0]
                _take(tokens, "=")
                found += [Resource(name, kind, body) for body in _bodies(tokens, known)]
            case other:
                raise ValueError(f"A declaration was expected, not {other!r}.")
    return found


def _tokens(source: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            raise ValueError(f"This is not understood: {source[position : position + 40]!r}")
        if match.lastgroup is not None:
            tokens.append(match[0])
        position = match.end()
    return tokens


def _take(tokens: list[str], expected: str | None = None) -> str:
    token = tokens.pop(0) if tokens else ""
    if not token or expected not in (None, token):
        raise ValueError(f"{expected or 'something'} was expected, not {token or 'the end'!r}.")
    return token


def _bodies(tokens: list[str], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    if tokens[:2] != ["[", "for"]:
        return [_resolved(_value(tokens), known)]
    _take(tokens, "[")
    _take(tokens, "for")
    each = _take(tokens)
    _take(tokens, "in")
    among = _resolved(_value(tokens), known)
    _take(tokens, ":")
    body = _value(tokens)
    _take(tokens, "]")
    return [_resolved(body, {**known, each: one}) for one in among]


def _value(tokens: list[str]) -> Any:
    token = _take(tokens)
    if token == "{":
        pairs: dict[str, Any] = {}
        while tokens and tokens[0] != "}":
            key = _take(tokens)
            _take(tokens, ":")
            pairs[key] = _value(tokens)
            _skip_comma(tokens)
        _take(tokens, "}")
        return pairs
    if token == "[":
        values: list[Any] = []
        while tokens and tokens[0] != "]":
            values.append(_value(tokens))
            _skip_comma(tokens)
        _take(tokens, "]")
        return values
    if token.startswith("'"):
        return token[1:-1]
    return int(token) if token.isdecimal() else _WORDS.get(token, _Name(token))


def _skip_comma(tokens: list[str]) -> None:
    if tokens and tokens[0] == ",":
        _take(tokens, ",")


def _resolved(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(each, known) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, known) for each in value]
    if isinstance(value, _Name):
        return _looked_up(value, known)
    if isinstance(value, str):
        return re.sub(r"\$\{([^}]*)\}", lambda match: str(_looked_up(match[1], known)), value)
    return value


def _looked_up(name: str, known: Mapping[str, Any]) -> Any:
    first, *rest = name.split(".")
    if first not in known:
        return f"<{name}>"
    found = known[first]
    for step in rest:
        found = found[step]
    return found
