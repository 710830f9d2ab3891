"""Where in a state a value is, as people write it: `state.total`, `state["total"]`, `$.state.total`, `/state/total`.

What is written the way a path is printed means what it says. Only where nothing is there, it is read more freely.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

from ..codec.tree import Tree, extended, parts_at, parts_of, step_to

__all__ = ["near_paths", "value_at"]

_STEP: Final = re.compile(
    r"""\.?\[\s*(?P<quote>["'])(?P<quoted>(?:\\.|(?!(?P=quote)).)*)(?P=quote)\s*\]"""  # ["total"]
    r"""|\.?(?P<mark>["'])(?P<named>(?:\\.|(?!(?P=mark)).)*)(?P=mark)"""  # ."total"
    r"""|\.?\[(?P<inside>[^\]]*)\]"""  # [0]
    r"""|\.?(?P<name>[^.\[\]"']+)""",  # .total
    re.DOTALL,
)
_LOOKED_AT: Final = 20_000  # parts of a state that are looked through for near paths
_COMPARED: Final = 80  # characters of a path that count for how near it is
_NEAR: Final = 3


def value_at(tree: Tree, path: str) -> list[Tree]:
    """The one part of a state that stands at a path; empty where none does."""
    exact = list(parts_at(tree, path))
    if exact:
        return exact[:1]
    if path.strip() in _WHOLE:
        return [tree]
    steps = _steps_in(path)
    if not steps:
        return []
    part = tree
    for names in steps:
        inner = next((inner for step, inner in parts_of(part) or () if step in names), _NOTHING)
        if inner is _NOTHING:
            return []
        part = inner
    return [part]


_WHOLE: Final = ("$", "/")
_NOTHING: Final[list[Tree]] = []


def near_paths(tree: Tree, path: str) -> list[str]:
    """Paths of a state that come close to one that is not there, the nearest first."""
    steps = _steps_in(path)
    written = "".join(min(names) for names in steps).removeprefix(".") if steps else path
    known = {each[:_COMPARED]: each for each in islice(_paths(tree), _LOOKED_AT)}
    return [known[near] for near in difflib.get_close_matches(written[:_COMPARED], known, n=_NEAR, cutoff=0.6)]


def _paths(tree: Tree) -> Iterator[str]:
    """The paths of a state, those that are shorter in steps first."""
    level = [("", tree)]
    while level:
        below: list[tuple[str, Tree]] = []
        for path, part in level:
            for step, inner in parts_of(part) or ():
                longer = extended(path, step)
                yield longer.removeprefix(".")
                below.append((longer, inner))
        level = below


def _steps_in(path: str) -> list[frozenset[str]]:
    """The steps of a path, each with the ways in which a state may have it; empty: it is no path at all."""
    text = path.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    if text.startswith("/") or ("/" in text and not re.search(r"[.\[]", text)):
        return [_named(part.replace("~1", "/").replace("~0", "~")) for part in text.removeprefix("/").split("/")]
    steps, at = list[frozenset[str]](), int(text.startswith("$"))
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            return []
        steps.append(_step(found))
        at = found.end()
    return steps


def _step(found: re.Match[str]) -> frozenset[str]:
    quoted = found["quoted"] if found["quote"] else found["named"] if found["mark"] else None
    if quoted is not None:
        return frozenset({step_to(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))})
    inside = found["inside"]
    return _named(found["name"]) if inside is None else _named(inside.strip()) | {f"[{inside}]"}


def _named(name: str) -> frozenset[str]:
    """A step by its name: that of a key, or the number of an item."""
    return frozenset({step_to(name), f"[{name}]"} if name.isdecimal() else {step_to(name)})
