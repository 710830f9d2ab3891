"""From raw bytes to a tree (`eventckpt.codec.tree`): everything that the codec writes can be shown, and nothing of it
is made alive, not even a value of the standard library beyond those whose text needs it.

The bytes may be hostile. Reading takes time and memory in proportion to them: each node is read once; the path of a
label is a link to its parent's, and becomes a text when a reference asks for it; what is open is kept in a list of
generators, so that depth costs no stack and is limited by `MAX_DEPTH` alone. The nodes are used up: where a list or a
map stands for itself, it becomes the tree's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Set
from contextlib import contextmanager
from itertools import count
from types import GeneratorType
from typing import Any, ClassVar, Final, TypeAlias, cast

from ..errors import CheckpointDecodeError
from ..threads import stop_if_dropped
from . import forms as f
from .common_nodes import equal_nodes, read_what_refers
from .fields import bytes_of, listed, text_of, unknown_kind, without_a_name
from .messagepack import pack
from .root import Root, opened
from .shapes import recorded_shape
from .tree import Form, Opaque, Parts, Ref, Tree, Value, brief, parts_of, step_to
from .tree_labels import Path, TreeLabels
from .type_texts import literal_text, type_text
from .value_texts import ONLY_ARGUMENTS, VALUE_TEXTS

__all__ = ["read_forms", "read_tree", "read_trees", "types_in"]

_Work: TypeAlias = "Generator[tuple[Any, Path], Tree, Tree]"
"""A node that is being read: hands out what it holds and where that is, is sent the tree of it, and ends as a tree."""

_MANY: Final = 100
"""Arguments that each get a step of their own; more are shown as one list."""
_DECIMAL_BITS: Final = 4096
"""Of an int that is shown in decimal; Python refuses to print very long ones that way."""
_SAME: Final = Opaque("the same", 0, "")
"""What stands for the parts that two compared checkpoints have in common."""
_LABELLED: Final = f.REF.encode()
"""In the bytes of every checkpoint with a reference."""
_LOOKED_AT: Final = 8
"""How often the bytes of two checkpoints may be gone through in search of what they have in common, which saves reading
it. A search at every level of a deep checkpoint would cost more than it saves."""

_STEPS: Final = 4096  # after so many it is asked whether anybody waits for the tree still

_ONLY_STR = frozenset({str})


def read_tree(raw: bytes, admits: Callable[[str], bool]) -> dict[str, Tree]:
    """The tree of a checkpoint's raw bytes, with a key for each field of `WorkflowCheckpoint`; the shapes that are
    recorded beside them say how to load it, and are not shown.

    Args:
        raw: what `CheckpointCodec.encode` gave.
        admits: whether to take instances of a type, `"module:qualname"`, apart. It is asked once for each type.

    Raises:
        CheckpointDecodeError: the bytes are damaged, hostile or of an unknown version.
    """
    with _decode_errors():
        root = opened(raw)
        for key in root.shapes or ():
            recorded_shape(root.shapes, key)
        return _Reader(admits, has_labels=_LABELLED in raw).checkpoint(root.fields)


def read_forms(root: Root, admits: Callable[[str], bool]) -> dict[str, Tree]:
    """`read_tree` of a checkpoint that is unpacked, and used up."""
    with _decode_errors():
        return _Reader(admits).checkpoint(root.fields)


def read_trees(one: bytes, other: bytes, admits: Callable[[str], bool]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """The trees of two checkpoints, to be compared: much of what their bytes have in common at the same place, or at
    the ends of two lists, is not read but stands in both as the same `Opaque`. Otherwise as `read_tree`."""
    with _decode_errors():
        ours, theirs = opened(one).fields, opened(other).fields
        same = equal_nodes(ours, theirs, _LOOKED_AT * (len(one) + len(other)))
        for raw, fields in ((one, ours), (other, theirs)):
            if same and _LABELLED in raw:
                read_what_refers(fields, same)
        return (
            _Reader(admits, same, has_labels=_LABELLED in one).checkpoint(ours),
            _Reader(admits, same, has_labels=_LABELLED in other).checkpoint(theirs),
        )


def types_in(raw: bytes) -> set[str]:
    """The names of all types that a checkpoint's raw bytes hold instances of, or name as a class. What is only in the
    shapes of these types, such as the values of an enum's other members, is none of them.

    Raises:
        CheckpointDecodeError: the bytes are not a checkpoint.
    """
    with _decode_errors():
        rest: list[Any] = [opened(raw).fields]
    found: set[str] = set()
    while rest:
        node = rest.pop()
        if type(node) is list:
            if not f.ATOMS.issuperset(map(type, cast("list[Any]", node))):
                rest += cast("list[Any]", node)
        elif type(node) is dict:
            form = cast("dict[Any, Any]", node)
            if not f.ATOMS.issuperset(map(type, form.values())):
                rest += form.values()
            kind = form.get(f.FORM)
            names = (kind, form.get(f.EXPECT), form.get(f.NAME) if kind in _NAME_A_TYPE else None)
            found.update(name for name in names if isinstance(name, str) and ":" in name)
    return found


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


# One checkpoint


class _Reader:
    """Reads one checkpoint."""

    def __init__(self, admits: Callable[[str], bool], same: Set[int] = frozenset(), *, has_labels: bool = True) -> None:
        self._admits = admits
        self._same = same
        self._has_labels = has_labels
        self._admitted: dict[str, bool] = {}
        self._labels = TreeLabels()
        self._label = self._labels.note

    def checkpoint(self, node: Any) -> dict[str, Tree]:
        tree = self._read(node) if id(node) not in self._same else {}
        if type(tree) is not dict:
            raise CheckpointDecodeError("Stored bytes are MessagePack, but not a checkpoint.")
        return tree

    def _read(self, root: Any) -> Tree:
        open_nodes: list[_Work] = []
        begun = self._begun(root, None)
        for step in count():
            if not step % _STEPS:
                stop_if_dropped()
            made: Tree = None
            if not isinstance(begun, GeneratorType):
                made = cast(Tree, begun)
            elif len(open_nodes) > f.MAX_DEPTH:
                raise CheckpointDecodeError(f"Stored values nest deeper than {f.MAX_DEPTH} levels.")
            else:
                open_nodes.append(cast(_Work, begun))
            if not open_nodes:
                return made
            try:
                node, path = open_nodes[-1].send(made)
            except StopIteration as done:
                open_nodes.pop()
                begun = cast(Tree, done.value)
            else:
                begun = self._begun(node, path)
        raise AssertionError("the steps have no end")

    def _begun(self, node: Any, path: Path) -> Tree | _Work:
        kind = f.type_of(node)
        if kind in f.ATOMS:
            return node
        if id(node) in self._same:
            if self._has_labels:
                self._labels.note_all_in(node, path)
            return _SAME
        if kind is list:
            return node if f.ATOMS.issuperset(map(type, node)) else self._list(node, path)
        if kind is not dict:
            raise CheckpointDecodeError(f"A stored value is a {kind.__name__}, which eventckpt never writes.")
        if f.FORM not in node:
            _check_names(node)
            return node if f.ATOMS.issuperset(map(type, node.values())) else self._map(node, path)
        form = node[f.FORM]
        if type(form) is not str:
            raise without_a_name()
        read = self._KINDS.get(form)
        if read is not None:
            if form != f.REF:
                self._label(node, path)
            return read(self, node, path)
        if ":" in form:
            return self._object(form, node, path)
        raise unknown_kind(form)

    def _list(self, items: list[Any], path: Path) -> _Work:
        atoms = f.ATOMS
        for index, item in enumerate(items):
            if item and type(item) not in atoms and not (f.type_of(item) is list and atoms.issuperset(map(type, item))):
                items[index] = yield item, (path, index)  # else it stands for itself
        return items

    def _map(self, node: dict[str, Any], path: Path) -> _Work:
        atoms = f.ATOMS
        for key, item in node.items():
            if item and type(item) not in atoms:
                node[key] = yield item, (path, step_to(key))
        return node

    # Kinds

    def _items(self, node: dict[str, Any], path: Path) -> _Work:
        return (yield from self._list(listed(node, f.ITEMS), path))

    def _tuple(self, node: dict[str, Any], path: Path) -> _Work:
        items = listed(node, f.ITEMS)
        yield from self._list(items, path)
        return Form(f.TUPLE, Parts(items))

    def _set(self, node: dict[str, Any], path: Path) -> _Work:
        """A set: the step to each element says what it is, so that two sets compare by content."""
        parts: list[tuple[str, Tree]] = []
        steps, seen = _Steps(), set[str]()
        for index, item in enumerate(listed(node, f.ITEMS)):
            is_atom = type(item) in f.ATOMS
            element = item if is_atom else (yield item, (path, index))
            text = brief(element)
            if text in seen and is_atom and item == item and "…" not in text:  # several NaN may be in a set
                raise CheckpointDecodeError("A stored set holds an element twice; the event is damaged.")
            seen.add(text)
            parts.append((steps.new(f"{{{text}}}"), element))
        return Form(node[f.FORM], tuple(parts))

    def _dict(self, node: dict[str, Any], path: Path) -> _Work:
        pairs = listed(node, f.PAIRS)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise CheckpointDecodeError("A stored dict is malformed; the event is damaged.")
        if not all(type(key) is str for key, _ in pairs) or len({key for key, _ in pairs}) != len(pairs):
            return Form(f.DICT, tuple((yield from self._pairs(pairs, path))))
        made: dict[str, Tree] = {}
        for key, item in pairs:
            made[key] = item if type(item) in f.ATOMS else (yield item, (path, step_to(key)))
        return made

    def _pairs(self, pairs: list[Any], path: Path) -> Generator[tuple[Any, Path], Tree, list[tuple[str, Tree]]]:
        made: list[tuple[str, Tree]] = []
        for pair in pairs:
            if type(pair) is not list or len(cast("list[Any]", pair)) != 2:
                raise CheckpointDecodeError("A stored dict is malformed; the event is damaged.")
            key = yield pair[0], (path, "(key)")
            step = f"[{brief(key)}]"
            made.append((step, (yield pair[1], (path, step))))
        return _unique(made)

    def _str(self, node: dict[str, Any], path: Path) -> Tree:
        return bytes_of(node).decode("utf-8", "surrogatepass")

    def _int(self, node: dict[str, Any], path: Path) -> Tree:
        number = int.from_bytes(bytes_of(node), "big", signed=True)
        return number if number.bit_length() <= _DECIMAL_BITS else Value(f.INT, hex(number))

    def _bytearray(self, node: dict[str, Any], path: Path) -> Tree:
        return Form(f.BYTEARRAY, ((".bytes", bytes_of(node)),))

    def _array(self, node: dict[str, Any], path: Path) -> Tree:
        return Form(f.ARRAY, ((".typecode", text_of(node, f.NAME)), (".bytes", bytes_of(node))))

    def _named(self, node: dict[str, Any], path: Path) -> Tree:
        """What its name says all of: a class, a name of `typing`, a time zone."""
        return Value(node[f.FORM], text_of(node, f.NAME))

    def _ellipsis(self, node: dict[str, Any], path: Path) -> Tree:
        return Value(f.ELLIPSIS, "...")

    def _enum(self, node: dict[str, Any], path: Path) -> Tree:
        key = text_of(node, f.EXPECT)
        return Value(key, text_of(node, f.NAME)) if self._is_admitted(key) else self._opaque(key, node, path)

    # Type expressions

    def _generic(self, node: dict[str, Any], path: Path) -> _Work:
        origin = text_of(node, f.NAME).removeprefix("builtins:")
        shown = literal_text if origin == "Literal" else type_text
        return (yield from self._expression(node, path, f"{origin}[", ", ", "]", shown))

    def _union(self, node: dict[str, Any], path: Path) -> _Work:
        return (yield from self._expression(node, path, "", " | ", "", type_text))

    def _expression(
        self,
        node: dict[str, Any],
        path: Path,
        start: str,
        between: str,
        end: str,
        text_of: Callable[[Tree], str | None],
    ) -> _Work:
        """A type expression as text; with its parts where one of them has none."""
        items = listed(node, f.ITEMS)
        yield from self._list(items, path)
        texts = [text for item in items if (text := text_of(item)) is not None]
        if len(texts) < len(items):
            name = node.get(f.NAME)
            return Form(node[f.FORM], Parts(items, ((".origin", name),) if type(name) is str else ()))
        return Value(node[f.FORM], f"{start}{between.join(texts)}{end}")

    # Shared references

    def _ref(self, node: dict[str, Any], path: Path) -> Tree | _Work:
        if f.ARGS in node or f.CALL in node or f.KWARGS in node:
            return self._ref_to_own(node, path)
        return Ref(self._labels.target(node.get(f.LABEL)).removeprefix("."))

    def _ref_to_own(self, node: dict[str, Any], path: Path) -> _Work:
        """Of an object that its own arguments hold: it is in there."""
        for field in (f.ARGS, f.CALL, f.KWARGS):
            if field in node:
                yield node[field], path
        return cast(Tree, self._ref({f.FORM: f.REF, f.LABEL: node.get(f.LABEL)}, path))

    # Objects

    def _object(self, name: str, node: dict[str, Any], path: Path) -> Tree | _Work:
        if not self._is_admitted(name):
            return self._opaque(name, node, path)
        text_of = VALUE_TEXTS.get(name)
        if text_of is not None and ONLY_ARGUMENTS.issuperset(node):
            text = text_of(node)
            if text is not None:
                self._labels.note_all_in(node, path)
                return Value(name, text)
        self._label(node, path)
        return self._parts(name, node, path)

    def _parts(self, name: str, node: dict[str, Any], path: Path) -> _Work:
        parts: list[tuple[str, Tree]] = []
        for field in (f.ARGS, f.CALL):
            if field in node:
                parts += yield from self._arguments(listed(node, field), path)
        for field in (f.KWARGS, f.STATE):
            if field in node:
                parts += yield from self._attributes(node[field], path)
        if f.PAIRS in node:
            parts += yield from self._pairs(listed(node, f.PAIRS), path)
        if f.ITEMS not in node:
            return Form(name, tuple(_unique(parts)))
        items = listed(node, f.ITEMS)
        yield from self._list(items, path)
        return Form(name, Parts(items, _unique(parts)))

    def _arguments(self, args: list[Any], path: Path) -> Generator[tuple[Any, Path], Tree, list[tuple[str, Tree]]]:
        if len(args) > _MANY:
            return [("(…)", (yield from self._list(args, (path, "(…)"))))]
        parts: list[tuple[str, Tree]] = []
        for index, arg in enumerate(args):
            step = f"({index})"
            parts.append((step, arg if type(arg) in f.ATOMS else (yield arg, (path, step))))
        return parts

    def _attributes(self, state: Any, path: Path) -> Generator[tuple[Any, Path], Tree, list[tuple[str, Tree]]]:
        parts: list[tuple[str, Tree]] = []
        maps = _maps_in(state)
        if maps is None:
            tree = yield state, (path, ".__state__")
            return list(parts_of(tree) or ()) if type(tree) is dict else [(".__state__", tree)]
        for attributes in maps:
            _check_names(attributes)
            for key, item in attributes.items():
                step = step_to(key)
                parts.append((step, item if not item or type(item) in f.ATOMS else (yield item, (path, step))))
        return parts

    def _opaque(self, name: str, node: dict[str, Any], path: Path) -> Opaque:
        refs = ""
        if self._has_labels:
            self._labels.note_all_in(node, path)
            refs = self._labels.what_refs_mean(node)
        packed = pack(node)
        return Opaque(name, len(packed), hashlib.sha256(packed + refs.encode()).hexdigest())

    def _is_admitted(self, name: str) -> bool:
        if name not in self._admitted:
            self._admitted[name] = self._admits(name)
        return self._admitted[name]

    # Of the class, not of each reader: bound methods would tie a reader, and with it the whole tree, into a cycle that
    # only the garbage collector could free.
    _KINDS: ClassVar[dict[str, Callable[[_Reader, dict[str, Any], Path], Tree | _Work]]] = {
        f.INT: _int,
        f.STR: _str,
        f.BYTEARRAY: _bytearray,
        f.TUPLE: _tuple,
        f.LIST: _items,
        f.DICT: _dict,
        f.SET: _set,
        f.FROZENSET: _set,
        f.TYPE: _named,
        f.ENUM: _enum,
        f.REF: _ref,
        f.ARRAY: _array,
        f.ZONE: _named,
        f.TYPING: _named,
        f.ELLIPSIS: _ellipsis,
        f.GENERIC: _generic,
        f.UNION: _union,
    }


_NAME_A_TYPE: Final = frozenset({f.TYPE, f.GENERIC})
"""Kinds whose name may be the key of a type."""


def _maps_in(state: Any) -> list[dict[str, Any]] | None:
    """The maps of attributes that a state is: one, or, where there are slots, a pair with the slots' own."""
    if type(state) is not dict:
        return None
    state = cast("dict[str, Any]", state)
    if f.FORM not in state:
        return [state]
    items = state.get(f.ITEMS)
    if state[f.FORM] != f.TUPLE or f.LABEL in state or type(items) is not list:
        return None
    items = cast("list[Any]", items)
    if len(items) != 2 or any(item is not None and (type(item) is not dict or f.FORM in item) for item in items):
        return None
    return [item for item in items if item is not None]


def _check_names(node: dict[Any, Any]) -> None:
    if not _ONLY_STR.issuperset(map(type, node)):
        raise CheckpointDecodeError("A stored map has a key that is not text.")


def _unique(parts: list[tuple[str, Tree]]) -> list[tuple[str, Tree]]:
    """The parts, with steps that no two of them share."""
    if len({step for step, _ in parts}) == len(parts):
        return parts
    steps = _Steps()
    return [(steps.new(step), part) for step, part in parts]


class _Steps:
    """Steps that no two parts share: of the same ones, all but the first have a number."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def new(self, step: str) -> str:
        number = self._seen.get(step, 0) + 1
        made = step if number == 1 else f"{step}#{number}"
        while number > 1 and made in self._seen:  # which only a forged name looks like
            number += 1
            made = f"{step}#{number}"
        self._seen[step] = number
        self._seen.setdefault(made, 1)
        return made
