"""From live values to a tree of natives: the half of the codec that runs at save.

Objects are taken apart by their own copy protocol (`__reduce_ex__(4)`), the same that the framework's stores use,
but what comes out must be data: an allowed type and its arguments, never another callable.

"Native position" below means: reached from the checkpoint through plain dicts and lists only. There
`FileCheckpointStorage` writes JSON, everywhere else one opaque blob, and its decisions differ between the two.
"""

from __future__ import annotations

import array
import copyreg
import zoneinfo
from collections.abc import Callable, Iterable
from enum import EnumMeta
from itertools import islice
from operator import itemgetter
from types import EllipsisType, NoneType
from typing import Any, ClassVar, TypeAlias, cast

from ..allowlist import AnyGate, TypeGate, type_key
from ..errors import CheckpointEncodeError, CheckpointTypeNotAllowedError
from ..text import is_unicode
from . import forms as f
from . import type_expressions
from .copy_protocol import (
    NOT_SHARED,
    Reduced,
    data_of,
    is_member,
    is_rebuilt_by_its_class,
    plain,
    reduces_as_a_set,
    uses_defaults,
)
from .labels import with_labels
from .messagepack import pack
from .refusals import deeper, not_data, unreadable

__all__ = ["Encoder", "Handler"]

Handler: TypeAlias = "Callable[[Any, Any, int, bool], Any]"
"""Gives the node of a value, from the encoder, the value, its depth, and whether it is in native position."""

_ONLY_STR = frozenset({str})


