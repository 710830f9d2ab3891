"""What one query request may make of its documents, so that none keeps the server from answering others.

The service gives a request five seconds and answers 408 then ("Service quotas" of Azure Cosmos DB's documentation,
2025). Here the work is counted instead of the time, so that the same query always gets the same answer. How large a
value may become on the way is not documented: here no text is larger than an item, and no value larger than a page.
"""

from __future__ import annotations

from typing import Any, Final

from ..errors import CosmosError, bad_request

MOST_BINDINGS: Final = 200_000
"""Rows that joins and subqueries make, over all documents of a request."""
MOST_CHARACTERS: Final = 64 * 1024 * 1024
"""Of all texts that a request puts together."""
LONGEST_TEXT: Final = 2 * 1024 * 1024
LARGEST_VALUE: Final = 4 * 1024 * 1024


class Budget:
    """What is left to one request."""

    def __init__(self) -> None:
        self._bindings = MOST_BINDINGS
        self._characters = MOST_CHARACTERS

    def bind(self) -> None:
        """One more row of a join or a subquery."""
        self._bindings -= 1
        if self._bindings < 0:
            raise CosmosError(408, "Request timed out.")

    def build(self, length: int) -> None:
        """A text of this length, before it is put together."""
        if length > LONGEST_TEXT:
            raise bad_request(f"A query makes a text of {length} characters: more than an item may have.")
        self._characters -= length
        if self._characters < 0:
            raise CosmosError(408, "Request timed out.")


def checked_size(value: Any) -> Any:
    """An array or object that a query makes, unless its JSON is larger than a page. The count ends at the limit: what
    refers to the same part again and again is small in memory."""
    room, parts = LARGEST_VALUE, [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            room -= 2 + sum(len(key) + 4 for key in part)
            parts.extend(part.values())
        elif isinstance(part, list):
            room -= 2 + len(part)
            parts.extend(part)
        else:
            room -= len(part) + 2 if isinstance(part, str) else 1
        if room < 0:
            raise bad_request("A query makes a value that is larger than a page of 4 MB.")
    return value


def length_of_replaced(text: str, old: str, new: str) -> int:
    """How long a text becomes."""
    return len(text) + text.count(old) * (len(new) - len(old))
