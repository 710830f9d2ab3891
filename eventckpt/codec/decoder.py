"""From a tree of natives back to live values: the half of the codec that reads what may be hostile.

A form can do what the framework's restricted loader lets a checkpoint do, and less: make instances of allowed
types, with arguments and a state as `rebuilding` lets each class have. Nothing that the bytes chose is called while it
does so, but the methods of classes that the application allowed.
"""

from __future__ import annotations

import array
import functools
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from enum import EnumMeta
from typing import Any, ClassVar, Final, cast

from agent_framework import WorkflowCheckpointException

from ..allowlist import TypeGate, type_key
from ..errors import CheckpointDecodeError
from . import forms as f
from . import type_expressions
from .evolution import Evolution
from .fields import bytes_of, listed, malformed, text_of, unknown_kind, without_a_name
from .forms import SHORT
from .keys import SETS, check_elements, fill, put
from .rebuilding import Recipe, recipe_for
from .shapes import Shapes
from .state import references_in
from .upcasters import Upcast
from .work import Work

__all__ = ["Decoder", "said", "zone_names"]

_ABSENT = object()
_EXPRESSION, _TYPING = 200, 2_000  # steps that it takes to make a type expression, by the interpreter or by typing
MAX_DEQUES: Final = 10_000
"""How many deques of one checkpoint may hold more than plain values."""


@functools.cache
def zone_names() -> frozenset[str]:
    """The keys of the time zones that this machine knows: read from its files once, at the first zone."""
    return frozenset(zoneinfo.available_timezones())


