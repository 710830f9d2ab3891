"""Type expressions as text, for the tree: the parts of `dict[str, int | None]` as somebody would write them."""

from __future__ import annotations

from typing import Final

from . import forms as f
from .tree import Tree, Value

__all__ = ["literal_text", "type_text"]

_TYPE_LIKE: Final = frozenset({f.TYPE, f.GENERIC, f.UNION, f.TYPING, f.ELLIPSIS, "builtins:type"})


def type_text(tree: Tree) -> str | None:
    """An argument of a type expression."""
    if isinstance(tree, Value) and tree.name in _TYPE_LIKE:
        return "None" if tree.name == "builtins:type" else tree.text.removeprefix("builtins:")
    if isinstance(tree, list) and all(isinstance(part, Value) for part in tree):  # the arguments of a Callable
        texts = [type_text(part) for part in tree]
        return f"[{', '.join(text for text in texts if text is not None)}]" if None not in texts else None
    return "None" if tree is None else None


def literal_text(tree: Tree) -> str | None:
    if isinstance(tree, Value):
        return f"{tree.name}.{tree.text}"
    return repr(tree) if type(tree) in f.ATOMS else None
