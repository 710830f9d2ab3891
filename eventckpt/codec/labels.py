"""The labels that mark a value as one that is met again: put into a tree of natives, and taken out of one."""

from __future__ import annotations

from typing import Any, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from .common_nodes import no_atoms

__all__ = ["leads_nowhere", "with_labels", "without_labels"]


def with_labels(root: Any, shared: dict[int, int]) -> Any:
    """The tree with its lists and maps that are referred to turned into forms that carry the label.

    Args:
        root: the tree.
        shared: by the id of such a list or map, its label.
    """
    top = [root]
    rest: list[Any] = [top]
    while rest:
        node = rest.pop()
        for key, item in enumerate(cast(list[Any], node)) if type(node) is list else node.items():
            kind = f.type_of(item)
            if kind is not list and kind is not dict:
                continue
            label = shared.get(id(item))
            if label is None:
                rest.append(item)
            elif kind is list:
                node[key] = {f.FORM: f.LIST, f.ITEMS: item, f.LABEL: label}
                rest.append(item)
            else:
                pairs = [[name, value] for name, value in item.items()]
                node[key] = {f.FORM: f.DICT, f.PAIRS: pairs, f.LABEL: label}
                rest.extend(pairs)
    return top[0]


def without_labels(node: Any) -> tuple[dict[int, int], list[int]]:
    """Take the numbers of labels out of a node: at which of the forms inside each stood, counted in order, and what the
    references inside lead to."""
    inner: dict[int, int] = {}
    refs: list[int] = []
    forms = 0
    rest: list[Any] = [node]
    while rest:
        item = rest.pop()
        if type(item) is list:
            rest += reversed(no_atoms(cast("list[Any]", item)))
        elif type(item) is dict:
            form = cast("dict[Any, Any]", item)
            if f.FORM in form:
                forms += 1
                label = form.pop(f.LABEL, None)
                if form[f.FORM] == f.REF:
                    refs.append(label)
                elif type(label) is int:
                    inner[label] = forms
            rest += reversed(form.values())
    return inner, refs


def leads_nowhere(label: object) -> CheckpointDecodeError:
    """What to raise where a reference has no label to lead to."""
    return CheckpointDecodeError(f"A stored reference leads to {str(label)[:80]}, which is not there.")
