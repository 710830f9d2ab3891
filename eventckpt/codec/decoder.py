"""From a tree of natives back to live values: the half of the codec that reads what may be hostile.

A form can do what the framework's restricted loader lets a checkpoint do, and less: make instances of allowed
types, with arguments of bounded size, and set their state. Constructors of types that nobody allowed by name
are run only where the type's own copy protocol asks for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import Enum, EnumMeta
from types import BuiltinFunctionType, NoneType
from typing import Any, ClassVar, NamedTuple, cast

from agent_framework import WorkflowCheckpointException

from ..allowlist import TypeGate, type_key
from ..errors import CheckpointDecodeError
from . import forms as f

__all__ = ["Decoder"]

_ONLY_STR = frozenset({str})

_MAX_UNHELD = 1_000_000
"""How many items, all in all, may be made out of arguments that do not hold them: `list(range(10**12))` is 40 bytes
that fill any memory, `int(Decimal("1e9999999"))` as many that take hours."""

_CONTAINERS: tuple[type[Any], ...] = (list, tuple, set, frozenset, dict, deque, bytes, bytearray)

_ABSENT = object()


class _Recipe(NamedTuple):
    """How instances of one type are rebuilt."""

    cls: type[Any]
    new: Callable[..., Any]
    setstate: Callable[[Any, Any], None] | None
    callable: bool
    """Whether a form may call the type."""


class Decoder:
    """Decodes one checkpoint.

    Args:
        gate: the allow-list.
        recipes: what is known of types already met; shared between decoders of a gate.
    """

    def __init__(self, gate: TypeGate, recipes: dict[str, _Recipe]) -> None:
        self._gate = gate
        self._known = recipes
        self._recipes: dict[str, _Recipe] = {}
        """Of types met and admitted in this checkpoint."""
        self._labelled: dict[int, Any] = {}
        self._unheld = 0

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
                raise CheckpointDecodeError("A stored form has a name that is not text.")
            if ":" in form:
                return self._object(node, form, depth)
            make = self._KINDS.get(form)
            if make is None:
                raise CheckpointDecodeError(
                    f"Stored values use the kind {form[:80]!r}, which this version of eventckpt does not know. "
                    "The event was written by a newer version, or is damaged."
                )
            return make(self, node, depth)
        if kind is list:
            if depth > f.MAX_DEPTH:
                raise _too_deep()
            self._fill(node, depth)
        elif kind not in f.ATOMS:
            raise CheckpointDecodeError(f"A stored value is a {kind.__name__}, which eventckpt never writes.")
        return node

    def _fill(self, items: list[Any], depth: int) -> None:
        atoms, value = f.ATOMS, self.value
        if not atoms.issuperset(map(type, items)):
            for index, item in enumerate(items):
                if item and type(item) not in atoms:
                    items[index] = value(item, depth + 1)

    def _map(self, node: dict[Any, Any], depth: int, *, named: bool = True) -> dict[str, Any]:
        """A map with its values decoded; `named` tells to refuse keys that are not text."""
        atoms, value = f.ATOMS, self.value
        if named and not _ONLY_STR.issuperset(map(type, node)):
            raise CheckpointDecodeError("A stored map has a key that is not text.")
        filled: Iterable[Any] = filter(None, node.values())  # empty values stand for themselves
        if not atoms.issuperset(map(type, filled)):
            for key, item in node.items():
                if item and type(item) not in atoms:
                    node[key] = value(item, depth + 1)
        return node

    # Kinds

    def _int(self, node: dict[str, Any], depth: int) -> int:
        return int.from_bytes(_bytes(node), "big", signed=True)

    def _str(self, node: dict[str, Any], depth: int) -> str:
        return _bytes(node).decode("utf-8", "surrogatepass")

    def _tuple(self, node: dict[str, Any], depth: int) -> tuple[Any, ...]:
        return tuple(self._items(node, depth))

    def _frozenset(self, node: dict[str, Any], depth: int) -> frozenset[Any]:
        return frozenset(self._items(node, depth))

    def _items(self, node: dict[str, Any], depth: int) -> list[Any]:
        items = _listed(node, f.ITEMS)
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
        for pair in _listed(node, f.PAIRS):
            if type(pair) is not list or len(cast(list[Any], pair)) != 2:
                raise _malformed(node)
            target[self.value(pair[0], depth + 1)] = self.value(pair[1], depth + 1)

    def _set(self, node: dict[str, Any], depth: int) -> set[Any]:
        made: set[Any] = set()
        self._label(node, made)
        made.update(self._items(node, depth))
        return made

    def _bytearray(self, node: dict[str, Any], depth: int) -> bytearray:
        made = bytearray(_bytes(node))
        self._label(node, made)
        return made

    def _type(self, node: dict[str, Any], depth: int) -> type[Any]:
        return self._gate.resolve(_text(node, f.NAME))

    def _enum(self, node: dict[str, Any], depth: int) -> Any:
        cls = self._gate.resolve(_text(node, f.EXPECT))
        name = _text(node, f.NAME)
        if not isinstance(cls, EnumMeta) or name not in cls.__members__:
            raise CheckpointDecodeError(f"{type_key(cls)!r} has no member {name!r} now.")
        return cls.__members__[name]

    # Shared references

    def _label(self, node: dict[str, Any], made: Any) -> None:
        label = node.get(f.LABEL)
        if label is not None:
            if type(label) is not int or label in self._labelled:
                raise _malformed(node)
            self._labelled[label] = made

    def _ref(self, node: dict[str, Any], depth: int) -> Any:
        for field in (f.ARGS, f.CALL, f.KWARGS):  # of an object that its own arguments hold: it is in there
            if field in node:
                self.value(node[field], depth)
        label = node.get(f.LABEL)
        if type(label) is not int:
            raise _malformed(node)
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
                    state = self.value(state, depth + 1)
                else:  # a type's own method sees for itself whether every name is text
                    self._map(state, depth, named=recipe.setstate is None)
                if recipe.setstate is not None:
                    recipe.setstate(made, state)
                else:
                    _set_attributes(made, state)
        except (WorkflowCheckpointException, RecursionError):
            raise
        except Exception as error:
            raise CheckpointDecodeError(
                f"A stored {key!r} cannot be rebuilt: {type(error).__name__}: {error}. "
                "Has the class changed since it was saved? Its __setstate__ is the place to accept older states."
            ) from error
        if f.EXPECT in node and type_key(f.type_of(made)) != node[f.EXPECT]:
            raise CheckpointDecodeError(f"A stored {node[f.EXPECT]!r} comes back as {type_key(f.type_of(made))!r}.")
        return made

    def _learn(self, key: str) -> _Recipe:
        cls = self._gate.resolve(key)
        recipe = self._known.get(key)
        if recipe is None or recipe.cls is not cls:
            reduces_itself = cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__
            recipe = self._known[key] = _Recipe(
                cls=cls,
                new=cls.__new__,
                setstate=_refuse_state if issubclass(cls, Enum) else getattr(cls, "__setstate__", None),
                callable=reduces_itself or not self._gate.is_built_in(key),
            )
        self._recipes[key] = recipe
        return recipe

    def _made(self, recipe: _Recipe, node: dict[str, Any], depth: int) -> Any:
        """The object without its state."""
        if not f.OBJECT_FIELDS.issuperset(node):
            raise _malformed(node)
        cls = recipe.cls
        called = f.CALL in node
        args = _listed(node, f.CALL if called else f.ARGS, [])
        self._fill(args, depth)
        for arg in args:
            if isinstance(arg, (int, range, Decimal)):
                self._check_size(cls, arg)
        if issubclass(cls, type):
            if cls is not type or not called or args != [None]:
                raise CheckpointDecodeError("A checkpoint cannot make a class.")
            made: Any = NoneType
        elif called:
            if not recipe.callable:
                raise CheckpointDecodeError(
                    f"A stored {type_key(cls)!r} asks for a call that its class never asks for."
                )
            made = cls(*args)
        elif f.BASE in node:
            made = _reconstructed(cls, self._gate.resolve(_text(node, f.BASE)), args)
        else:
            keywords = node.get(f.KWARGS, {})
            if f.type_of(keywords) is dict and f.FORM not in keywords:
                self._map(keywords, depth)
            else:
                keywords = self.value(keywords, depth + 1)
            made = recipe.new(cls, *args, **keywords)
        self._label(node, made)
        if f.ITEMS in node:
            items = _listed(node, f.ITEMS)
            self._fill(items, depth)
            _extend(made, items)
        if f.PAIRS in node:
            if isinstance(made, (list, bytearray)):  # list[slice] = list doubles it
                raise _malformed(node)
            self._set_pairs(made, node, depth)
        return made

    def _check_size(self, cls: type[Any], arg: int | range | Decimal) -> None:
        """Refuse arguments with which a few stored bytes would fill memory or compute for hours."""
        cost = 0
        if isinstance(arg, range):
            if issubclass(cls, _CONTAINERS) and isinstance(cls.__new__, BuiltinFunctionType):
                cost = len(arg)
        elif isinstance(arg, Decimal):
            if issubclass(cls, int):
                cost = Decimal.adjusted(arg) ** 2  # digits; converting them takes the square of their number
        elif issubclass(cls, Decimal):
            cost = (arg.bit_length() // 3) ** 2
        elif issubclass(cls, (bytes, bytearray)):
            cost = arg
        self._unheld += max(cost, 0)
        if self._unheld > _MAX_UNHELD:
            raise CheckpointDecodeError(
                f"A stored {type_key(cls)!r} would take far more to make than the event's size allows for."
            )

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
        f.TYPE: _type,
        f.ENUM: _enum,
        f.REF: _ref,
    }


def _set_attributes(made: Any, state: Any) -> None:
    """What a type without `__setstate__` does with its state: a dict of attributes, or a pair of it and of slots."""
    if isinstance(state, dict):
        made.__dict__.update(state)
        return
    attributes, slots = cast("tuple[Any, Any]", state if isinstance(state, tuple) else ())
    if attributes is not None:
        made.__dict__.update(attributes)
    for name, item in slots.items():
        if name in ("__class__", "__dict__"):
            raise CheckpointDecodeError(f"A stored state sets {name}.")
        setattr(made, name, item)


def _refuse_state(made: Any, state: Any) -> None:
    raise CheckpointDecodeError(f"A stored state would change {made!r}, which the whole process shares.")


def _reconstructed(cls: type[Any], base: type[Any], args: list[Any]) -> Any:
    """What `copyreg._reconstructor(cls, base, state)` does, with a built-in `base` as the copy protocol has it."""
    if not issubclass(cls, base) or base.__flags__ & f.HEAP_TYPE or len(args) != 1:
        raise CheckpointDecodeError(f"A stored {type_key(cls)!r} is built from {type_key(base)!r}.")
    if base is object:
        return object.__new__(cls)
    made = base.__new__(cls, args[0])
    if base.__init__ is not object.__init__:
        base.__init__(made, *args)
    return made


def _extend(made: Any, items: list[Any]) -> None:
    extend = getattr(made, "extend", None)
    if extend is not None:
        extend(items)
        return
    for item in items:
        made.append(item)


def _listed(node: dict[str, Any], field: str, default: Any = None) -> list[Any]:
    values = node.get(field, default)
    if type(values) is not list:
        raise _malformed(node)
    return cast(list[Any], values)


def _bytes(node: dict[str, Any]) -> bytes:
    raw = node.get(f.RAW)
    if type(raw) is not bytes:
        raise _malformed(node)
    return raw


def _text(node: dict[str, Any], field: str) -> str:
    text = node.get(field)
    if type(text) is not str:
        raise _malformed(node)
    return text


def _too_deep() -> CheckpointDecodeError:
    return CheckpointDecodeError(f"Stored values nest deeper than {f.MAX_DEPTH} levels.")


def _malformed(node: dict[str, Any]) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"A stored {str(node.get(f.FORM))[:80]!r} is malformed; the event is damaged.")
