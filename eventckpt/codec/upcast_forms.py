"""A checkpoint that went through its upcasters, as plain stored forms again: for who shows it, or compares it.

A decoder takes what upcasters made for what it is, values by the names of fields; a reader of trees is to know nothing
of them. So here each such value becomes an object of the class that it ends at, with its fields as attributes, and so
does each value that was stored as one of that class in the first place: seen after upcasting, both look alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from .root import Root
from .upcasters import Recorded, Upcast, recorded_of, state_of
from .walk import all_in, key_of, labelled

__all__ = ["as_forms"]

_TYPE_FIELDS: Final = (f.FORM, f.EXPECT, f.BASE)


def as_forms(root: Root, renamed: Mapping[str, str]) -> Root:
    """The checkpoint with plain forms in the place of what upcasters made, and with the names that they lead to.

    Args:
        root: what `upcast` gave.
        renamed: from the key that was stored, the class that its upcasters end at.
    """
    holder: dict[str, Any] = {f.STATE: root.fields}
    _Rewriter(root, renamed).rewrite(holder)
    return Root(holder[f.STATE], root.shapes)


class _Rewriter:
    """Writes one checkpoint anew.

    A function of an upcaster may leave out what a reference elsewhere means: the first reference becomes what was left
    out. Of that a part may stand elsewhere all the same: of two values with one label the second has none.
    """

    def __init__(self, root: Root, renamed: Mapping[str, str]) -> None:
        self._root = root
        self._recorded: dict[str, Recorded] = {}
        self._renamed = renamed
        self._by_names = {*self._renamed, *self._renamed.values()}
        self._kept = set(labelled(root.fields))
        self._dropped: dict[int, dict[str, Any]] = {}
        for node in all_in(root.fields):
            for dropped in node.dropped if f.type_of(node) is Upcast else ():
                self._dropped |= labelled(dropped)
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
            self._kept |= labelled(node).keys()
        kind = node.get(f.FORM)
        if type(kind) is not str or kind == f.REF:
            return dict(node)
        form = dict(node) if type(node) is Upcast else self._named(node)
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

    def _named(self, node: dict[str, Any]) -> dict[str, Any]:
        """A form of a class that upcasters lead from or to, by the names of its fields."""
        key = key_of(node)
        if key is None or key not in self._by_names:
            return dict(node)
        try:
            if key not in self._recorded:
                self._recorded[key] = recorded_of(self._root, key)
            state = state_of(node, self._recorded[key])
        except CheckpointDecodeError:  # it is shown as it is stored
            return dict(node)
        return {f.FORM: key, f.STATE: state} | ({f.LABEL: node[f.LABEL]} if f.LABEL in node else {})
