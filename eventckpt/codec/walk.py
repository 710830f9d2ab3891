"""Going through stored forms, of which none is made alive: what is in them, and what references mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from . import forms as f

__all__ = ["all_in", "key_of", "labelled", "share_texts"]


def all_in(node: Any) -> Iterator[Any]:
    """A node and all that is in it."""
    rest = [node]
    while rest:
        each = rest.pop()
        yield each
        if isinstance(each, dict):
            rest += cast("dict[str, Any]", each).values()
        elif type(each) is list:
            rest += cast("list[Any]", each)


def share_texts(node: dict[str, Any], texts: dict[str, str]) -> None:
    """Put, for each text in a node that equals one met before, that one in its place.

    Args:
        node: the texts in it and in all that is in it are replaced; keys are not.
        texts: those met before, each by itself; new ones are added.
    """
    rest: list[Any] = [node]  # maps and lists
    while rest:
        each = rest.pop()
        items = cast("Iterable[tuple[Any, Any]]", each.items() if type(each) is dict else enumerate(each))
        for key, value in items:
            kind = f.type_of(value)
            if kind is str:
                each[key] = texts.setdefault(value, value)
            elif kind is dict or kind is list:
                rest.append(value)


def labelled(node: Any) -> dict[int, dict[str, Any]]:
    """The forms in a node that a reference may mean, by their labels."""
    found: dict[int, dict[str, Any]] = {}
    for each in all_in(node):
        if isinstance(each, dict):
            form = cast("dict[str, Any]", each)
            if f.FORM in form and form[f.FORM] != f.REF and type(label := form.get(f.LABEL)) is int:
                found[label] = form
    return found


def key_of(form: dict[str, Any]) -> str | None:
    """The key of the class that a form is an instance of; None: of none."""
    kind = form.get(f.FORM)
    key = form.get(f.EXPECT) if kind == f.ENUM else kind
    return key if type(key) is str and ":" in key else None
