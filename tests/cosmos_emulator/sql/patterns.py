"""LIKE's patterns as regular expressions.

Source: "Keywords in Azure Cosmos DB for NoSQL", section LIKE (22 August 2024): % is any text, _ any character, [a-c]
and [^a-c] sets of characters; a wildcard in brackets, or after the ESCAPE character, stands for itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from ..errors import bad_request


def like_pattern(pattern: str, escape: Any = None) -> re.Pattern[str]:
    if escape is not None and (not isinstance(escape, str) or len(escape) != 1):
        raise bad_request("The ESCAPE of a LIKE is one character.")
    return _compiled(pattern, escape)


@lru_cache(maxsize=512)
def _compiled(pattern: str, escape: str | None) -> re.Pattern[str]:
    stretches: list[list[str]] = [[]]
    rest = pattern
    while rest:
        first, rest = rest[0], rest[1:]
        if first == escape and rest:
            stretches[-1].append(re.escape(rest[0]))
            rest = rest[1:]
        elif first == "[" and (end := rest.find("]", 1)) > 0:
            stretches[-1].append(_set(rest[:end]))
            rest = rest[end + 1 :]
        elif first == "%":
            stretches.append([])
        else:
            stretches[-1].append("." if first == "_" else re.escape(first))
    return re.compile(_joined(["".join(parts) for parts in stretches]), re.DOTALL)


def _joined(stretches: list[str]) -> str:
    """What is between two % is taken where it is found first, once and for all: it has one length, so a later place
    never helps, and no pattern takes forever."""
    first, *middle = stretches
    last = f".*{middle.pop()}" if middle else ""
    return first + "".join(f"(?>.*?{stretch})" for stretch in middle if stretch) + last


def _set(content: str) -> str:
    """The inside of the brackets; ranges that run backwards hold nothing."""
    negated, members = (True, content[1:]) if content.startswith("^") and len(content) > 1 else (False, content)
    ranges: list[str] = []
    while members:
        low, high = members[0], members[0]
        if len(members) > 2 and members[1] == "-":
            high, members = members[2], members[2:]
        members = members[1:]
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(ranges)}]"
