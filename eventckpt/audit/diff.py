"""What differs between two trees, by path.

Lists are compared from both ends, so that what was put in front of, into or behind a list is one addition, and
what follows it is not reported as changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from ..codec.tree import Form, Tree, children

__all__ = ["IDENTITY", "Difference", "differences"]

IDENTITY: Final = frozenset({"checkpoint_id", "previous_checkpoint_id", "timestamp"})
"""Fields of a checkpoint that always differ between two."""

Kind: TypeAlias = Literal["added", "removed", "changed"]


class Difference(NamedTuple):
    """One place where two trees differ."""

    kind: Kind
    path: str
    """In the second tree; of what was removed, in the first."""
    before: Tree
    after: Tree


def differences(before: Tree, after: Tree, path: str = "") -> Iterator[Difference]:
    """The places where `after` differs from `before`, each as deep as both have the same kind of thing."""
    if isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, path)
        return
    ours, theirs = children(before), children(after)
    if ours is not None and theirs is not None and _kind(before) == _kind(after):
        yield from _of_parts(dict(ours), dict(theirs), path)
    elif not _same_leaf(before, after):
        yield Difference("changed", _plain(path), before, after)


def _of_parts(before: dict[str, Tree], after: dict[str, Tree], path: str) -> Iterator[Difference]:
    for step, part in before.items():
        if step not in after:
            yield Difference("removed", _plain(path + step), part, None)
        else:
            yield from differences(part, after[step], path + step)
    for step, part in after.items():
        if step not in before:
            yield Difference("added", _plain(path + step), None, part)


def _of_lists(before: list[Tree], after: list[Tree], path: str) -> Iterator[Difference]:
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and _same(before[start], after[start]):
        start += 1
    behind = 0
    while behind < shorter - start and _same(before[-1 - behind], after[-1 - behind]):
        behind += 1
    ours, theirs = before[start : len(before) - behind], after[start : len(after) - behind]
    both = min(len(ours), len(theirs))
    for index in range(both):
        yield from differences(ours[index], theirs[index], f"{path}[{start + index}]")
    for index in range(both, len(ours)):
        yield Difference("removed", _plain(f"{path}[{start + index}]"), ours[index], None)
    for index in range(both, len(theirs)):
        yield Difference("added", _plain(f"{path}[{start + index}]"), None, theirs[index])


def _same(before: Tree, after: Tree) -> bool:
    if type(before) is not type(after):
        return False
    ours, theirs = children(before), children(after)
    if ours is None or theirs is None:
        return _same_leaf(before, after)
    if len(ours) != len(theirs) or _kind(before) != _kind(after):
        return False
    if isinstance(before, dict):
        ours, theirs = sorted(ours, key=_first), sorted(theirs, key=_first)
    return all(
        step == other and _same(part, counterpart)
        for (step, part), (other, counterpart) in zip(ours, theirs, strict=True)
    )


def _same_leaf(before: Tree, after: Tree) -> bool:
    if type(before) is not type(after):
        return False
    if isinstance(before, float) and isinstance(after, float):
        return before == after or (math.isnan(before) and math.isnan(after))
    return before == after


def _kind(tree: Tree) -> object:
    return tree.name if isinstance(tree, Form) else type(tree)


def _first(pair: tuple[str, Tree]) -> str:
    return pair[0]


def _plain(path: str) -> str:
    return path.removeprefix(".")
