"""What a checkpoint holds, as much of it as a page has room for: the lines that `show` prints, one below the other, and
for what is left out the path at which it is shown by itself.

Levels are filled one after the other, so that what stands beside a large part is there however large that is. Only what
is shown is looked at: what a page costs does not grow with the state, once that is read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeAlias
from urllib.parse import quote_plus

from markupsafe import escape

from ..codec.tree import MAX_PATH, Tree, Value, parts_of
from ..rendering.trees import WIDTH, count_of, head_text, label_text, one_line, shown_of
from ..text import is_unicode, safe, shortened

__all__ = ["PARTS", "PIECE", "ROOM", "Node", "Piece", "outlined", "parts_from", "piece_of"]

ROOM: Final = 500_000
"""Bytes of HTML that the trees of a page may take, about."""
PARTS: Final = 100
"""Parts of what is shown by itself that are on one page."""
PIECE: Final = 20_000
"""Characters of a long text, or bytes, that are on one page."""

_KEYS: Final = 200  # keys of a map that are shown; `show` prints all
_DEEP: Final = 30  # levels in one another; browsers give up on some hundreds
_TEXT: Final = 500  # characters of a line: the name of a type may be very long
_MARKUP: Final = 160  # bytes around a line

_Waiting: TypeAlias = "tuple[Node, Tree, int]"
"""A node whose parts are to be shown still, what it stands for, and how deep it lies."""


@dataclass(slots=True)
class Node:
    """A line of a tree, and the lines below it."""

    label: str
    """What the part is called, up to its text; empty: nothing."""
    text: str
    """The value, or what stands above its parts."""
    path: str | None
    """Where it is in the state; None: what leads there is too long for an address."""
    is_cut: bool = False
    """Whether its text is only the beginning of the value."""
    count: int = 0
    """How many parts it has, where those are shown below it, or would be; else 0."""
    first: int = 0
    """How many of them are left out in front of those that are shown."""
    parts: list[Node] = field(default_factory=list["Node"])

    @property
    def next(self) -> int:
        """How many parts there are up to the last one that is shown."""
        return self.first + len(self.parts)

    @property
    def left(self) -> int:
        """How many are left out behind it."""
        return self.count - self.next


@dataclass(slots=True)
class Piece:
    """A stretch of a long text, or of bytes."""

    lines: list[str]
    """Safe to show."""
    first: int
    """What comes before it, in characters or bytes."""
    next: int
    """Where it ends."""
    size: int
    """Of all of it."""
    unit: str
    """What that counts."""


class _Page:
    """The room of a page, as it is used up.

    Args:
        room: bytes of HTML.
        link: bytes that the address of a part takes without its path.
    """

    def __init__(self, room: int, link: int) -> None:
        self._room = room
        self._link = link

    def fill(self, root: Node, tree: Tree, most: int) -> None:
        """Put the parts below a node, `most` of its own, and then theirs."""
        waiting: deque[_Waiting] = deque([(root, tree, 0)])
        while waiting:
            node, inner, depth = waiting.popleft()
            shown = islice(parts_of(inner) or (), node.first, node.first + (_shown(inner) if depth else most))
            for step, part in shown if depth < _DEEP else ():
                child = _node(step, part, _path(node.path, step))
                self._room -= self._size(child)
                if self._room < 0:
                    break
                node.parts.append(child)
                if child.count:
                    waiting.append((child, part, depth + 1))

    def _size(self, node: Node) -> int:
        """The bytes of a node, with a link where it may have one."""
        size = _MARKUP + len(escape(node.label).encode()) + len(escape(node.text).encode())
        return size + self._link + len(quote_plus(node.path)) if node.path and (node.count or node.is_cut) else size


def outlined(tree: Tree, name: str = "", path: str | None = "", *, room: int = ROOM, link: int = 0) -> Node:
    """A value and its parts, as deep and as wide as there is room for.

    Args:
        tree: the value.
        name: what it is called.
        path: where it is in the state; None: neither it nor a part of it has an address.
        room: bytes of HTML.
        link: bytes that the address of a part takes without its path.
    """
    root = _node(name, tree, path)
    if root.count:
        _Page(room, link).fill(root, tree, _shown(tree))
    return root


def parts_from(tree: Tree, path: str, first: int, *, link: int) -> Node:
    """A value that has parts by itself, with those from a number on.

    Args:
        tree: the value.
        path: where it is in the state.
        first: how many of its parts to leave out in front.
        link: bytes that the address of a part takes without its path.
    """
    count = count_of(tree)
    root = Node("", head_text(tree), path, count=count, first=min(first, count))
    _Page(ROOM, link).fill(root, tree, PARTS)
    return root


def piece_of(tree: Tree, first: int) -> Piece:
    """A value that has no parts by itself: all of it, or so much of it as a page shows, from a place on.

    Args:
        tree: the value.
        first: how many characters of it to leave out in front; of bytes, how many of those.
    """
    whole = tree.text if isinstance(tree, Value) else tree if isinstance(tree, str | bytes) else one_line(tree) or ""
    part = whole[first : first + PIECE]
    lines = [safe(line) for line in part.split("\n")] if isinstance(part, str) else [repr(part)]
    unit = "bytes" if isinstance(whole, bytes) else "characters"
    return Piece(lines, min(first, len(whole)), min(first, len(whole)) + len(part), len(whole), unit)


def _node(step: str, tree: Tree, path: str | None) -> Node:
    text = one_line(tree)
    count = count_of(tree) if text is None else 0
    line = shortened(safe(head_text(tree) if text is None else text), _TEXT)
    return Node(label_text(step), line, path, is_cut=_is_cut(tree), count=count)


def _is_cut(tree: Tree) -> bool:
    whole = tree.text if isinstance(tree, Value) else tree
    return isinstance(whole, str | bytes) and len(whole) > WIDTH


def _shown(tree: Tree) -> int:
    return min(shown_of(tree), _KEYS) if isinstance(tree, dict) else shown_of(tree)


def _path(path: str | None, step: str) -> str | None:
    """The path of a part, as `value_at` finds it; None: it is shortened where it is printed, or no Unicode."""
    if path is None or len(path) + len(step) > MAX_PATH or not is_unicode(step):
        return None
    return (path + step).removeprefix(".")