class Decoder:
    """Decodes one checkpoint.

    Args:
        gate: the allow-list.
        recipes: what is known of types already met; shared between decoders of a gate.
        raw: the encoded checkpoint. Its size bounds what making it may cost.
        shapes: those that classes have now; shared likewise.
        evolution: what becomes of values whose class has changed.
        renamed: from the keys of classes that were renamed to those of today.
    """

    def __init__(
        self,
        gate: TypeGate,
        recipes: dict[str, Recipe],
        raw: bytes,
        shapes: Shapes,
        evolution: Evolution,
        renamed: Mapping[str, str],
    ) -> None:
        self._gate = gate
        self._shapes = shapes
        self.evolution: Evolution = evolution
        self._renamed = renamed
        self._known = recipes
        self._recipes: dict[str, Recipe] = {}
        """Of types met and admitted in this checkpoint."""
        self._labelled: dict[int, Any] = {}
        self.may_refer: bool = False  # whether there are labels, or it is to be counted as if there were
        self._last_label = len(raw) >> 3  # a value with a label takes more than eight bytes
        self._zones: dict[str, zoneinfo.ZoneInfo] = {}
        self.work: Work = Work(len(raw))
        self._dunders = b"__" in raw
        """Whether any text in it could be a name such as `__class__`: most checkpoints need not be looked through."""
        self._deques = 0
        self.named_types: bool = False
        """Whether `typing` was asked for a type, which it keeps."""
        self._expressions = 0
        """How many type expressions are being read, each inside the one before."""

    @property
    def is_apart(self) -> bool:
        """Whether what was made so far adds nothing to what it takes to make another value."""
        return not (self.work.wide or self.work.decimals or self._deques)

    def value(self, node: Any, depth: int = 0) -> Any:
        """The value that `node` stands for. The tree is used up: its lists and maps become the value's.

        Raises:
            CheckpointDecodeError, CheckpointTypeNotAllowedError: see `CheckpointCodec.decode`.
        """
        kind = f.type_of(node)
        if kind is dict:
            if depth > f.MAX_DEPTH:
                raise _too_deep()
            form = node.get(f.FORM, _ABSENT)
            if form is _ABSENT:
                return self._map(node, depth)
            if type(form) is not str:
                raise without_a_name()
            if ":" in form:
                return self._object(node, form, depth)
            make = self._KINDS.get(form)
            if make is None:
                raise unknown_kind(form)
            return make(self, node, depth)
        if kind is list:
            if depth > f.MAX_DEPTH:
                raise _too_deep()
            self._fill(node, depth)
        elif kind is Upcast:
            return self._upcast(node, depth)
        elif kind not in f.ATOMS:
            raise CheckpointDecodeError(f"A stored value is a {kind.__name__}, which eventckpt never writes.")
        return node

    def _fill(self, items: list[Any], depth: int) -> None:
        atoms, value = f.ATOMS, self.value
        if not atoms.issuperset(map(type, items)):
            index = 0
            try:
                for index, item in enumerate(items):
                    if item and type(item) not in atoms:
                        items[index] = value(item, depth + 1)
            except CheckpointDecodeError as error:
                error.path.insert(0, f"[{index}]")
                raise

    def _map(self, node: dict[str, Any], depth: int) -> dict[str, Any]:
        """A map with its values decoded. Its keys are text: `unpack` refuses others."""
        atoms, value = f.ATOMS, self.value
        filled: Iterable[Any] = filter(None, node.values())  # empty values stand for themselves
        if not atoms.issuperset(map(type, filled)):
            key = ""
            try:
                for key, item in node.items():
                    if item and type(item) not in atoms:
                        node[key] = value(item, depth + 1)
            except CheckpointDecodeError as error:
                error.path.insert(0, f".{key}" if key.isidentifier() and len(key) < SHORT else f"[{key[:SHORT]!r}]")
                raise
        return node

    # Kinds

    def _int(self, node: dict[str, Any], depth: int) -> int:
        self.work.wide = True
        return int.from_bytes(bytes_of(node), "big", signed=True)

    def _str(self, node: dict[str, Any], depth: int) -> str:
        return bytes_of(node).decode("utf-8", "surrogatepass")

    def _tuple(self, node: dict[str, Any], depth: int) -> tuple[Any, ...]:
        return tuple(self._items(node, depth))

    def _frozenset(self, node: dict[str, Any], depth: int) -> frozenset[Any]:
        made: set[Any] = set()
        fill(made, self._items(node, depth), self.work)
        return frozenset(made)

    def _items(self, node: dict[str, Any], depth: int) -> list[Any]:
        items = listed(node, f.ITEMS)
        self._fill(items, depth)
        return items

    def _list(self, node: dict[str, Any], depth: int) -> list[Any]:
        self._label(node, node.get(f.ITEMS))
        return self._items(node, depth)

    def _dict(self, node: dict[str, Any], depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._label(node, made)
        self._set_pairs(made, node, depth)
        return made

    def _set_pairs(self, target: Any, node: dict[str, Any], depth: int) -> None:
        pairs, at = listed(node, f.PAIRS), -1
        try:
            for pair in pairs:
                at += 1
                if type(pair) is not list or len(cast(list[Any], pair)) != 2:
                    raise malformed(node)
                key, item = cast(list[Any], pair)
                if key and type(key) not in f.ATOMS:  # here, and not by _fill: a frame a level is dear
                    pair[0] = self.value(key, depth + 1)
                if item and type(item) not in f.ATOMS:
                    pair[1] = self.value(item, depth + 1)
        except CheckpointDecodeError as error:
            error.path.insert(0, f"[key {at}]")
            raise
        put(target, pairs, self.work)

    def _set(self, node: dict[str, Any], depth: int) -> set[Any]:
        made: set[Any] = set()
        self._label(node, made)
        fill(made, self._items(node, depth), self.work)
        return made

    def _bytearray(self, node: dict[str, Any], depth: int) -> bytearray:
        made = bytearray(bytes_of(node))
        self._label(node, made)
        return made

    def _array(self, node: dict[str, Any], depth: int) -> array.array[Any]:
        how = node.get(f.FORMAT)
        if type(how) is not int:
            raise malformed(node)
        made = cast(Any, array)._array_reconstructor(array.array, text_of(node, f.NAME), how, bytes_of(node))
        self._label(node, made)
        return made

    def _zone(self, node: dict[str, Any], depth: int) -> zoneinfo.ZoneInfo:
        key = text_of(node, f.NAME)
        if key not in zone_names():
            raise CheckpointDecodeError(
                f"A stored time zone is {key[:SHORT]!r}, which is no name of the time zone database here. The package "
                "tzdata has all of them."
            )
        zone = self._zones.get(key)  # kept, so that each is read from its file once
        if zone is None:
            zone = self._zones[key] = zoneinfo.ZoneInfo(key)
        return zone

    def _ellipsis(self, node: dict[str, Any], depth: int) -> Any:
        return ...

    # Types

    def _type(self, node: dict[str, Any], depth: int) -> type[Any]:
        return self._resolve(text_of(node, f.NAME))

    def _expression(self, node: dict[str, Any], depth: int) -> Any:
        if depth > f.MAX_DEPTH or f.LABEL in node:
            raise malformed(node)
        kind, args = node[f.FORM], listed(node, f.ITEMS, [])
        origin = None if kind == f.UNION else text_of(node, f.NAME)
        if origin is not None and ":" in origin:
            origin = self._resolve(origin)
        self._expressions += 1
        if self._expressions > type_expressions.MAX_TYPE_DEPTH:
            raise CheckpointDecodeError(
                f"Stored type expressions nest deeper than {type_expressions.MAX_TYPE_DEPTH} levels."
            )
        for arg in args:  # written out each time: shared ones would be hashed again and again
            if type(arg) is dict and cast(dict[str, Any], arg).get(f.FORM) == f.REF:
                raise malformed(node)
        self._fill(args, depth)
        self._expressions -= 1
        self.named_types = self.named_types or kind != f.UNION
        self.work.spend(len(args) ** 2 + (_EXPRESSION if origin is None or type(origin) is type else _TYPING))
        return type_expressions.made(kind, origin, args)

    def _enum(self, node: dict[str, Any], depth: int) -> Any:
        cls = self._resolve(text_of(node, f.EXPECT))
        name = text_of(node, f.NAME)
        if isinstance(cls, EnumMeta) and name in cls.__members__:
            return cls.__members__[name]
        return self.evolution.member(cls, text_of(node, f.EXPECT), name, self._apart, self.work)

    # Shared references

    def _label(self, node: dict[str, Any], made: Any) -> None:
        label = node.get(f.LABEL)
        if label is not None:
            if type(label) is not int or not 0 < label <= self._last_label or label in self._labelled:
                raise malformed(node)
            self._labelled[label], self.may_refer = made, True

    def _ref(self, node: dict[str, Any], depth: int) -> Any:
        for field in (f.ARGS, f.CALL, f.KWARGS):  # of an object that its own arguments hold: it is in there
            if field in node:
                self.value(node[field], depth)
        label = node.get(f.LABEL)
        if type(label) is not int:
            raise malformed(node)
        if label not in self._labelled:
            raise CheckpointDecodeError(f"A stored reference leads to {label}, which is not there.")
        return self._labelled[label]

    # Objects

    def _object(self, node: dict[str, Any], key: str, depth: int) -> Any:
        recipe = self._recipes.get(key) or self._learn(key)
        try:
            # By far the most frequent: an instance and its attributes.
            bare = len(node) == 2 and f.STATE in node
            made = recipe.new(recipe.cls) if bare else self._made(recipe, node, depth)
            if f.STATE in node:
                state = node[f.STATE]
                if f.type_of(state) is not dict or f.FORM in state:
                    if _is_pair(state):
                        state = self._slots(state, depth)
                    else:
                        state = self.value(state, depth + 1)
                        if self.may_refer:
                            self.work.copy_state(state)
                    recipe.check(made, state)
                else:
                    shared = references_in(state) if self.may_refer and self._dunders else ()
                    self._map(state, depth)
                    for name in shared:
                        self.work.copy_state(state[name])
                    if self._dunders:
                        recipe.check(made, state)
                if recipe.plain_dicts:
                    recipe.check_plain_dicts(state)
                recipe.restore(made, state)
            elif recipe.needs_state:
                raise malformed(node)
        except (WorkflowCheckpointException, RecursionError):
            raise
        except Exception as error:
            raise CheckpointDecodeError(
                f"A stored {key!r} cannot be rebuilt: {said(error)}. "
                "Has the class changed since it was saved? Its __setstate__ is the place to accept older states. Can "
                "it not be made from what it is copied by? Give it a __reduce__ that returns its type and arguments."
            ) from error
        if f.EXPECT in node and type_key(f.type_of(made)) != self._renamed.get(node[f.EXPECT], node[f.EXPECT]):
            expected = str(node[f.EXPECT])[:SHORT]
            raise CheckpointDecodeError(f"A stored {expected!r} comes back as {type_key(f.type_of(made))!r}.")
        return made

    def _upcast(self, node: Upcast, depth: int) -> Any:
        """An instance of the state that an upcaster made."""
        if depth > f.MAX_DEPTH:
            raise _too_deep()
        for dropped in node.dropped:
            self.value(dropped, depth + 1)
        key, state = cast(str, node[f.FORM]), cast("dict[str, Any]", node[f.STATE])
        recipe = self._recipe(key)
        try:
            change = self.evolution.of_upcast(recipe.cls, key, state)
            if change is None or change.attributes is not None:
                made = recipe.new(recipe.cls)
                self._label(node, made)
                self._map(state, depth)
                (recipe if change is None else recipe.adapted(change)).restore(made, state)
                return made
            arguments = list(self._map(state, depth).values())
            made = recipe.adapted(change).make(recipe.is_called, arguments, {}, self.work)
        except (WorkflowCheckpointException, RecursionError):
            raise
        except Exception as error:
            raise CheckpointDecodeError(
                f"A {key!r} cannot be made of what its upcaster gave: {said(error)}."
            ) from error
        self._label(node, made)
        return made

    def _count_deques(self, recipe: Recipe, items: list[Any]) -> None:
        """Bound how many deques can lie inside each other by references: freeing a chain of them descends in C."""
        if issubclass(recipe.cls, deque) and not f.ATOMS.issuperset(map(type, items)):
            self._deques += 1
            if self._deques > MAX_DEQUES:
                raise CheckpointDecodeError(
                    f"More than {MAX_DEQUES:,} stored deques hold something else than plain values."
                )

    def _slots(self, node: dict[str, Any], depth: int) -> tuple[Any, Any]:
        """A state of attributes and slots: as deep as one of attributes alone."""
        for part in node[f.ITEMS]:
            if part is not None:
                self._map(part, depth)
        return tuple(node[f.ITEMS])

    def _learn(self, key: str) -> Recipe:
        recipe = self._recipe(key)
        change = self.evolution.change(recipe.cls, key, self._shapes.of(recipe.cls), self._apart, self.work)
        if change is not None:
            recipe = recipe.adapted(change)
        self._recipes[key] = recipe
        return recipe

    def _recipe(self, key: str) -> Recipe:
        cls = self._resolve(key)
        recipe = self._known.get(key)
        if recipe is None or recipe.cls is not cls:
            recipe = self._known[key] = recipe_for(cls, self._renamed.get(key, key), self._gate)
        return recipe

    def _resolve(self, key: str) -> type[Any]:
        return self._gate.resolve(self._renamed.get(key, key))

    def _apart(self, node: Any) -> Any:
        """A value that stands beside the checkpoint: its labels are its own, what it costs counts here."""
        if f.type_of(node) in f.ATOMS:
            return node
        decoder = copy(self)
        decoder._labelled = {}
        value = decoder.value(node)
        self._deques = decoder._deques
        self.named_types = decoder.named_types
        return value

    def _made(self, recipe: Recipe, node: dict[str, Any], depth: int) -> Any:
        """The object without its state."""
        if not f.OBJECT_FIELDS.issuperset(node) or (f.LABEL in node and not recipe.shared):
            raise malformed(node)
        called = f.CALL in node
        args = listed(node, f.CALL if called else f.ARGS, [])
        self._fill(args, depth)
        if f.BASE in node:
            made = recipe.make_by_base(self._resolve(text_of(node, f.BASE)), args, self.work)
        else:
            keywords = node.get(f.KWARGS, {})
            if f.type_of(keywords) is dict and f.FORM not in keywords:
                self._map(keywords, depth)
            else:
                keywords = self.value(keywords, depth + 1)
            if f.type_of(keywords) is not dict or not all(map(_is_text, keywords)):
                raise malformed(node)
            made = recipe.make(called, args, keywords, self.work)
            if recipe.root in SETS:
                check_elements(made, args)
        self._label(node, made)
        if f.ITEMS in node:
            items = listed(node, f.ITEMS)
            self._fill(items, depth)
            self._count_deques(recipe, items)
            _extend(recipe, made, items)
        if f.PAIRS in node:
            holds_pairs = issubclass(recipe.cls, dict) or not recipe.built_in
            if isinstance(made, (list, bytearray, deque)) or not holds_pairs:
                raise malformed(node)  # list[slice] = list doubles it
            self._set_pairs(made, node, depth)
        return made

    # Of the class, not of each decoder: bound methods would tie a decoder, and with it all it made, into a cycle that
    # only the garbage collector could free.
    _KINDS: ClassVar[dict[str, Callable[[Decoder, dict[str, Any], int], Any]]] = {
        f.INT: _int,
        f.STR: _str,
        f.BYTEARRAY: _bytearray,
        f.TUPLE: _tuple,
        f.FROZENSET: _frozenset,
        f.LIST: _list,
        f.DICT: _dict,
        f.SET: _set,
        f.ELLIPSIS: _ellipsis,
        f.ZONE: _zone,
        f.ARRAY: _array,
        f.TYPING: _expression,
        f.GENERIC: _expression,
        f.UNION: _expression,
        f.TYPE: _type,
        f.ENUM: _enum,
        f.REF: _ref,
    }


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_pair(node: Any) -> bool:
    """Whether a state is the pair of attributes, or None, and slots, each as a map that stands for itself."""
    if type(node) is not dict or cast(dict[str, Any], node).get(f.FORM) != f.TUPLE:
        return False
    parts = cast(dict[str, Any], node).get(f.ITEMS)
    return type(parts) is list and len(cast(list[Any], parts)) == 2 and all(map(_is_plain_map, cast(list[Any], parts)))


def _is_plain_map(node: Any) -> bool:
    return node is None or (f.type_of(node) is dict and f.FORM not in node)


def _extend(recipe: Recipe, made: Any, items: list[Any]) -> None:
    if recipe.built_in:
        if issubclass(recipe.cls, list):
            cast(Any, list).extend(made, items)
        elif issubclass(recipe.cls, deque):
            cast(Any, deque).extend(made, items)
        else:
            raise CheckpointDecodeError(f"A stored {type_key(recipe.cls)!r} has items, which it cannot hold.")
        return
    extend = getattr(made, "extend", None)
    if extend is not None:
        extend(items)
        return
    for item in items:
        made.append(item)


def said(error: Exception) -> str:
    """The class and the text of an error; never the text of a stored value, which could be of any length."""
    texts = all(type(arg) in f.ATOMS for arg in error.args)
    return f"{type(error).__name__}: {str(error)[:300]}" if texts else type(error).__name__


def _too_deep() -> CheckpointDecodeError:
    return CheckpointDecodeError(f"Stored values nest deeper than {f.MAX_DEPTH} levels.")
