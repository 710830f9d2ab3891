"""What two checkpoints have in common, found in their bytes before either is read: it need not be shown to compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias, cast

from . import forms as f
from .messagepack import pack

__all__ = ["equal_nodes", "no_atoms", "read_what_refers"]

_END: Final = object()

_Pairs: TypeAlias = Iterator[tuple[Any, Any]]


def equal_nodes(one: Any, other: Any, budget: int) -> set[int]:
    """The ids of lists and maps that are the same, byte for byte, in both; as many as are found within the budget, the
    bytes that may be looked at."""
    same: set[int] = set()
    rest: list[_Pairs] = [iter(((one, other),))]
    while rest and budget > 0:
        pair = next(rest[-1], None)
        if pair is None:
            rest.pop()
            continue
        ours, theirs = pair
        kinds = f.type_of(ours), f.type_of(theirs)
        if kinds == (list, list):
            cost, inside = _look_into_lists(cast("list[Any]", ours), cast("list[Any]", theirs), same)
        elif kinds == (dict, dict):
            cost, inside = _look_into_maps(cast("dict[Any, Any]", ours), cast("dict[Any, Any]", theirs), same)
        else:
            continue
        budget -= cost
        if inside is not None and len(rest) <= f.MAX_DEPTH:
            rest.append(inside)
    return same


def _look_into_lists(ours: list[Any], theirs: list[Any], same: set[int]) -> tuple[int, _Pairs | None]:
    start, behind, cost = _equal_ends(ours, theirs)
    if start == len(ours) == len(theirs):
        same.update((id(ours), id(theirs)))
        return cost, None
    for items in (ours[:start], theirs[:start], ours[len(ours) - behind :], theirs[len(theirs) - behind :]):
        same.update(id(item) for item in items if item and f.type_of(item) in (list, dict))
    middle = range(start, min(len(ours), len(theirs)) - behind)
    return cost, ((ours[index], theirs[index]) for index in middle if ours[index] and theirs[index])


def _look_into_maps(ours: dict[Any, Any], theirs: dict[Any, Any], same: set[int]) -> tuple[int, _Pairs | None]:
    packed, theirs_packed = pack(ours), pack(theirs)
    cost, inside = len(packed) + len(theirs_packed), None
    if packed == theirs_packed:
        same.update((id(ours), id(theirs)))
    elif f.FORM not in ours and f.FORM not in theirs:
        inside = ((item, theirs[key]) for key, item in ours.items() if item and theirs.get(key))
    elif ":" in str(ours.get(f.FORM)) and ours.get(f.FORM) == theirs.get(f.FORM):
        inside = iter(((ours.get(f.STATE), theirs.get(f.STATE)),))
    return cost, inside


def read_what_refers(root: Any, same: set[int]) -> None:
    """Take out of `same` what holds a reference, and put in what is in there and holds none: a label may stand at
    another place in the other checkpoint, and then the same bytes say something else."""
    refer = _referring(root)
    rest: list[Any] = [root]
    while rest:
        node = rest.pop()
        inside = _shown_alone(node)
        if id(node) in same and id(node) in refer:
            same.discard(id(node))
            same.update(map(id, inside))
        if id(node) in refer:
            rest += inside


def _shown_alone(node: Any) -> list[Any]:
    """The lists and maps in a node whose trees are no part of a text that stands for a key or an element."""
    items: list[Any] = []
    if type(node) is list:
        items = cast("list[Any]", node)
    elif type(node) is dict:
        form = cast("dict[Any, Any]", node)
        items = [form.get(f.STATE)] if f.FORM in form else list(form.values())
    return [item for item in items if item and f.type_of(item) in (list, dict)]


def _referring(root: Any) -> set[int]:
    """The ids of the lists and maps that are references, or hold one at any depth."""
    found: set[int] = set()
    around: list[Any] = []
    rest: list[Iterator[Any]] = [iter((root,))]
    while rest:
        node = next(rest[-1], _END)
        if node is _END:
            rest.pop()
            done = around.pop() if around else None
            if around and id(done) in found:
                found.add(id(around[-1]))
        elif type(node) is list or type(node) is dict:
            inner = cast("list[Any] | dict[Any, Any]", node)
            if type(inner) is dict and inner.get(f.FORM) == f.REF:
                found.add(id(inner))
            around.append(inner)
            rest.append(iter(inner.values() if type(inner) is dict else no_atoms(cast("list[Any]", inner))))
    return found


def no_atoms(items: list[Any]) -> list[Any]:
    """The items, or none of them where each is an atom."""
    return [] if f.ATOMS.issuperset(map(type, items)) else items


def _equal_ends(ours: list[Any], theirs: list[Any]) -> tuple[int, int, int]:
    """How many items two lists have in common at the beginning, how many at the end, and what it took to find out."""
    shorter, start, behind, looked_at = min(len(ours), len(theirs)), 0, 0, 0
    for item, other in zip(map(pack, ours), map(pack, theirs), strict=False):
        looked_at += len(item) + len(other)
        if item != other:
            break
        start += 1
    for item, other in zip(map(pack, reversed(ours)), map(pack, reversed(theirs)), strict=False):
        looked_at += len(item) + len(other)
        if item != other or behind == shorter - start:
            break
        behind += 1
    return start, behind, looked_at
