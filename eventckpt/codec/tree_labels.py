"""Where the labels of a checkpoint stand, for the tree: what a reference leads to, as the text of a path.

A path is a link to its parent's, and becomes a text when a reference asks for it.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from .common_nodes import no_atoms
from .labels import leads_nowhere, without_labels
from .tree import extended, step_to

__all__ = ["Path", "TreeLabels"]

Path: TypeAlias = "tuple[Path, str | int] | None"
"""Where a node is: the way to what holds it, and the last step, or its index."""


class TreeLabels:
    """The labels of one checkpoint, noted as they are met."""

    def __init__(self) -> None:
        self._labelled: dict[int, Path] = {}
        self._texts: dict[int, str] = {}
        """Of the paths in `_labelled` that a reference asked for, and of the paths above them, by id."""

    def note(self, node: dict[Any, Any], path: Path) -> None:
        """The label of a form, if it has one, stands at this path.

        Raises:
            CheckpointDecodeError: it stands at another one, too.
        """
        label = node.get(f.LABEL)
        if type(label) is int and self._labelled.setdefault(label, path) is not path:
            raise CheckpointDecodeError("A stored label stands at two places; the event is damaged.")

    def note_all_in(self, node: Any, path: Path) -> None:
        """Something outside may refer to what is in a node that is not taken apart."""
        rest: list[tuple[Any, Path]] = [(node, path)]
        while rest:
            inner, at = rest.pop()
            if type(inner) is list:
                rest += ((item, (at, index)) for index, item in enumerate(no_atoms(cast("list[Any]", inner))))
            elif type(inner) is dict:
                form = cast("dict[Any, Any]", inner)
                is_form = f.FORM in form
                if is_form and form[f.FORM] != f.REF:
                    self.note(form, at)
                for key, item in form.items():
                    if item and type(item) not in f.ATOMS:
                        rest.append((item, _inside(at, key, item) if is_form else (at, step_to(str(key)))))

    def what_refs_mean(self, node: Any) -> str:
        """Where the references in a node lead, in their order. Takes the numbers of labels out of the node, which are
        those of their first use anywhere: they may differ where nothing does, and be the same where much does."""
        inner, refs = without_labels(node)
        said: list[str] = []
        for label in refs:
            if label in inner:  # wherever the whole node stands
                said.append(f"{inner[label]}")
            else:
                said.append(repr(self.target(label)))
        return hashlib.sha256("\n".join(said).encode("utf-8", "surrogatepass")).hexdigest() if said else ""

    def target(self, label: object) -> str:
        """The text of the path that a reference to this label leads to.

        Raises:
            CheckpointDecodeError: it is not there.
        """
        if type(label) is not int or label not in self._labelled:
            raise leads_nowhere(label)
        return self._text_of(self._labelled[label])

    def _text_of(self, path: Path) -> str:
        """The text of a path that `_labelled` keeps, and with it the links above."""
        above: list[tuple[Path, str | int]] = []
        while path is not None and id(path) not in self._texts:
            above.append(path)
            path = path[0]
        text = self._texts[id(path)] if path is not None else ""
        for link in reversed(above):
            step = link[1]
            text = self._texts[id(link)] = extended(text, step if isinstance(step, str) else f"[{step}]")
        return text


def _inside(path: Path, field: object, item: Any) -> Path:
    """Where a field of a form stands: attributes and items are those of the form itself."""
    if field == f.ITEMS or (field == f.STATE and type(item) is dict and f.FORM not in item):
        return path
    return path, f"({field})"
