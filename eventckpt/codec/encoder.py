"""From live values to a tree of natives: the half of the codec that runs at save.

Objects are taken apart by their own copy protocol (`__reduce_ex__(4)`), the same that the framework's stores use,
but what comes out must be data: an allowed type and its arguments, never another callable.

"Native position" below means: reached from the checkpoint through plain dicts and lists only. There
`FileCheckpointStorage` writes JSON, everywhere else one opaque blob, and its decisions differ between the two.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterable
from enum import EnumMeta
from types import NoneType
from typing import Any, cast

import msgspec

from ..allowlist import TypeGate, type_key
from ..errors import CheckpointEncodeError, CheckpointTypeNotAllowedError
from . import forms as f

__all__ = ["Encoder"]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement
_NO_IDENTITY = frozenset({"datetime:datetime", "datetime:date", "datetime:time", "datetime:timedelta",
                          "datetime:timezone", "uuid:UUID", "decimal:Decimal", "builtins:complex",
                          "builtins:range", "builtins:slice"})  # fmt: skip
"""Immutable values: written out each time, so that equal checkpoints give equal bytes however their values came
to be the same object."""

_ONLY_STR = frozenset({str})

_sort_bytes = msgspec.msgpack.Encoder()

Handler = Callable[[Any, int, bool], Any]


class Encoder:
    """Encodes one checkpoint.

    Args:
        gate: the allow-list.
        ordinary: keys of classes already seen to use the default copy protocol; shared between encoders of a gate.
        careful: also look at each int and str for what MessagePack cannot hold. Few checkpoints need it.
    """

    def __init__(self, gate: TypeGate, ordinary: dict[type[Any], str], *, careful: bool) -> None:
        self._gate = gate
        self._ordinary = ordinary
        self._atoms = f.ATOMS - f.LARGE_ATOMS if careful else f.ATOMS
        self._nodes: dict[int, Any] = {}
        """id of a value → its node, in the order of the walk."""
        self._kept: list[object] = []
        """Temporaries of the copy protocol, kept alive so that their ids stay theirs."""
        self._open: set[int] = set()
        """ids of the plain containers, in native position, that are being walked."""
        self._shared: dict[int, int] = {}
        """id of a list or map node that something refers to → its label."""
        self._labels = 0
        self._comparing = False
        self._handlers: dict[type[Any], Handler] = {
            list: self._list,
            dict: self._dict,
            tuple: self._tuple,
            set: self._set,
            frozenset: self._set,
            bytearray: self._bytearray,
            int: self._int,
            str: self._str,
        }

    def tree(self, value: Any) -> Any:
        """The tree of natives that stands for `value`.

        Raises:
            CheckpointEncodeError: the value cannot be stored; `path` says where it is.
        """
        node = self._node(value, 0, True)
        return self._with_labels(node) if self._shared else node

    def _node(self, value: Any, depth: int, native: bool) -> Any:
        cls = f.type_of(value)
        if cls in self._atoms:
            return value
        return (self._handlers.get(cls) or self._object)(value, depth, native)

    # Plain containers

    def _list(self, value: list[Any], depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, native)
        if self._atoms.issuperset(map(type, value)):
            self._nodes[id(value)] = value
            return value
        node: list[Any] = []
        self._nodes[id(value)] = node
        if native:
            self._open.add(id(value))
        self._fill_list(node, value, depth, native)
        self._open.discard(id(value))
        return node

    def _fill_list(self, node: list[Any], values: Iterable[Any], depth: int, native: bool) -> None:
        atoms, handlers, other, type_of = self._atoms, self._handlers, self._object, f.type_of
        depth = _deeper(depth)
        try:
            for item in values:
                cls = type_of(item)
                node.append(item if cls in atoms else (handlers.get(cls) or other)(item, depth, native))
        except CheckpointEncodeError as error:
            error.path.insert(0, f"[{len(node)}]")
            raise

    def _dict(self, value: dict[Any, Any], depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, native)
        if not self._has_plain_keys(value):
            node: Any = {f.FORM: f.DICT}
            self._nodes[id(value)] = node
            if native:
                self._open.add(id(value))
            node[f.PAIRS] = self._pairs(value.items(), depth, native)
        elif self._atoms.issuperset(map(type, value.values())):
            node = value
            self._nodes[id(value)] = node
        else:
            node = dict(value)
            self._nodes[id(value)] = node
            if native:
                self._open.add(id(value))
            self._replace_items(node, value, depth, native, "[{!r}]")
        self._open.discard(id(value))
        return node

    def _has_plain_keys(self, value: dict[Any, Any]) -> bool:
        if f.FORM in value or not _ONLY_STR.issuperset(map(type, value)):
            return False
        return str in self._atoms or all(map(_is_unicode, value))

    def _replace_items(self, node: dict[str, Any], value: dict[str, Any], depth: int, native: bool, step: str) -> None:
        """Put nodes in the place of the items that need one; `node` is a copy of `value`."""
        atoms, handlers, other, type_of = self._atoms, self._handlers, self._object, f.type_of
        depth = _deeper(depth)
        key = ""
        try:
            for key, item in value.items():
                if item is not None and (cls := type_of(item)) not in atoms:
                    node[key] = (handlers.get(cls) or other)(item, depth, native)
        except CheckpointEncodeError as error:
            error.path.insert(0, step.format(key))
            raise

    def _pairs(self, items: Iterable[tuple[Any, Any]], depth: int, native: bool) -> list[Any]:
        pairs: list[Any] = []
        depth = _deeper(depth)
        for key, item in items:
            try:
                pairs.append([self._node(key, depth, native), self._node(item, depth, native)])
            except CheckpointEncodeError as error:
                error.path.insert(0, f"[{type(key).__name__} key {len(pairs)}]")
                raise
        return pairs

    def _tuple(self, value: tuple[Any, ...], depth: int, native: bool) -> Any:
        node: list[Any] = []
        self._fill_list(node, value, depth, False)
        return {f.FORM: f.TUPLE, f.ITEMS: node}

    def _set(self, value: set[Any] | frozenset[Any], depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, False)
        mutable = isinstance(value, set)
        node: dict[str, Any] = {f.FORM: f.SET if mutable else f.FROZENSET}
        if mutable:
            self._nodes[id(value)] = node
        node[f.ITEMS] = self._in_fixed_order(value, _deeper(depth))
        return node

    def _in_fixed_order(self, values: set[Any] | frozenset[Any], depth: int) -> list[Any]:
        types = cast("set[type[Any]]", set(map(type, values)))
        if types <= {int} or types <= {str}:
            return [self._node(value, depth, False) for value in sorted(values)]
        ordered = sorted(((self._sort_key(value, depth), value) for value in values), key=lambda pair: pair[0][0])
        return [self._node(value, depth, False) if node is None else node for (_, node), value in ordered]

    def _sort_key(self, value: Any, depth: int) -> tuple[bytes, Any | None]:
        """The bytes that place `value` in its set, and its node where that can be used as it is."""
        mark, outer, self._comparing = len(self._nodes), self._comparing, True
        node = self._node(value, depth, False)
        self._comparing = outer
        untouched = len(self._nodes) == mark
        while len(self._nodes) > mark:
            self._nodes.popitem()
        return _sort_bytes.encode(node), node if untouched and not outer and f.REF not in str(node) else None

    # Natives that MessagePack holds only in part

    def _int(self, value: int, depth: int, native: bool) -> Any:
        if -(1 << 63) <= value < 1 << 64:
            return value
        return {f.FORM: f.INT, f.RAW: value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)}

    def _str(self, value: str, depth: int, native: bool) -> Any:
        return value if _is_unicode(value) else {f.FORM: f.STR, f.RAW: value.encode("utf-8", "surrogatepass")}

    def _bytearray(self, value: bytearray, depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, False)
        node = self._nodes[id(value)] = {f.FORM: f.BYTEARRAY, f.RAW: bytes(value)}
        return node

    # Objects

    def _object(self, value: Any, depth: int, native: bool) -> Any:
        cls = f.type_of(value)
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, False)
        key = self._ordinary.get(cls)
        if key is None:
            if isinstance(value, type):
                return self._type(cast(type[Any], value))
            if native and isinstance(value, (str, int, float)) and not self._admits(cls):
                return self._node(_plain(value), depth, native)
            if not _is_ordinary(cls):
                return self._reduced(value, depth, native)
            key = self._ordinary[cls] = self._gate.key_of(cls)
        node: dict[str, Any] = {f.FORM: key}
        self._nodes[id(value)] = node
        try:
            state = value.__getstate__()
        except Exception as error:
            raise _unreadable(cls, error) from error
        if state is not None:
            node[f.STATE] = self._state(state, depth)
        return node

    def _state(self, state: Any, depth: int) -> Any:
        self._kept.append(state)
        if f.type_of(state) is not dict or not self._has_plain_keys(state):
            return self._node(state, _deeper(depth), False)
        if self._atoms.issuperset(map(type, state.values())):
            return state
        node: dict[str, Any] = dict(state)
        self._replace_items(node, state, depth, False, ".{}")
        return node

    def _reduced(self, value: Any, depth: int, native: bool) -> Any:
        """A node for an object that says itself how it is copied."""
        cls = f.type_of(value)
        reducer = cast("Callable[[Any], Any] | None", copyreg.dispatch_table.get(cls))
        try:
            reduced: Any = reducer(value) if reducer else value.__reduce_ex__(4)
        except Exception as error:
            raise _unreadable(cls, error) from error
        if not isinstance(reduced, tuple):
            raise _not_data(cls, f"reduces to the global {reduced!r}")
        self._kept.append(cast(object, reduced))
        build, args, state, items, pairs, setter = cast("tuple[Any, ...]", (*reduced, *[None] * 6))[:6]
        if setter is not None:
            raise _not_data(cls, "brings a function that restores its state")
        node = self._built_by(cls, build, args, native)
        has_identity = f.FORM in node and node[f.FORM] not in _NO_IDENTITY and not isinstance(cls, EnumMeta)
        if has_identity:
            self._nodes[id(value)] = node
        # The target's arguments, items and state may lead back to it, so they come after its node is known.
        for field in (f.ARGS, f.CALL):
            if field in node:
                node[field] = self._arguments(node[field], depth)
        if f.KWARGS in node:
            node[f.KWARGS] = self._state(node[f.KWARGS], depth)
        if items is not None:
            node[f.ITEMS] = []
            self._fill_list(node[f.ITEMS], self._keep(items), depth, False)
        if pairs is not None:
            node[f.PAIRS] = self._pairs(cast(Iterable[tuple[Any, Any]], self._keep(pairs)), depth, False)
        if state is not None:
            node[f.STATE] = self._state(state, depth)
        return node

    def _arguments(self, args: Iterable[Any], depth: int) -> list[Any]:
        node: list[Any] = []
        self._fill_list(node, args, depth, False)
        return node

    def _keep(self, values: Iterable[Any]) -> list[Any]:
        listed = list(values)
        self._kept.append(listed)
        return listed

    def _built_by(self, cls: type[Any], build: Any, args: Any, native: bool) -> dict[str, Any]:
        """The beginning of a node: how the object comes to be. Arguments are still live values."""
        if build is copyreg.__newobj__ or build is copyreg.__newobj_ex__:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] - undocumented names of pickle's protocol
            if args[0] is not cls:
                raise _not_data(cls, f"is built as {args[0]!r}")
            node: dict[str, Any] = {f.FORM: self._gate.key_of(cls)}
            positional, keywords = (args[1], args[2]) if build is not copyreg.__newobj__ else (args[1:], None)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - as above
            if positional:
                node[f.ARGS] = positional
            if keywords:
                node[f.KWARGS] = keywords
            return node
        if build is copyreg._reconstructor:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - what object.__reduce__ returns
            target, base, state = args
            return {f.FORM: self._gate.key_of(target), f.BASE: self._gate.key_of(base), f.ARGS: [state]}
        if build is getattr and isinstance(args[0], EnumMeta) and args[1] in args[0].__members__:
            return {f.FORM: f.ENUM, f.EXPECT: self._gate.key_of(args[0]), f.NAME: args[1]}
        if not isinstance(build, type):
            raise _not_data(cls, f"is rebuilt by calling {build!r}, which is not a type")
        node = {f.FORM: self._gate.key_of(cast(type[Any], build)), f.CALL: args}
        if native and build is not cls:
            node[f.EXPECT] = type_key(cls)
        return node

    def _type(self, value: type[Any]) -> Any:
        if value is NoneType:
            return {f.FORM: type_key(type), f.CALL: [None]}
        return {f.FORM: f.TYPE, f.NAME: self._gate.key_of(value)}

    def _admits(self, cls: type[Any]) -> bool:
        try:
            self._gate.key_of(cls)
        except CheckpointTypeNotAllowedError:
            return False
        return True

    # The same object again

    def _again(self, value: object, node: Any, native: bool) -> dict[str, Any]:
        if native and id(value) in self._open:
            raise CheckpointEncodeError(
                f"A plain {type(value).__name__} holds itself; a checkpoint's plain containers cannot be cyclic. "
                "Put an object in between, or store an id instead."
            )
        if self._comparing:
            return {f.FORM: f.REF, f.LABEL: list(self._nodes).index(id(value))}
        is_form = f.type_of(node) is dict and f.FORM in node
        label = node.get(f.LABEL) if is_form else self._shared.get(id(node))
        if label is None:
            self._labels = label = self._labels + 1
            if is_form:
                node[f.LABEL] = label
            else:
                self._shared[id(node)] = label
        return {f.FORM: f.REF, f.LABEL: label}

    def _with_labels(self, node: Any) -> Any:
        """The tree again, its lists and maps that are referred to turned into forms that carry the label."""
        kind = f.type_of(node)
        if kind is list:
            items = [self._with_labels(item) for item in node]
            label = self._shared.get(id(node))
            return items if label is None else {f.FORM: f.LIST, f.ITEMS: items, f.LABEL: label}
        if kind is dict:
            fields = {key: self._with_labels(item) for key, item in node.items()}
            label = self._shared.get(id(node))
            if label is None:
                return fields
            return {f.FORM: f.DICT, f.PAIRS: [[key, item] for key, item in fields.items()], f.LABEL: label}
        return node


def _deeper(depth: int) -> int:
    if depth >= f.MAX_DEPTH:
        raise CheckpointEncodeError(
            f"The checkpoint nests more than {f.MAX_DEPTH} containers and objects inside each other. "
            "Flatten the value, or store a list instead of a chain."
        )
    return depth + 1


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_ordinary(cls: type[Any]) -> bool:
    """Whether `copy` and `pickle` would take instances apart by `object`'s own rules alone."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls not in copyreg.dispatch_table
        and not hasattr(cls, "__getnewargs__")
        and not hasattr(cls, "__getnewargs_ex__")
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__)
    )


def _plain(value: str | int | float) -> str | int | float:
    """What JSON makes of an instance of a subclass: the value without its type."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def _unreadable(cls: type[Any], error: Exception) -> CheckpointEncodeError:
    return CheckpointEncodeError(
        f"{type_key(cls)!r} cannot be taken apart to be stored: {type(error).__name__}: {error}. "
        "Leave it out of the state, or give its class a __getstate__."
    )


def _not_data(cls: type[Any], what: str) -> CheckpointEncodeError:
    return CheckpointEncodeError(
        f"{type_key(cls)!r} {what}; a checkpoint holds data only. "
        "Store plain values instead, or give its class a __reduce__ that returns an allowed type and its arguments."
    )
