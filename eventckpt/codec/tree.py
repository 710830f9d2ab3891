"""What raw bytes hold, as a plain tree: for people who look at a checkpoint, and for comparing two of them.

Nothing stored is made alive here: an instance is its type's name and its parts. Types that a caller does not admit
are not even taken apart, only named and measured. What can be shared or cyclic in a checkpoint is a reference to
the path where it stands, so a tree is never larger than the bytes it was read from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Set
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from ..allowlist import TypeGate
from ..errors import CheckpointDecodeError, CheckpointTypeNotAllowedError
from . import forms as f
from .decoder import Decoder

__all__ = [
    "Form",
    "Opaque",
    "Ref",
    "Tree",
    "Value",
    "children",
    "parts_at",
    "read_tree",
    "read_trees",
    "types_in",
]


class Form(NamedTuple):
    """A value with parts that is no plain list or map: a tuple, a set, a dict with other keys, an instance."""

    name: str
    """A kind of `eventckpt.codec.forms`, or the type as `"module:qualname"`."""
    parts: tuple[tuple[str, Tree], ...]
    """The step that leads to each part, and the part."""


class Value(NamedTuple):
    """An instance that is best read as text: a date, a number, the member of an enum, a class."""

    name: str
    text: str


class Opaque(NamedTuple):
    """An instance of a type that was not admitted."""

    name: str
    size: int
    """Bytes that it takes as MessagePack."""
    digest: str
    """Of those bytes: tells whether two are the same."""


class Ref(NamedTuple):
    """The same object as the one at `path`."""

    path: str


Tree: TypeAlias = "bool | int | float | str | bytes | list[Tree] | dict[str, Tree] | Form | Value | Opaque | Ref | None"

_Path: TypeAlias = "tuple[_Path, str] | None"
"""Where a node is: the way to what holds it, and the last step."""

_TEXT: Final = frozenset(
    {
        "builtins:complex",
        "builtins:range",
        "builtins:slice",
        "datetime:date",
        "datetime:datetime",
        "datetime:time",
        "datetime:timedelta",
        "datetime:timezone",
        "decimal:Decimal",
        "fractions:Fraction",
        "pathlib:PurePosixPath",
        "pathlib:PureWindowsPath",
        "uuid:UUID",
    }
)
"""Types of the standard library that the framework admits for everyone, and whose `str` says all there is."""

_DECIMAL_BITS: Final = 4096
"""Of an int that is shown in decimal; Python refuses to print very long ones that way."""

_SAME: Final = Opaque("the same", 0, "")
"""What stands for the parts that two compared checkpoints have in common."""
_LABELLED: Final = b"\xa3" + f.REF.encode()
"""In the bytes of every checkpoint with a reference."""

_pack = msgspec.msgpack.Encoder()
_unpack = msgspec.msgpack.Decoder()


def read_tree(raw: bytes, admits: Callable[[str], bool]) -> dict[str, Tree]:
    """The tree of a checkpoint's raw bytes, with a key for each field of `WorkflowCheckpoint`.

    Args:
        raw: what `CheckpointCodec.encode` gave.
        admits: whether to take instances of a type, `"module:qualname"`, apart. It is asked once for each type.

    Raises:
        CheckpointDecodeError: the bytes are damaged, hostile or of an unknown version.
    """
    with _decode_errors():
        return _Reader(admits).checkpoint(_unpack.decode(raw))


def read_trees(one: bytes, other: bytes, admits: Callable[[str], bool]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """The trees of two checkpoints, to be compared: what their bytes have in common at the same place, or at the
    ends of two lists, is not read but stands in both as the same `Opaque`. Otherwise as `read_tree`."""
    with _decode_errors():
        ours, theirs = _unpack.decode(one), _unpack.decode(other)
        same: set[int] = set()
        _note_equal(ours, theirs, same, 0)
        return tuple(  # pyright: ignore[reportReturnType] - two of them
            _Reader(admits, same, has_labels=_LABELLED in raw).checkpoint(nodes)
            for raw, nodes in ((one, ours), (other, theirs))
        )


@contextmanager
def _decode_errors() -> Generator[None, None, None]:
    try:
        yield
    except CheckpointDecodeError:
        raise
    except RecursionError as error:
        raise CheckpointDecodeError("Stored values nest deeper than this call's stack has room for.") from error
    except Exception as error:
        raise CheckpointDecodeError(f"Stored bytes are not a checkpoint: {error}") from error


def _note_equal(one: Any, other: Any, same: set[int], depth: int) -> None:
    """Add the ids of the lists and maps that are the same, byte for byte, in both."""
    kind = f.type_of(one)
    if kind is not type(other) or (kind is not list and kind is not dict) or depth > f.MAX_DEPTH:
        return
    if _pack.encode(one) == _pack.encode(other):
        same.update((id(one), id(other)))
    elif kind is list:
        _note_equal_ends(one, other, same, depth)
    elif one.get(f.FORM) is None and other.get(f.FORM) is None:
        for key, item in one.items():
            _note_equal(item, other.get(key), same, depth + 1)
    elif ":" in str(one.get(f.FORM)) and one[f.FORM] == other.get(f.FORM):
        _note_equal(one.get(f.STATE), other.get(f.STATE), same, depth + 1)


def _note_equal_ends(one: list[Any], other: list[Any], same: set[int], depth: int) -> None:
    ours, theirs = list(map(_pack.encode, one)), list(map(_pack.encode, other))
    shorter, start, behind = min(len(ours), len(theirs)), 0, 0
    while start < shorter and ours[start] == theirs[start]:
        start += 1
    while behind < shorter - start and ours[-1 - behind] == theirs[-1 - behind]:
        behind += 1
    for equal in (one[:start], other[:start], one[len(one) - behind :], other[len(other) - behind :]):
        same.update(id(cast(object, item)) for item in equal if type(item) in (list, dict))
    for index in range(start, shorter - behind):
        _note_equal(one[index], other[index], same, depth + 1)


def types_in(raw: bytes) -> set[str]:
    """The names of all types that a checkpoint's raw bytes hold instances of, or name as a class.

    Raises:
        CheckpointDecodeError: the bytes are not MessagePack.
    """
    try:
        rest: list[Any] = [_unpack.decode(raw)]
    except Exception as error:
        raise CheckpointDecodeError(f"Stored bytes are not a checkpoint: {error}") from error
    found: set[str] = set()
    while rest:
        node = rest.pop()
        if type(node) is list:
            rest += cast(list[Any], node)
        elif type(node) is dict:
            form = cast(dict[str, Any], node)
            rest += form.values()
            names = (form.get(f.FORM), form.get(f.EXPECT), form.get(f.NAME) if form.get(f.FORM) == f.TYPE else None)
            found.update(name for name in names if isinstance(name, str) and ":" in name)
    return found


def children(tree: Tree) -> list[tuple[str, Tree]] | None:
    """The parts of a node with the steps that lead to them; None for a leaf."""
    if isinstance(tree, Form):
        return list(tree.parts)
    if isinstance(tree, (Value, Opaque, Ref)):
        return None
    if isinstance(tree, list):
        return [(f"[{index}]", item) for index, item in enumerate(tree)]
    if isinstance(tree, dict):
        return [(_step(key), item) for key, item in tree.items()]
    return None


def parts_at(tree: Tree, path: str) -> Iterator[Tree]:
    """What stands at a path such as `state.orders[0].price`: one part, or none."""
    rest = path if not path or path[0] in ".[({" else f".{path}"
    if not rest:
        yield tree
        return
    for step, part in children(tree) or ():
        if rest.startswith(step) and (len(rest) == len(step) or rest[len(step)] in ".[({"):
            yield from parts_at(part, rest[len(step) :])


class _Reader:
    """Reads one checkpoint."""

    def __init__(self, admits: Callable[[str], bool], same: Set[int] = frozenset(), *, has_labels: bool = True) -> None:
        self._admits = admits
        self._same = same
        self._has_labels = has_labels
        self._admitted: dict[str, bool] = {}
        self._labelled: dict[int, str] = {}
        self._plain = Decoder(TypeGate(), {})

    def checkpoint(self, node: Any) -> dict[str, Tree]:
        tree = self.node(node, None, 0) if id(node) not in self._same else {}
        if type(tree) is not dict:
            raise CheckpointDecodeError("Stored bytes are MessagePack, but not a checkpoint.")
        return tree

    def node(self, node: Any, path: _Path, depth: int) -> Tree:
        kind = f.type_of(node)
        if kind in f.ATOMS:
            return node
        if id(node) in self._same:
            if self._has_labels:
                self._labels_in(node, path)
            return _SAME
        if depth > f.MAX_DEPTH:
            raise CheckpointDecodeError(f"Stored values nest deeper than {f.MAX_DEPTH} levels.")
        if kind is list:
            return self._list(node, path, depth)
        if kind is not dict:
            raise CheckpointDecodeError(f"A stored value is a {kind.__name__}, which eventckpt never writes.")
        form = node.get(f.FORM)
        if form is None:
            return {self._key(key): self.node(item, (path, _step(key)), depth + 1) for key, item in node.items()}
        if type(form) is not str:
            raise CheckpointDecodeError("A stored form has a name that is not text.")
        return self._object(form, node, path, depth) if ":" in form else self._kind(form, node, path, depth)

    def _list(self, items: list[Any], path: _Path, depth: int) -> list[Tree]:
        made: list[Tree] = []
        for index, item in enumerate(items):
            made.append(item if type(item) in f.ATOMS else self.node(item, (path, f"[{index}]"), depth + 1))
        return made

    def _key(self, key: Any) -> str:
        if type(key) is not str:
            raise CheckpointDecodeError("A stored map has a key that is not text.")
        return key

    # Kinds

    def _kind(self, form: str, node: dict[str, Any], path: _Path, depth: int) -> Tree:
        if form == f.REF:
            return self._ref(node, path, depth)
        self._label(node, path)
        if form == f.LIST:
            return self._list(_listed(node, f.ITEMS), path, depth)
        if form == f.DICT:
            return self._dict(_listed(node, f.PAIRS), path, depth)
        if form == f.TUPLE:
            return Form(f.TUPLE, self._items(node, path, depth))
        if form in (f.SET, f.FROZENSET):
            return Form(form, self._elements(node, path, depth))
        if form == f.STR:
            return cast(str, self._plain.value({**node}))
        if form == f.INT:
            number = cast(int, self._plain.value({**node}))
            return number if number.bit_length() <= _DECIMAL_BITS else Value("int", hex(number))
        if form == f.BYTEARRAY:
            return Form(form, ((".bytes", bytes(self._plain.value({**node}))),))
        if form == f.TYPE:
            return Value(form, str(node.get(f.NAME)))
        if form == f.ENUM:
            key = str(node.get(f.EXPECT))
            return Value(key, str(node.get(f.NAME))) if self._is_admitted(key) else self._opaque(key, node, path)
        raise CheckpointDecodeError(
            f"Stored values use the kind {form[:80]!r}, which this version of eventckpt does not know. "
            "The event was written by a newer version, or is damaged."
        )

    def _items(self, node: dict[str, Any], path: _Path, depth: int) -> tuple[tuple[str, Tree], ...]:
        items = self._list(_listed(node, f.ITEMS), path, depth)
        return tuple((f"[{index}]", item) for index, item in enumerate(items))

    def _elements(self, node: dict[str, Any], path: _Path, depth: int) -> tuple[tuple[str, Tree], ...]:
        """The elements of a set: the step to each says what it is, so that two sets compare by content."""
        elements = self._list(_listed(node, f.ITEMS), path, depth)
        return _unique([(f"{{{_brief(element)}}}", element) for element in elements])

    def _dict(self, pairs: list[Any], path: _Path, depth: int) -> Tree:
        if all(type(pair) is list and len(pair) == 2 for pair in pairs):
            if all(type(key) is str for key, _ in pairs) and len({key for key, _ in pairs}) == len(pairs):
                return {key: self.node(item, (path, _step(key)), depth + 1) for key, item in pairs}
            return Form(f.DICT, self._pairs(pairs, path, depth))
        raise CheckpointDecodeError("A stored dict is malformed; the event is damaged.")

    def _pairs(self, pairs: list[Any], path: _Path, depth: int) -> tuple[tuple[str, Tree], ...]:
        made: list[tuple[str, Tree]] = []
        for pair in pairs:
            if type(pair) is not list or len(cast(list[Any], pair)) != 2:
                raise CheckpointDecodeError("A stored dict is malformed; the event is damaged.")
            key = self.node(pair[0], (path, "(key)"), depth + 1)
            step = f"[{_brief(key)}]"
            made.append((step, self.node(pair[1], (path, step), depth + 1)))
        return _unique(made)

    # Shared references

    def _label(self, node: dict[str, Any], path: _Path) -> None:
        label = node.get(f.LABEL)
        if type(label) is int:
            self._labelled[label] = _text_of(path)

    def _ref(self, node: dict[str, Any], path: _Path, depth: int) -> Tree:
        for field in (f.ARGS, f.CALL, f.KWARGS):  # of an object that its own arguments hold: it is in there
            if field in node:
                self.node(node[field], path, depth + 1)
        label = node.get(f.LABEL)
        if type(label) is not int or label not in self._labelled:
            raise CheckpointDecodeError(f"A stored reference leads to {label!r}, which is not there.")
        return Ref(self._labelled[label])

    # Objects

    def _object(self, name: str, node: dict[str, Any], path: _Path, depth: int) -> Tree:
        if not self._is_admitted(name):
            return self._opaque(name, node, path)
        if name in _TEXT:
            text = self._as_text(node)
            if text is not None:
                return Value(name, text)
        self._label(node, path)
        parts: list[tuple[str, Tree]] = []
        for field in (f.ARGS, f.CALL):
            if field in node:
                args = self._list(_listed(node, field), path, depth)
                parts += [(f"({index})", arg) for index, arg in enumerate(args)]
        if f.KWARGS in node:
            parts += self._attributes(self.node(node[f.KWARGS], path, depth))
        if f.STATE in node:
            parts += self._attributes(self.node(node[f.STATE], path, depth))
        if f.ITEMS in node:
            parts += self._items(node, path, depth)
        if f.PAIRS in node:
            parts += self._pairs(_listed(node, f.PAIRS), path, depth)
        return Form(name, _unique(parts))

    def _attributes(self, state: Tree) -> list[tuple[str, Tree]]:
        if isinstance(state, Form) and state.name == f.TUPLE and len(state.parts) == 2:  # attributes, and slots
            pair = [part for _, part in state.parts]
            if all(isinstance(part, (dict, type(None))) for part in pair):
                return [attribute for part in pair for attribute in children(part) or ()]
        if type(state) is dict:
            return children(state) or []
        return [(".__state__", state)]

    def _as_text(self, node: dict[str, Any]) -> str | None:
        """The text of a value of the standard library, made with the codec's own restrictions."""
        try:
            return str(self._plain.value(_unpack.decode(_pack.encode(node))))
        except (CheckpointDecodeError, CheckpointTypeNotAllowedError):
            return None

    def _opaque(self, name: str, node: dict[str, Any], path: _Path) -> Opaque:
        self._labels_in(node, path)
        packed = _pack.encode(node)
        return Opaque(name, len(packed), hashlib.sha256(packed).hexdigest())

    def _labels_in(self, node: Any, path: _Path) -> None:
        """Something outside may refer to what is in a node that is not taken apart."""
        rest: list[Any] = [node]
        while rest:
            inner = rest.pop()
            if type(inner) is list:
                rest += cast(list[Any], inner)
            elif type(inner) is dict:
                form = cast(dict[str, Any], inner)
                if form.get(f.FORM) != f.REF:
                    self._label(form, path)
                rest += form.values()

    def _is_admitted(self, name: str) -> bool:
        if name not in self._admitted:
            self._admitted[name] = self._admits(name)
        return self._admitted[name]


def _step(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def _text_of(path: _Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(step)
    return "".join(reversed(steps)).removeprefix(".")


def _brief(tree: Tree) -> str:
    """A text that stands for a key or an element; equal values have equal ones."""
    if isinstance(tree, Value):
        return tree.text
    text = repr(tree)
    return text if len(text) <= 60 else f"{text[:40]}…{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _unique(parts: list[tuple[str, Tree]]) -> tuple[tuple[str, Tree], ...]:
    """The parts, with steps that no two of them share."""
    if len({step for step, _ in parts}) == len(parts):
        return tuple(parts)
    seen: dict[str, int] = {}
    made: list[tuple[str, Tree]] = []
    for step, part in parts:
        seen[step] = number = seen.get(step, 0) + 1
        made.append((step if number == 1 else f"{step}#{number}", part))
    return tuple(made)


def _listed(node: dict[str, Any], field: str) -> list[Any]:
    values = node.get(field)
    if type(values) is not list:
        raise CheckpointDecodeError(f"A stored {str(node.get(f.FORM))[:80]!r} is malformed; the event is damaged.")
    return cast(list[Any], values)