class Encoder:
    """Encodes one checkpoint.

    Args:
        gate: the allow-list.
        ordinary: classes already seen to use the default copy protocol; shared between encoders of a gate.
        careful: also look at each int and str for what MessagePack cannot hold. Few checkpoints need it.
    """

    def __init__(self, gate: TypeGate, ordinary: set[type[Any]], *, careful: bool) -> None:
        self._gate = gate
        self._ordinary = ordinary
        self._careful = careful
        self._keys: dict[type[Any], str] = {}
        """Classes met and admitted in this walk."""
        self._ordinary_keys: dict[type[Any], str] = {}
        """Those of them that use the default copy protocol."""
        self._atoms = f.ATOMS - f.LARGE_ATOMS if careful else f.ATOMS
        self._handlers = self._HANDLERS
        self._nodes: dict[int, Any] = {}
        """id of a value → its node, in the order of the walk."""
        self._kept: list[object] = []
        """Temporaries of the copy protocol, kept alive so that their ids stay theirs."""
        self._open: dict[int, bool] = {}
        """ids of the plain containers in native position → whether they are still being walked."""
        self._shared: dict[int, int] = {}
        """id of a list or map node that something refers to → its label."""
        self._labels = 0
        self._comparing = False
        """Whether this walk only finds an element's place in its set; its nodes are thrown away."""
        self._references = 0
        self._places: dict[int, int] = {}
        """id of a value → its position in the walk, for the first so many of `_nodes`."""

    def tree(self, value: Any) -> Any:
        """The tree of natives that stands for `value`.

        Raises:
            CheckpointEncodeError: the value cannot be stored; `path` says where it is.
        """
        node = self._node(value, 0, True)
        return with_labels(node, self._shared) if self._shared else node

    @property
    def classes(self) -> dict[str, type[Any]]:
        """The classes met in the walk, by their keys, in the order of these."""
        return {key: cls for cls, key in sorted(self._keys.items(), key=itemgetter(1))}

    def _node(self, value: Any, depth: int, native: bool) -> Any:
        cls = f.type_of(value)
        if cls in self._atoms:
            return value
        return self._handlers.get(cls, self._handlers[object])(self, value, depth, native)

    # Plain containers

    def _list(self, value: list[Any], depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, native)
        if self._atoms.issuperset(map(type, value)):
            self._nodes[id(value)] = value
            return value
        node = self._nodes[id(value)] = list[Any]()
        if native:
            self._open[id(value)] = True
        self._fill_list(node, value, depth, native)
        if native:
            self._open[id(value)] = False
        return node

    def _fill_list(self, node: list[Any], values: Iterable[Any], depth: int, native: bool) -> None:
        atoms, handlers, other, type_of = self._atoms, self._handlers, self._handlers[object], f.type_of
        depth = deeper(depth)
        try:
            for item in values:
                cls = type_of(item)
                node.append(item if cls in atoms else handlers.get(cls, other)(self, item, depth, native))
        except CheckpointEncodeError as error:
            error.path.insert(0, f"[{len(node)}]")
            raise

    def _dict(self, value: dict[Any, Any], depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, native)
        if value and not self._has_plain_keys(value):
            return self._keyed(value, depth, native)
        if not value or self._atoms.issuperset(map(type, value.values())):
            self._nodes[id(value)] = value
            return value
        node = self._nodes[id(value)] = value.copy()
        if native:
            self._open[id(value)] = True
        self._replace_items(node, value, depth, native, "[{!r}]")
        if native:
            self._open[id(value)] = False
        return node

    def _keyed(self, value: dict[Any, Any], depth: int, native: bool) -> Any:
        """A dict whose keys are not all text, or would be taken for those of a form."""
        node: dict[str, Any] = {f.FORM: f.DICT}
        self._nodes[id(value)] = node
        if native:
            self._open[id(value)] = True
        node[f.PAIRS] = self._pairs(value.items(), depth, native)
        if native:
            self._open[id(value)] = False
        return node

    def _has_plain_keys(self, value: dict[Any, Any]) -> bool:
        if f.FORM in value or not _ONLY_STR.issuperset(map(type, value)):
            return False
        return str in self._atoms or all(map(is_unicode, value))

    def _replace_items(self, node: dict[str, Any], value: dict[str, Any], depth: int, native: bool, step: str) -> None:
        """Put nodes in the place of the items that need one; `node` is a copy of `value`."""
        atoms, handlers, other, type_of = self._atoms, self._handlers, self._handlers[object], f.type_of
        depth = deeper(depth)
        key = ""
        try:
            for key, item in value.items():
                if item is not None and (cls := type_of(item)) not in atoms:
                    node[key] = handlers.get(cls, other)(self, item, depth, native)
        except CheckpointEncodeError as error:
            error.path.insert(0, step.format(key))
            raise

    def _pairs(self, items: Iterable[tuple[Any, Any]], depth: int, native: bool) -> list[Any]:
        atoms, handlers, other, pairs = self._atoms, self._handlers, self._handlers[object], list[Any]()
        depth = deeper(depth)
        for key, item in items:
            try:
                pair = [self._node(key, depth, native), item]
                if (cls := f.type_of(item)) not in atoms:  # here, and not by _node: a frame a level is dear
                    pair[1] = handlers.get(cls, other)(self, item, depth, native)
                pairs.append(pair)
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
        node[f.ITEMS] = self._in_fixed_order(value, deeper(depth))
        return node

    def _in_fixed_order(self, values: Iterable[Any], depth: int) -> list[Any]:
        types = set(map(type, values))
        if types <= {int} or types <= {str}:
            return [self._node(value, depth, False) for value in sorted(values)]
        placed: list[tuple[bytes, Any, Any]] = []
        try:
            for value in values:
                placed.append((*self._sort_key(value, depth), value))  # noqa: PERF401 - a frame a level is dear here
        except CheckpointEncodeError as error:
            error.path.insert(0, "{…}")
            raise
        placed.sort(key=itemgetter(0))
        nodes: list[Any] = []
        for _, node, value in placed:
            nodes.append(self._node(value, depth, False) if node is None else node)
        return nodes

    def _sort_key(self, value: Any, depth: int) -> tuple[bytes, Any]:
        """The bytes that place `value` in its set, and its node, or None where it has to be walked again."""
        mark, references, outer = len(self._nodes), self._references, self._comparing
        self._comparing = True
        node = self._node(value, depth, False)
        self._comparing = outer
        stands_alone = len(self._nodes) == mark and self._references == references
        while len(self._nodes) > mark:
            self._places.pop(self._nodes.popitem()[0], None)
        return pack(node), node if stands_alone or outer else None

    def _place(self, key: int) -> int:
        """The position in the walk of the value with this id: the same in every process."""
        later = len(self._nodes) - len(self._places)
        for other in reversed([*islice(reversed(self._nodes), later)]):
            self._places[other] = len(self._places)
        return self._places[key]

    # Natives that MessagePack holds only in part

    def _int(self, value: int, depth: int, native: bool) -> Any:
        if -(1 << 63) <= value < 1 << 64:
            return value
        return {f.FORM: f.INT, f.RAW: value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)}

    def _str(self, value: str, depth: int, native: bool) -> Any:
        return value if is_unicode(value) else {f.FORM: f.STR, f.RAW: value.encode("utf-8", "surrogatepass")}

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
        key = self._ordinary_keys.get(cls)
        if key is None:
            if issubclass(cls, type):
                return self._type(value)
            if type_expressions.is_type_expression(value):
                return self._expression(value, 0)
            if native and issubclass(cls, (str, int, float)) and not self._keeps_type(cls, value):
                return self._node(plain(value), depth, native)
            if not self._is_ordinary(cls, value):
                return self._reduced(value, depth, native)
            key = self._ordinary_keys[cls] = self._key(cls)
        node: dict[str, Any] = {f.FORM: key}
        self._nodes[id(value)] = node
        try:
            state = value.__getstate__()
        except Exception as error:
            raise unreadable(cls, error) from error
        if state is not None:
            node[f.STATE] = self._state(state, depth)
        return node

    def _is_ordinary(self, cls: type[Any], value: object) -> bool:
        if cls in copyreg.dispatch_table or cls in NOT_SHARED:
            return False
        if cls not in self._ordinary:
            if not uses_defaults(cls):
                return False
            self._key_to_store(cls, value)  # a refusal comes first
            try:
                value.__reduce_ex__(4)  # refuses a class in C that keeps what `object` cannot see: a connection, a lock
            except Exception as error:
                raise unreadable(cls, error) from error
            self._ordinary.add(cls)
        return True

    def _key(self, cls: type[Any]) -> str:
        key = self._keys.get(cls)
        if key is None:
            key = self._keys[cls] = self._gate.key_of(cls)
        return key

    def _key_to_store(self, cls: type[Any], value: object) -> str:
        """The key of the class of a value; where it is not admitted, whether to advise that depends on the value."""
        try:
            return self._key(cls)
        except CheckpointTypeNotAllowedError as refusal:
            if not isinstance(self._gate, AnyGate) and "<locals>" not in refusal.type_key:
                # What no permission would make data, a lock somewhere in it, is refused for that.
                Encoder(AnyGate(), set(), careful=self._careful)._node(value, 0, False)
            raise

    def _state(self, state: Any, depth: int) -> Any:
        self._kept.append(state)
        if f.type_of(state) is dict and self._has_plain_keys(state):
            node: dict[str, Any] = state.copy()
            self._replace_items(node, state, depth, False, ".{}")
            return node
        if self._is_slots(state):  # attributes and slots: as deep as attributes alone
            attributes, slots = state  # each by itself: a comprehension is a frame, which a level has no room for
            parts = [attributes and self._dict(attributes, depth, False), slots and self._dict(slots, depth, False)]
            return {f.FORM: f.TUPLE, f.ITEMS: parts}
        return self._node(state, deeper(depth), False)

    def _is_slots(self, state: Any) -> bool:
        if f.type_of(state) is not tuple or len(state) != 2:
            return False
        return all(part is None or (type(part) is dict and self._has_plain_keys(part)) for part in state)

    def _reduced(self, value: Any, depth: int, native: bool) -> Any:
        """A node for an object that says itself how it is copied."""
        cls = f.type_of(value)
        try:
            parts = data_of(cls, value)
            node = self._built_by(cls, parts, value, native)
        except CheckpointEncodeError:
            raise
        except Exception as error:
            raise unreadable(cls, error) from error
        self._kept.append(parts)
        if reduces_as_a_set(cls):
            node[f.CALL] = [self._in_fixed_order(parts.args[0], deeper(deeper(depth)))]
        else:
            for field in (f.ARGS, f.CALL):
                if field in node:
                    node[field] = self._arguments(node[field], depth)
        if f.KWARGS in node:
            node[f.KWARGS] = self._state(node[f.KWARGS], depth)
        if cls not in NOT_SHARED and not isinstance(cls, EnumMeta):
            seen = self._nodes.get(id(value))
            if seen is not None:
                # Its own arguments hold it, so that it is complete in there: all that is left here is to refer to it.
                return node | self._again(value, seen, False)
            self._nodes[id(value)] = node
        # Items and state may lead back to the object, so they come after its node is known.
        if parts.items is not None:
            node[f.ITEMS] = self._arguments(parts.items, depth)
        if parts.pairs is not None:
            node[f.PAIRS] = self._pairs(parts.pairs, depth, False)
        if parts.state is not None:
            node[f.STATE] = self._state(parts.state, depth)
        return node

    def _arguments(self, args: Iterable[Any], depth: int) -> list[Any]:
        node: list[Any] = []
        self._fill_list(node, args, depth, False)
        return node

    def _built_by(self, cls: type[Any], parts: Reduced, value: object, native: bool) -> dict[str, Any]:
        """The beginning of a node: how the object comes to be. Arguments are still live values."""
        build, args = parts.build, parts.args
        if build is copyreg.__newobj__ or build is copyreg.__newobj_ex__:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] - undocumented names of pickle's protocol
            if args[0] is not cls:
                raise not_data(cls, f"is built as {args[0]!r}")
            node: dict[str, Any] = {f.FORM: self._key_to_store(cls, value)}
            positional, keywords = (args[1], args[2]) if build is not copyreg.__newobj__ else (args[1:], None)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - as above
            if positional:
                node[f.ARGS] = positional
            if keywords:
                node[f.KWARGS] = keywords
            return node
        if is_member(parts):
            if native and args[0] is not cls:
                raise not_data(cls, f"is rebuilt as a member of {args[0]!r}")
            return {f.FORM: f.ENUM, f.EXPECT: self._key(args[0]), f.NAME: args[1]}
        if build is copyreg._reconstructor:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - what object.__reduce__ returns
            build, base, state = args
            node = {f.FORM: self._key(build), f.BASE: self._key(base), f.ARGS: [state]}
        else:
            node = {f.FORM: self._key(cast(type[Any], build)), f.CALL: args}
        if native and build is not cls:
            node[f.EXPECT] = type_key(cls)
        return node

    def _type(self, value: type[Any]) -> Any:
        if value is NoneType:
            return {f.FORM: type_key(type), f.CALL: [None]}
        if type_expressions.is_bare(value):
            return self._expression(value, 0)
        return {f.FORM: f.TYPE, f.NAME: self._key(value)}

    def _expression(self, value: Any, depth: int) -> dict[str, Any]:
        if depth == type_expressions.MAX_TYPE_DEPTH:
            raise CheckpointEncodeError(
                f"A type expression nests more than {type_expressions.MAX_TYPE_DEPTH} others inside each other. "
                "Give the type a name: a dataclass, or another class."
            )
        kind, origin, args = type_expressions.taken_apart(value)
        node: dict[str, Any] = {f.FORM: kind}
        if origin is not None:
            node[f.NAME] = origin if isinstance(origin, str) else self._key(origin)
        if args:
            node[f.ITEMS] = [
                self._expression(arg, depth + 1)
                if type_expressions.is_type_expression(arg)
                else self._node(arg, depth, False)
                for arg in args
            ]
        return node

    def _keeps_type(self, cls: type[Any], value: object) -> bool:
        """Whether an instance of a subclass of str, int or float is stored as one: its class is admitted, and says how
        it is rebuilt without a function. Others become plain values, as they do in JSON."""
        try:
            self._key(cls)
        except CheckpointTypeNotAllowedError:
            return False
        return is_rebuilt_by_its_class(value)

    # Values of the standard library that a function rebuilds

    def _zone(self, value: zoneinfo.ZoneInfo, depth: int, native: bool) -> Any:
        try:
            value.__reduce__()
        except Exception as error:  # of one that was read from a file, whatever key it was given
            raise CheckpointEncodeError(
                "A ZoneInfo that was read from a file cannot be found again by its key. Store ZoneInfo(key), with a "
                "name of the time zone database."
            ) from error
        return {f.FORM: f.ZONE, f.NAME: value.key}

    def _array(self, value: array.array[Any], depth: int, native: bool) -> Any:
        seen = self._nodes.get(id(value))
        if seen is not None:
            return self._again(value, seen, False)
        _, (_, typecode, how, items), *_ = cast("tuple[Any, tuple[Any, str, int, bytes]]", value.__reduce_ex__(4))
        node = self._nodes[id(value)] = {f.FORM: f.ARRAY, f.NAME: typecode, f.FORMAT: how, f.RAW: items}
        return node

    # The same object again

    def _again(self, value: object, node: Any, native: bool) -> dict[str, Any]:
        if native:
            self._check_not_cyclic(value)
        self._references += 1
        if self._comparing:
            return {f.FORM: f.REF, f.LABEL: self._place(id(value))}
        is_form = f.type_of(node) is dict and f.FORM in node
        label = node.get(f.LABEL) if is_form else self._shared.get(id(node))
        if label is None:
            self._labels = label = self._labels + 1
            if is_form:
                node[f.LABEL] = label
            else:
                self._shared[id(node)] = label
        return {f.FORM: f.REF, f.LABEL: label}

    def _check_not_cyclic(self, value: object) -> None:
        """Refuse a plain container, met again in native position, that holds itself."""
        still_open = self._open.get(id(value))
        if still_open:
            raise CheckpointEncodeError(
                f"A plain {type(value).__name__} holds itself; a checkpoint's plain containers cannot be cyclic. "
                "Put an object in between, or store an id instead."
            )
        if still_open is None:  # so far met inside an object, where it may; it must not depend on what came first
            Encoder(self._gate, self._ordinary, careful=self._careful).tree(value)
            self._open[id(value)] = False

    # Of the class, not of each encoder: bound methods would tie an encoder, and with it the whole tree, into a cycle
    # that only the garbage collector could free.
    _HANDLERS: ClassVar[dict[type[Any], Handler]] = {
        list: _list,
        dict: _dict,
        tuple: _tuple,
        set: _set,
        frozenset: _set,
        bytearray: _bytearray,
        int: _int,
        str: _str,
        zoneinfo.ZoneInfo: _zone,
        array.array: _array,
        EllipsisType: lambda encoder, value, depth, native: {f.FORM: f.ELLIPSIS},
        object: _object,
    }
    """By class; what stands under `object` takes all others."""
