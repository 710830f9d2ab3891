"""The indexing policy: what it defaults to, which paths it covers, how many terms an item adds, which orders it serves.

Values are not indexed here, so the policy never makes a query faster; it decides what a write costs, and which ORDER BY
the service would refuse.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from .errors import bad_request, unsupported
from .partition_keys import split_path
from .refusals import INDEX_FEATURES, check_settings
from .settings import is_path, objects

_SYSTEM = frozenset({"id", "_rid", "_self", "_etag", "_ts", "_attachments"})
"""Properties whose indexing is part of the published price of an insert."""
_ALWAYS_ORDERED = frozenset({("id",), ("_ts",), ("_rid",)})
_KNOWN = frozenset({"indexingMode", "automatic", "includedPaths", "excludedPaths", "compositeIndexes"})
_MOST_COMPOSITE_PATHS = 8
"""Of one index ("Service quotas", 2025)."""
_DEFAULT = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": '/"_etag"/?'}],
}


Term = tuple[Any, ...]
"""A path and the value there; for a composite index its paths and theirs."""


class IndexingPolicy:
    def __init__(self, policy: Mapping[str, Any] | None) -> None:
        self.document = _normalised(policy)
        self._on = self.document["indexingMode"] != "none"
        self._rules = [(_pattern(entry["path"]), True) for entry in self.document["includedPaths"]]
        self._rules += [(_pattern(entry["path"]), False) for entry in self.document["excludedPaths"]]
        self._explicit = [pattern for pattern, included in self._rules if included and pattern[0]]
        self._composites = [
            [(split_path(part["path"]), part.get("order", "ascending") == "descending") for part in index]
            for index in self.document.get("compositeIndexes", [])
        ]

    def terms(self, body: Mapping[str, Any]) -> Counter[Term]:
        """The index terms of an item: each value on an indexed path, each included path without one, each composite
        index. `charges` has where the service says so."""
        if not self._on:
            return Counter()
        content = {key: value for key, value in body.items() if key not in _SYSTEM}
        found = Counter((path, _written(value)) for path, value in _leaves(content, ()) if self.covers(path))
        found.update([(parts, "undefined") for parts, exact in self._explicit if not _has_value(found, parts, exact)])
        for index in self._composites:
            found.update(_composite_terms(index, body))
        return found

    def covers(self, path: Sequence[str]) -> bool:
        """Whether a value at this path is indexed: the most exact rule decides."""
        if not self._on:
            return False
        matching = [
            (len(parts), exact, included) for (parts, exact), included in self._rules if _fits(parts, exact, path)
        ]
        return bool(matching) and max(matching)[2]

    def keeps_undefined(self, order: Sequence[Sequence[str]]) -> bool:
        """Whether an ORDER BY returns items without the value to be ordered by.

        It needs an index that names the path; `/*` does not (documentation, "ORDER BY", 22 August 2024).
        """
        if len(order) != 1:
            return True  # by a composite index, which names its paths
        return any(parts and included and _fits(parts, exact, order[0]) for (parts, exact), included in self._rules)

    def has_composite(self, order: Sequence[tuple[Sequence[str], bool]]) -> bool:
        """Whether there is a composite index for this order, or for the opposite one."""
        wanted = [(tuple(path), descending) for path, descending in order]
        opposite = [(path, not descending) for path, descending in wanted]
        return wanted in self._composites or opposite in self._composites

    def check_order(self, order: Sequence[tuple[Sequence[str], bool]]) -> None:
        """Refuses an ORDER BY that no index serves. `order` holds (path, descending)."""
        if len(order) > 1:
            if not self.has_composite(order):
                raise bad_request(
                    "The order by query does not have a corresponding composite index that it can be served from."
                )
        elif order and tuple(order[0][0]) not in _ALWAYS_ORDERED and not self.covers(order[0][0]):
            raise bad_request("The index path corresponding to the specified order-by item is excluded.")


def _normalised(policy: Mapping[str, Any] | None) -> dict[str, Any]:
    if policy is not None and not isinstance(policy, Mapping):
        raise bad_request("The indexing policy is not valid.")
    given = dict(policy or {})
    check_settings(given, INDEX_FEATURES, _KNOWN, "indexing policies")
    mode = str(given.get("indexingMode", "consistent")).lower()
    if mode == "lazy":  # "New containers cannot select lazy indexing" ("Indexing policies", 2025)
        raise bad_request("Lazy indexing is not available: the indexing mode is consistent or none.")
    if mode not in {"consistent", "none"}:
        raise bad_request(f"The indexing mode {mode!r} is not valid.")
    if mode == "none":
        return {**_DEFAULT, "indexingMode": mode, "automatic": False, "includedPaths": [], "excludedPaths": []}
    included, excluded = (_paths(given.get(name), name) for name in ("includedPaths", "excludedPaths"))
    if not any(entry["path"] in {"/*", "/"} for entry in (*included, *excluded)):
        if included or excluded:
            raise bad_request('The special mandatory indexing path "/*" is in neither includedPaths nor excludedPaths.')
        included = list(_DEFAULT["includedPaths"])
    if not any(entry["path"] in {"/*", '/"_etag"/?', "/_etag/?"} for entry in excluded):
        excluded = [*excluded, *_DEFAULT["excludedPaths"]]
    for entry in (*included, *excluded):
        _pattern(entry["path"])
    included, excluded = ([{"path": entry["path"]} for entry in entries] for entries in (included, excluded))
    automatic = given.get("automatic", True)
    if not isinstance(automatic, bool):
        raise bad_request(f"The value of automatic {automatic!r} is not valid.")
    known = {"indexingMode": mode, "automatic": automatic}
    composites = given.get("compositeIndexes") or []
    if not isinstance(composites, list) or not all(isinstance(index, list) and len(index) > 1 for index in composites):
        raise bad_request("A composite index is a list of two or more paths.")
    if any(len(index) > _MOST_COMPOSITE_PATHS for index in composites):
        raise bad_request(f"A composite index has at most {_MOST_COMPOSITE_PATHS} paths.")
    extra = {"compositeIndexes": [list(map(_composite_part, index)) for index in composites]} if composites else {}
    return {**known, "includedPaths": included, "excludedPaths": excluded, **extra}


def _composite_part(part: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(part, dict) or not is_path(part.get("path")) or part["path"].endswith(("/?", "/*")):
        raise bad_request(f"The composite index path {part!r} is not valid.")
    order = part.get("order", "ascending")
    if order not in ("ascending", "descending"):
        raise bad_request(f"The composite index order {order!r} is not valid.")
    return {"path": part["path"], "order": order}


def _paths(given: Any, what: str) -> list[dict[str, Any]]:
    """Included or excluded paths; spatial and tuple indexes are asked for here as well."""
    entries = objects(given, what)
    for entry in entries:
        path = entry.get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            raise bad_request(f"The indexing path {path!r} is not valid.")
        if "{" in path:
            raise unsupported("tuple indexes")
        if any(index.get("kind") == "Spatial" for index in objects(entry.get("indexes"), "indexes")):
            raise unsupported("spatial indexes")
    return entries


def _pattern(path: str) -> tuple[tuple[str, ...], bool]:
    """`/a/b/?` → (("a", "b"), True), exactly that value; `/a/*` → (("a",), False), everything below it."""
    if path == "/":
        return (), False
    *parts, last = split_path(path) or ("",)
    if last not in {"?", "*"}:
        raise bad_request(f"The indexing path '{path}' could not be accepted: it must end in /? or /*.")
    return tuple(parts), last == "?"


def _fits(pattern: Sequence[str], exact: bool, path: Sequence[str]) -> bool:
    if len(path) != len(pattern) if exact else len(path) < len(pattern):
        return False
    return all(wanted == part for wanted, part in zip(pattern, path, strict=False))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every scalar with its path; elements of an array share the step `[]`."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part, (*path, "[]"))
    else:
        yield path, value


def _has_value(found: Mapping[Term, int], parts: tuple[str, ...], exact: bool) -> bool:
    return any((path if exact else path[: len(parts)]) == parts for path, *_ in found)


def _composite_terms(index: Sequence[tuple[Sequence[str], bool]], body: Mapping[str, Any]) -> Iterator[Term]:
    """One term, or one for each combination where a path goes through an array; what is not there is undefined."""
    paths = tuple(tuple(path) for path, _ in index)
    for values in product(*(_values_at(body, path) for path in paths)):
        yield "composite", paths, *values


def _values_at(value: Any, path: Sequence[str]) -> list[str]:
    if not path:
        return ["undefined" if isinstance(value, dict | list) else _written(value)]
    step, *rest = path
    if step == "[]":
        parts = [found for part in value for found in _values_at(part, rest)] if isinstance(value, list) else []
        return parts or ["undefined"]
    return _values_at(value[step], rest) if isinstance(value, Mapping) and step in value else ["undefined"]


def _written(value: Any) -> str:
    """A scalar as a text, by which 1 and true are two."""
    return json.dumps(value)
