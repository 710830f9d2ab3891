"""From raw bytes to a tree (`eventckpt.codec.tree`): everything that the codec writes can be shown, and nothing of it
is made alive, not even a value of the standard library beyond those whose text needs it.

The bytes may be hostile. Reading takes time and memory in proportion to them: each node is read once; the path of a
label is a link to its parent's, and becomes a text when a reference asks for it; what is open is kept in a list of
generators, so that depth costs no stack and is limited by `MAX_DEPTH` alone. The nodes are used up: where a list or a
map stands for itself, it becomes the tree's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Set
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta, timezone
from pathlib import PurePosixPath, PureWindowsPath
from types import GeneratorType
from typing import Any, ClassVar, Final, TypeAlias, cast
from uuid import UUID

from ..errors import CheckpointDecodeError
from . import forms as f
from .fields import bytes_of, listed, text_of
from .messagepack import pack, unpack
from .tree import Form, Opaque, Parts, Ref, Tree, Value, brief, extended, parts_of, step_to

__all__ = ["read_tree", "read_trees", "types_in"]

_Path: TypeAlias = "tuple[_Path, str | int] | None"
"""Where a node is: the way to what holds it, and the last step, or its index."""

_Work: TypeAlias = "Generator[tuple[Any, _Path], Tree, Tree]"
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

_END: Final = object()

_ONLY_STR = frozenset({str})


def read_tree(raw: bytes, admits: Callable[[str], bool]) -> dict[str, Tree]:
    """The tree of a checkpoint's raw bytes, with a key for each field of `WorkflowCheckpoint`.

    Args:
        raw: what `CheckpointCodec.encode` gave.
        admits: whether to take instances of a type, `"module:qualname"`, apart. It is asked once for each type.

    Raises:
        CheckpointDecodeError: the bytes are damaged, hostile or of an unknown version.
    """
    with _decode_errors():
        return _Reader(admits, has_labels=_LABELLED in raw).checkpoint(unpack(raw))


def read_trees(one: bytes, other: bytes, admits: Callable[[str], bool]) -> tuple[dict[str, Tree], dict[str, Tree]]:
    """The trees of two checkpoints, to be compared: much of what their bytes have in common at the same place, or at
    the ends of two lists, is not read but stands in both as the same `Opaque`. Otherwise as `read_tree`."""
    with _decode_errors():
        ours, theirs = unpack(one), unpack(other)
        same = _equal_nodes(ours, theirs, _LOOKED_AT * (len(one) + len(other)))
        for raw, root in ((one, ours), (other, theirs)):
            if same and _LABELLED in raw:
                _read_what_refers(root, same)
        return (
            _Reader(admits, same, has_labels=_LABELLED in one).checkpoint(ours),
            _Reader(admits, same, has_labels=_LABELLED in other).checkpoint(theirs),
        )


def types_in(raw: bytes) -> set[str]:
    """The names of all types that a checkpoint's raw bytes hold instances of, or name as a class.

    Raises:
        CheckpointDecodeError: the bytes are not MessagePack.
    """
    with _decode_errors():
        rest: list[Any] = [unpack(raw)]
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


# What two checkpoints have in common


_Pairs: TypeAlias = Iterator[tuple[Any, Any]]


def _equal_nodes(one: Any, other: Any, budget: int) -> set[int]:
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


def _read_what_refers(root: Any, same: set[int]) -> None:
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
            rest.append(iter(inner.values() if type(inner) is dict else _no_atoms(cast("list[Any]", inner))))
    return found


def _no_atoms(items: list[Any]) -> list[Any]:
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


# One checkpoint


class _Reader:
    """Reads one checkpoint."""

    def __init__(self, admits: Callable[[str], bool], same: Set[int] = frozenset(), *, has_labels: bool = True) -> None:
        self._admits = admits
        self._same = same
        self._has_labels = has_labels
        self._admitted: dict[str, bool] = {}
        self._labelled: dict[int, _Path] = {}
        self._texts: dict[int, str] = {}
        """Of the paths in `_labelled` that a reference asked for, and of the paths above them, by id."""

    def checkpoint(self, node: Any) -> dict[str, Tree]:
        tree = self._read(node) if id(node) not in self._same else {}
        if type(tree) is not dict:
            raise CheckpointDecodeError("Stored bytes are MessagePack, but not a checkpoint.")
        return tree

    def _read(self, root: Any) -> Tree:
        open_nodes: list[_Work] = []
        begun = self._begun(root, None)
        while True:
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

    def _begun(self, node: Any, path: _Path) -> Tree | _Work:
        kind = f.type_of(node)
        if kind in f.ATOMS:
            return node
        if id(node) in self._same:
            if self._has_labels:
                self._labels_in(node, path)
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
            raise CheckpointDecodeError("A stored form has a name that is not text.")
        if ":" in form:
            return self._object(form, node, path)
        read = self._KINDS.get(form)
        if read is None:
            raise CheckpointDecodeError(
                f"Stored values use the kind {form[:80]!r}, which this version of eventckpt does not know. "
                "The event was written by a newer version, or is damaged."
            )
        if form != f.REF:
            self._label(node, path)
        return read(self, node, path)

    def _list(self, items: list[Any], path: _Path) -> _Work:
        atoms = f.ATOMS
        for index, item in enumerate(items):
            if item and type(item) not in atoms and not (f.type_of(item) is list and atoms.issuperset(map(type, item))):
                items[index] = yield item, (path, index)  # else it stands for itself
        return items

    def _map(self, node: dict[str, Any], path: _Path) -> _Work:
        atoms = f.ATOMS
        for key, item in node.items():
            if item and type(item) not in atoms:
                node[key] = yield item, (path, step_to(key))
        return node

    # Kinds

    def _items(self, node: dict[str, Any], path: _Path) -> _Work:
        return (yield from self._list(listed(node, f.ITEMS), path))

    def _tuple(self, node: dict[str, Any], path: _Path) -> _Work:
        items = listed(node, f.ITEMS)
        yield from self._list(items, path)
        return Form(f.TUPLE, Parts(items))

    def _set(self, node: dict[str, Any], path: _Path) -> _Work:
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

    def _dict(self, node: dict[str, Any], path: _Path) -> _Work:
        pairs = listed(node, f.PAIRS)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise CheckpointDecodeError("A stored dict is malformed; the event is damaged.")
        if not all(type(key) is str for key, _ in pairs) or len({key for key, _ in pairs}) != len(pairs):
            return Form(f.DICT, tuple((yield from self._pairs(pairs, path))))
        made: dict[str, Tree] = {}
        for key, item in pairs:
            made[key] = item if type(item) in f.ATOMS else (yield item, (path, step_to(key)))
        return made

    def _pairs(self, pairs: list[Any], path: _Path) -> Generator[tuple[Any, _Path], Tree, list[tuple[str, Tree]]]:
        made: list[tuple[str, Tree]] = []
        for pair in pairs:
            if type(pair) is not list or len(cast("list[Any]", pair)) != 2:
                raise CheckpointDecodeError("A stored dict is malformed; the event is damaged.")
            key = yield pair[0], (path, "(key)")
            step = f"[{brief(key)}]"
            made.append((step, (yield pair[1], (path, step))))
        return _unique(made)

    def _str(self, node: dict[str, Any], path: _Path) -> Tree:
        return bytes_of(node).decode("utf-8", "surrogatepass")

    def _int(self, node: dict[str, Any], path: _Path) -> Tree:
        number = int.from_bytes(bytes_of(node), "big", signed=True)
        return number if number.bit_length() <= _DECIMAL_BITS else Value(f.INT, hex(number))

    def _bytearray(self, node: dict[str, Any], path: _Path) -> Tree:
        return Form(f.BYTEARRAY, ((".bytes", bytes_of(node)),))

    def _array(self, node: dict[str, Any], path: _Path) -> Tree:
        return Form(f.ARRAY, ((".typecode", text_of(node, f.NAME)), (".bytes", bytes_of(node))))

    def _named(self, node: dict[str, Any], path: _Path) -> Tree:
        """What its name says all of: a class, a name of `typing`, a time zone."""
        return Value(node[f.FORM], text_of(node, f.NAME))

    def _ellipsis(self, node: dict[str, Any], path: _Path) -> Tree:
        return Value(f.ELLIPSIS, "...")

    def _enum(self, node: dict[str, Any], path: _Path) -> Tree:
        key = text_of(node, f.EXPECT)
        return Value(key, text_of(node, f.NAME)) if self._is_admitted(key) else self._opaque(key, node, path)

    # Type expressions

    def _generic(self, node: dict[str, Any], path: _Path) -> _Work:
        origin = text_of(node, f.NAME).removeprefix("builtins:")
        shown = _literal_text if origin == "Literal" else _type_text
        return (yield from self._expression(node, path, f"{origin}[", ", ", "]", shown))

    def _union(self, node: dict[str, Any], path: _Path) -> _Work:
        return (yield from self._expression(node, path, "", " | ", "", _type_text))

    def _expression(
        self,
        node: dict[str, Any],
        path: _Path,
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

    def _label(self, node: dict[Any, Any], path: _Path) -> None:
        label = node.get(f.LABEL)
        if type(label) is int and self._labelled.setdefault(label, path) is not path:
            raise CheckpointDecodeError("A stored label stands at two places; the event is damaged.")

    def _labels_in(self, node: Any, path: _Path) -> None:
        """Something outside may refer to what is in a node that is not taken apart."""
        rest: list[tuple[Any, _Path]] = [(node, path)]
        while rest:
            inner, at = rest.pop()
            if type(inner) is list:
                rest += ((item, (at, index)) for index, item in enumerate(_no_atoms(cast("list[Any]", inner))))
            elif type(inner) is dict:
                form = cast("dict[Any, Any]", inner)
                is_form = f.FORM in form
                if is_form and form[f.FORM] != f.REF:
                    self._label(form, at)
                for key, item in form.items():
                    if item and type(item) not in f.ATOMS:
                        rest.append((item, _inside(at, key, item) if is_form else (at, step_to(str(key)))))

    def _what_refs_mean(self, node: Any) -> str:
        """Where the references in a node lead, in their order. Takes the numbers of labels out of the node, which are
        those of their first use anywhere: they may differ where nothing does, and be the same where much does."""
        inner, refs = _without_labels(node)
        said: list[str] = []
        for label in refs:
            if label in inner:  # wherever the whole node stands
                said.append(f"{inner[label]}")
            elif label in self._labelled:
                said.append(repr(self._text_of(self._labelled[label])))
            else:
                raise _leads_nowhere(label)
        return hashlib.sha256("\n".join(said).encode("utf-8", "surrogatepass")).hexdigest() if said else ""

    def _ref(self, node: dict[str, Any], path: _Path) -> Tree | _Work:
        if f.ARGS in node or f.CALL in node or f.KWARGS in node:
            return self._ref_to_own(node, path)
        label = node.get(f.LABEL)
        if type(label) is not int or label not in self._labelled:
            raise _leads_nowhere(label)
        return Ref(self._text_of(self._labelled[label]).removeprefix("."))

    def _ref_to_own(self, node: dict[str, Any], path: _Path) -> _Work:
        """Of an object that its own arguments hold: it is in there."""
        for field in (f.ARGS, f.CALL, f.KWARGS):
            if field in node:
                yield node[field], path
        return cast(Tree, self._ref({f.FORM: f.REF, f.LABEL: node.get(f.LABEL)}, path))

    def _text_of(self, path: _Path) -> str:
        """The text of a path that `_labelled` keeps, and with it the links above."""
        above: list[tuple[_Path, str | int]] = []
        while path is not None and id(path) not in self._texts:
            above.append(path)
            path = path[0]
        text = self._texts[id(path)] if path is not None else ""
        for link in reversed(above):
            step = link[1]
            text = self._texts[id(link)] = extended(text, step if isinstance(step, str) else f"[{step}]")
        return text

    # Objects

    def _object(self, name: str, node: dict[str, Any], path: _Path) -> Tree | _Work:
        if not self._is_admitted(name):
            return self._opaque(name, node, path)
        text_of = _TEXTS.get(name)
        if text_of is not None and _ONLY_ARGUMENTS.issuperset(node):
            text = text_of(node)
            if text is not None:
                self._labels_in(node, path)
                return Value(name, text)
        self._label(node, path)
        return self._parts(name, node, path)

    def _parts(self, name: str, node: dict[str, Any], path: _Path) -> _Work:
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

    def _arguments(self, args: list[Any], path: _Path) -> Generator[tuple[Any, _Path], Tree, list[tuple[str, Tree]]]:
        if len(args) > _MANY:
            return [("(…)", (yield from self._list(args, (path, "(…)"))))]
        parts: list[tuple[str, Tree]] = []
        for index, arg in enumerate(args):
            step = f"({index})"
            parts.append((step, arg if type(arg) in f.ATOMS else (yield arg, (path, step))))
        return parts

    def _attributes(self, state: Any, path: _Path) -> Generator[tuple[Any, _Path], Tree, list[tuple[str, Tree]]]:
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

    def _opaque(self, name: str, node: dict[str, Any], path: _Path) -> Opaque:
        refs = ""
        if self._has_labels:
            self._labels_in(node, path)
            refs = self._what_refs_mean(node)
        packed = pack(node)
        return Opaque(name, len(packed), hashlib.sha256(packed + refs.encode()).hexdigest())

    def _is_admitted(self, name: str) -> bool:
        if name not in self._admitted:
            self._admitted[name] = self._admits(name)
        return self._admitted[name]

    # Of the class, not of each reader: bound methods would tie a reader, and with it the whole tree, into a cycle that
    # only the garbage collector could free.
    _KINDS: ClassVar[dict[str, Callable[[_Reader, dict[str, Any], _Path], Tree | _Work]]] = {
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

_TYPE_LIKE: Final = frozenset({f.TYPE, f.GENERIC, f.UNION, f.TYPING, f.ELLIPSIS, "builtins:type"})


def _type_text(tree: Tree) -> str | None:
    """An argument of a type expression."""
    if isinstance(tree, Value) and tree.name in _TYPE_LIKE:
        return "None" if tree.name == "builtins:type" else tree.text.removeprefix("builtins:")
    if isinstance(tree, list) and all(isinstance(part, Value) for part in tree):  # the arguments of a Callable
        texts = [_type_text(part) for part in tree]
        return f"[{', '.join(text for text in texts if text is not None)}]" if None not in texts else None
    return "None" if tree is None else None


def _literal_text(tree: Tree) -> str | None:
    if isinstance(tree, Value):
        return f"{tree.name}.{tree.text}"
    return repr(tree) if type(tree) in f.ATOMS else None


def _inside(path: _Path, field: object, item: Any) -> _Path:
    """Where a field of a form stands: attributes and items are those of the form itself."""
    if field == f.ITEMS or (field == f.STATE and type(item) is dict and f.FORM not in item):
        return path
    return path, f"({field})"


def _without_labels(node: Any) -> tuple[dict[int, int], list[int]]:
    """Take the numbers of labels out of a node: at which of the forms inside each stood, counted in order, and what the
    references inside lead to."""
    inner: dict[int, int] = {}
    refs: list[int] = []
    forms = 0
    rest: list[Any] = [node]
    while rest:
        item = rest.pop()
        if type(item) is list:
            rest += reversed(_no_atoms(cast("list[Any]", item)))
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


def _leads_nowhere(label: object) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"A stored reference leads to {str(label)[:80]}, which is not there.")


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


# Values of the standard library that are best read as text
#
# Each function looks at the arguments that the type's own reduction gives, and at no more: whatever else is stored
# under its name is shown with its parts.

_ONLY_ARGUMENTS: Final = frozenset({f.FORM, f.ARGS, f.CALL, f.STATE, f.LABEL})


def _args_of(node: Any, name: str | None = None) -> list[Any]:
    """The arguments of a form that has nothing else; none where it is not of that name."""
    if type(node) is not dict or f.STATE in node or (name is not None and cast(Any, node).get(f.FORM) != name):
        return []
    args = cast("dict[str, Any]", node).get(f.CALL, cast("dict[str, Any]", node).get(f.ARGS))
    return cast("list[Any]", args) if type(args) is list else []


def _of_complex(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return str(complex(*args)) if [type(arg) for arg in args] == [float, float] else None


def _of_range(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    if len(args) != 3 or any(type(arg) is not int for arg in args):
        return None
    return f"range({args[0]}, {args[1]})" if args[2] == 1 else f"range({args[0]}, {args[1]}, {args[2]})"


def _of_slice(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return f"slice({args[0]}, {args[1]}, {args[2]})" if _are(args, (int, type(None)), 3) else None


def _of_date(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return str(_made(cast(Any, date), args[0])) if _are(args, (bytes,), 1) and len(args[0]) == 4 else None


def _of_time(node: dict[str, Any]) -> str | None:
    return _moment(time, _args_of(node), 6)


def _of_datetime(node: dict[str, Any]) -> str | None:
    return _moment(datetime, _args_of(node), 10)


def _moment(cls: Any, args: list[Any], size: int) -> str | None:
    if not 1 <= len(args) <= 2 or type(args[0]) is not bytes or len(args[0]) != size:
        return None
    zone, name = (None, "") if len(args) == 1 else _zone_of(args[1])
    if len(args) == 2 and zone is None and not name:
        return None
    moment = _made(cls, args[0]) if zone is None else _made(cls, args[0], zone)
    return f"{moment}{f' {name}' if name else ''}{' fold=1' if moment.fold else ''}"


def _zone_of(node: Any) -> tuple[timezone | None, str]:
    """A fixed offset and the name that it was given, or a named zone, whose rules are not read."""
    if type(node) is dict and cast(Any, node).get(f.FORM) == f.ZONE:
        return None, text_of(cast("dict[str, Any]", node), f.NAME)
    return _fixed_zone(_args_of(node, "datetime:timezone"))


def _of_timezone(node: dict[str, Any]) -> str | None:
    zone, name = _fixed_zone(_args_of(node))
    if zone is None:
        return None
    offset = str(_made(timezone, zone.utcoffset(None)))
    return f"{offset} {name}" if name else offset


def _fixed_zone(args: list[Any]) -> tuple[timezone | None, str]:
    offset = _duration(_args_of(args[0], "datetime:timedelta")) if args else None
    if offset is None or not _are(args[1:], (str,), len(args) - 1) or len(args) > 2:
        return None, ""
    return _made(timezone, offset, *args[1:]), repr(args[1]) if len(args) == 2 else ""


def _of_timedelta(node: dict[str, Any]) -> str | None:
    duration = _duration(_args_of(node))
    return None if duration is None else str(duration)


def _duration(args: list[Any]) -> timedelta | None:
    return _made(timedelta, *args) if _are(args, (int,), 3) else None


def _of_one_text(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return args[0] if _are(args, (str,), 1) else None


def _of_fraction(node: dict[str, Any]) -> str | None:
    args = _args_of(node)
    return f"{args[0]}/{args[1]}" if _are(args, (int,), 2) else _of_one_text(node)


def _of_path(cls: type[PurePosixPath | PureWindowsPath]) -> Callable[[dict[str, Any]], str | None]:
    def text_of(node: dict[str, Any]) -> str | None:
        args = _args_of(node)
        return str(cls(*args)) if args and _are(args, (str,), len(args)) else None

    return text_of


def _of_uuid(node: dict[str, Any]) -> str | None:
    state: Any = node.get(f.STATE)
    if type(state) is not dict or list(cast(Any, state)) != ["int"] or f.ARGS in node or f.CALL in node:
        return None
    number: Any = cast(Any, state)["int"]
    if f.type_of(number) is dict and number.get(f.FORM) == f.INT:
        raw = bytes_of(cast("dict[str, Any]", number))
        number = int.from_bytes(raw, "big", signed=True) if len(raw) <= 17 else None
    return str(UUID(int=number)) if type(number) is int and 0 <= number < 1 << 128 else None


def _of_type(node: dict[str, Any]) -> str | None:
    """Of `type` itself only the call that names the type of None is ever stored."""
    return "NoneType" if _args_of(node) == [None] else None


def _are(args: list[Any], types: tuple[type[Any], ...], count: int) -> bool:
    return len(args) == count and all(type(arg) in types for arg in args)


def _made(cls: Callable[..., Any], *args: Any) -> Any:
    """A value of the standard library, or a refusal where its type takes no such arguments."""
    try:
        return cls(*args)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointDecodeError(f"A stored {cls.__name__} is damaged: {error}") from error


_TEXTS: Final[dict[str, Callable[[dict[str, Any]], str | None]]] = {
    "builtins:complex": _of_complex,
    "builtins:range": _of_range,
    "builtins:slice": _of_slice,
    "builtins:type": _of_type,
    "datetime:date": _of_date,
    "datetime:datetime": _of_datetime,
    "datetime:time": _of_time,
    "datetime:timedelta": _of_timedelta,
    "datetime:timezone": _of_timezone,
    "decimal:Decimal": _of_one_text,
    "fractions:Fraction": _of_fraction,
    "pathlib:PurePosixPath": _of_path(PurePosixPath),
    "pathlib:PureWindowsPath": _of_path(PureWindowsPath),
    "uuid:UUID": _of_uuid,
}
