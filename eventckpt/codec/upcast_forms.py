"""A checkpoint that went through its upcasters, as plain stored forms again: for who shows it, or compares it.

A decoder takes what upcasters made for what it is, values by the names of fields; a reader of trees is to know nothing
of them. So here each such value becomes an object of the class that it ends at, with its fields as attributes, and so
does each value that was stored as one of that class in the first place: seen after upcasting, both look alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from .root import Root
from .upcasters import Chain, Recorded, Upcast, recorded_of, state_of

__all__ = ["as_forms"]

_TYPE_FIELDS: Final = (f.FORM, f.EXPECT, f.BASE)


def as_forms(root: Root, chains: Mapping[str, Chain]) -> Root:
    """The checkpoint with plain forms in the place of what upcasters made, and with the names that they lead to.

    Args:
        root: what `upcast` gave.
        chains: the upcasters that it went through, by the key that was stored.
    """
    holder: dict[str, Any] = {f.STATE: root.fields}
    _Rewriter(root, chains).rewrite(holder)
    return Root(holder[f.STATE], root.shapes)


class _Rewriter:
    """Writes one checkpoint anew.

    A function of an upcaster may leave out what a reference elsewhere means, and put one value in two places: the first
    reference becomes what was left out, and of two values with one label the second has none.
    """

    def __init__(self, root: Root, chains: Mapping[str, Chain]) -> None:
        self._root = root
        self._recorded: dict[str, Recorded] = {}
        self._renamed = {key: chain.target for key, chain in chains.items()}
        self._by_names = {*self._renamed, *self._renamed.values()}
        self._kept = set(_labelled(root.fields))
        self._dropped: dict[int, dict[str, Any]] = {}
        for node in _dicts(root.fields):
            for dropped in node.dropped if type(node) is Upcast else ():
                self._dropped |= _labelled(dropped)
        self._written = set[int]()

    def rewrite(self, holder: dict[str, Any]) -> None:
        """Go through what a dict holds, in the order in which it is read."""
        rest: list[tuple[Any, Any]] = [(holder, f.STATE)]
        while rest:
            container, at = rest.pop()
            node = container[at]
            if isinstance(node, dict):
                form = container[at] = self._form(cast("dict[str, Any]", node))
                rest += reversed([(form, name) for name, item in form.items() if isinstance(item, (dict, list))])
            else:
                items = container[at] = list(cast("list[Any]", node))
                rest += reversed([(items, index) for index, item in enumerate(items) if isinstance(item, (dict, list))])

    def _form(self, node: dict[str, Any]) -> dict[str, Any]:
        label = node.get(f.LABEL)
        if node.get(f.FORM) == f.REF and label not in self._kept and label in self._dropped:
            node = self._dropped[label]
            self._kept |= _labelled(node).keys()
        kind = node.get(f.FORM)
        if type(kind) is not str or kind == f.REF:
            return dict(node)
        form = dict(node) if type(node) is Upcast else self._named(kind, node)
        for field in _TYPE_FIELDS:
            if type(form.get(field)) is str:
                form[field] = self._renamed.get(form[field], form[field])
        if kind in (f.TYPE, f.GENERIC) and type(form.get(f.NAME)) is str:
            form[f.NAME] = self._renamed.get(form[f.NAME], form[f.NAME])
        if label in self._written:
            del form[f.LABEL]
        elif type(label) is int:
            self._written.add(label)
        return form

    def _named(self, kind: str, node: dict[str, Any]) -> dict[str, Any]:
        """A form of a class that upcasters lead from or to, by the names of its fields."""
        key = node.get(f.EXPECT) if kind == f.ENUM else kind
        if type(key) is not str or key not in self._by_names:
            return dict(node)
        try:
            if key not in self._recorded:
                self._recorded[key] = recorded_of(self._root, key)
            state = state_of(node, self._recorded[key])
        except CheckpointDecodeError:  # it is shown as it is stored
            return dict(node)
        return {f.FORM: key, f.STATE: state} | ({f.LABEL: node[f.LABEL]} if f.LABEL in node else {})


def _labelled(root: Any) -> dict[int, dict[str, Any]]:
    """The forms in a tree that a reference may mean, by their labels."""
    return {
        form[f.LABEL]: form
        for form in _dicts(root)
        if f.FORM in form and form[f.FORM] != f.REF and type(form.get(f.LABEL)) is int
    }


def _dicts(root: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a tree."""
    rest: list[Any] = [root]
    while rest:
        node = rest.pop()
        if isinstance(node, dict):
            form = cast("dict[str, Any]", node)
            yield form
            rest += [item for item in form.values() if isinstance(item, (dict, list))]
        elif type(node) is list:
            rest += [item for item in cast("list[Any]", node) if isinstance(item, (dict, list))]
