"""What differs between two trees, by path.

Lists are compared from both ends, so that what was put in front of, into or behind a list is one addition, and
what follows it is not reported as changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Final, Literal, NamedTuple, TypeAlias

from ..codec.tree import Form, Parts, Tree, extended, has_parts, ordered_steps, same, same_leaf, step_to
from ..threads import stop_if_dropped

__all__ = ["IDENTITY", "Difference", "Kind", "compared", "differences"]

IDENTITY: Final = frozenset({"checkpoint_id", "previous_checkpoint_id", "timestamp"})
"""Fields of a checkpoint that always differ between two."""

_STEPS: Final = 4096  # after so many it is asked whether anybody waits for the differences still

Kind: TypeAlias = Literal["added", "removed", "changed"]


class Difference(NamedTuple):
    """One place where two trees differ."""

    kind: Kind
    path: str
    """In the second tree; of what was removed, in the first. Shortened where it is very long
    (`eventckpt.codec.tree.MAX_PATH`)."""
    before: Tree
    after: Tree


class _Pair(NamedTuple):
    """Two parts that stand at the same path, still to be compared."""

    path: str
    before: Tree
    after: Tree


_Found: TypeAlias = Iterator[Difference | _Pair]


def compared(before: dict[str, Tree], after: dict[str, Tree]) -> list[Difference]:
    """Where one checkpoint differs from another in more than ids and times. Both trees are used up."""
    for name in IDENTITY:
        before.pop(name, None)
        after.pop(name, None)
    return list(differences(before, after))


def differences(before: Tree, after: Tree, path: str = "") -> Iterator[Difference]:
    """The places where `after` differs from `before`, each as deep as both have the same kind of thing.

    Each part is looked at twice at most, however deep it lies.
    """
    waiting: list[_Found] = [iter((_Pair(path, before, after),))]
    for step in count():
        if not step % _STEPS:
            stop_if_dropped()
        if not waiting:
            return
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
        elif isinstance(found, Difference):
            yield found
        else:
            waiting.append(_between(*found))


def _between(path: str, before: Tree, after: Tree) -> _Found:
    if isinstance(before, list) and isinstance(after, list):
        start, behind = (0, 0) if len(before) == len(after) else _ends(before, after)
        return _of_items(before, after, path, start, behind)
    if isinstance(before, dict) and isinstance(after, dict):
        return _of_maps(before, after, path)
    if isinstance(before, Form) and isinstance(after, Form) and before.name == after.name:
        return _of_forms(before, after, path)
    if not has_parts(before) and not has_parts(after) and same_leaf(before, after):
        return iter(())
    return iter((Difference("changed", _plain(path), before, after),))


def _of_maps(before: dict[str, Tree], after: dict[str, Tree], path: str) -> _Found:
    for key, part in before.items():
        if key not in after:
            yield Difference("removed", _plain(extended(path, step_to(key))), part, None)
        elif part is not after[key]:
            yield from _compared(part, after[key], path, step_to(key))
    for key, part in after.items():
        if key not in before:
            yield Difference("added", _plain(extended(path, step_to(key))), None, part)


def _of_forms(before: Form, after: Form, path: str) -> _Found:
    ours, theirs = before.parts, after.parts
    if isinstance(ours, Parts) and isinstance(theirs, Parts):
        yield from _of_parts(dict(ours.named), dict(theirs.named), path)
        yield from _of_items(ours.items, theirs.items, path)
    else:
        yield from _of_parts(dict(ours), dict(theirs), path)
    yield from _of_order(ordered_steps(before), ordered_steps(after), path)


def _of_order(before: list[str], after: list[str], path: str) -> _Found:
    """Whether the keys that both have stand in another order, where that is a part of what they are in."""
    both = set(before).intersection(after)
    was, now = ([step for step in steps if step in both] for steps in (before, after))
    if was != now:
        yield Difference("changed", _plain(extended(path, ".(order)")), list[Tree](was), list[Tree](now))


def _of_parts(before: dict[str, Tree], after: dict[str, Tree], path: str) -> _Found:
    for step, part in before.items():
        if step not in after:
            yield Difference("removed", _plain(extended(path, step)), part, None)
        elif part is not after[step]:
            yield from _compared(part, after[step], path, step)
    for step, part in after.items():
        if step not in before:
            yield Difference("added", _plain(extended(path, step)), None, part)


def _of_items(before: list[Tree], after: list[Tree], path: str, start: int = 0, behind: int = 0) -> _Found:
    both = min(len(before), len(after)) - behind
    for index in range(start, both):
        if before[index] is not after[index]:
            yield from _compared(before[index], after[index], path, f"[{index}]")
    for index in range(both, len(before) - behind):
        yield Difference("removed", _plain(extended(path, f"[{index}]")), before[index], None)
    for index in range(both, len(after) - behind):
        yield Difference("added", _plain(extended(path, f"[{index}]")), None, after[index])


def _compared(before: Tree, after: Tree, path: str, step: str) -> _Found:
    """Two parts: compared at once where neither has parts of its own, which most have not."""
    if not before and not after and type(before) is type(after):
        return
    if has_parts(before) or has_parts(after):
        yield _Pair(extended(path, step), before, after)
    elif not same_leaf(before, after):
        yield Difference("changed", _plain(extended(path, step)), before, after)


def _ends(before: list[Tree], after: list[Tree]) -> tuple[int, int]:
    """How many items two lists of different lengths have in common at the beginning, and how many at the end."""
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and same(before[start], after[start]):
        start += 1
    behind = 0
    while behind < shorter - start and same(before[-1 - behind], after[-1 - behind]):
        behind += 1
    return start, behind


def _plain(path: str) -> str:
    return path.removeprefix(".")
