"""From a tree of natives back to live values: the half of the codec that reads what may be hostile.

A form can do what the framework's restricted loader lets a checkpoint do, and less: make instances of allowed
types, with arguments of bounded size, and set their state. Constructors of types that nobody allowed by name
are run only where the type's own copy protocol asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import EnumMeta
from types import NoneType
from typing import Any, NamedTuple, cast

from agent_framework import WorkflowCheckpointException

from ..allowlist import TypeGate, type_key
from ..errors import CheckpointDecodeError
from . import forms as f

__all__ = ["Decoder"]

_ONLY_STR = frozenset({str})

_MAX_RANGE = 1_000_000
"""The longest `range` that may be a constructor's argument: `list(range(10**12))` is 40 bytes that fill any memory."""


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
        self._recipes = recipes
        self._labelled: dict[int, Any] = {}
        self._kinds: dict[str, Callable[[dict[str, Any], int], Any]] = {
            f.INT: lambda node, depth: int.from_bytes(_bytes(node), "big", signed=True),
            f.STR: lambda node, depth: _bytes(node).decode("utf-8", "surrogatepass"),
            f.BYTEARRAY: self._bytearray,
            f.TUPLE: lambda node, depth: tuple(self._items(node, depth)),
            f.FROZENSET: lambda node, depth: frozenset(self._items(node, depth)),
            f.LIST: self._list,
            f.DICT: self._dict,
            f.SET: self._set,
            f.TYPE: self._type,
            f.ENUM: self._enum,
            f.REF: self._ref,
        }

    def value(self, node: Any, depth: int = 0) -> Any:
        """The value that `node` stands for. The tree is used up: its lists and maps become the value's.

        Raises:
            CheckpointDecodeError, CheckpointTypeNotAllowedError: see `CheckpointCodec.decode`.
        """
        kind = f.type_of(node)
        if kind is dict:
            if depth > f.MAX_DEPTH:
                raise _too_deep()
            form = node.get(f.FORM)
            if form is None:
                return self._map(node, depth)
            if type(form) is not str:
                raise CheckpointDecodeError("A stored form has a name that is not text.")
            if ":" in form:
                return self._object(node, form, depth)
            make = self._kinds.get(form)
            if make is None:
                raise CheckpointDecodeError(
                    f"Stored values use the kind {form[:80]!r}, which this version of eventckpt does not know. "
                    "The event was written by a newer version, or is damaged."
                )
            return make(node, depth)
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

    def _map(self, node: dict[Any, Any], depth: int) -> dict[str, Any]:
        atoms, value = f.ATOMS, self.value
        if not _ONLY_STR.issuperset(map(type, node)):
            raise CheckpointDecodeError("A stored map has a key that is not text.")
        if not atoms.issuperset(map(type, filter(None, node.values()))):  # empty values stand for themselves
            for key, item in node.items():
                if item and type(item) not in atoms:
                    node[key] = value(item, depth + 1)
        return node

    # Kinds

    def _items(self, node: dict[str, Any], depth: int) -> list[Any]:
        items = node.get(f.ITEMS)
        if type(items) is not list:
            raise _malformed(node)
        self._fill(cast(list[Any], items), depth)
        return cast(list[Any], items)

    def _list(self, node: dict[str, Any], depth: int) -> list[Any]:
        self._label(node, node.get(f.ITEMS))
        return self._items(node, depth)

    def _dict(self, node: dict[str, Any], depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._label(node, made)
        self._set_pairs(made, node, depth)
        return made

    def _set_pairs(self, target: Any, node: dict[str, Any], depth: int) -> None:
        pairs = node.get(f.PAIRS)
        if type(pairs) is not list:
            raise _malformed(node)
        for pair in cast(list[Any], pairs):
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
        label = node.get(f.LABEL)
        if type(label) is not int or label not in self._labelled:
            raise CheckpointDecodeError(f"A stored reference leads to {label!r}, which is not there.")
        return self._labelled[label]

    # Objects

    def _object(self, node: dict[str, Any], key: str, depth: int) -> Any:
        recipe = self._recipes.get(key) or self._learn(key)
        try:
            # By far the most frequent: an instance and its attributes.
            bare = len(node) == 2 and f.STATE in node
            made = recipe.new(recipe.cls) if bare else self._built(recipe, node, depth)
            if f.STATE in node:
                state = self.value(node[f.STATE], depth + 1)
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
        reduces_itself = cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__
        recipe = _Recipe(
            cls=cls,
            new=cls.__new__,
            setstate=getattr(cls, "__setstate__", None),
            callable=reduces_itself or not self._gate.is_built_in(key),
        )
        self._recipes[key] = recipe
        return recipe

    def _built(self, recipe: _Recipe, node: dict[str, Any], depth: int) -> Any:
        """The object without its state."""
        if not f.OBJECT_FIELDS.issuperset(node):
            raise _malformed(node)
        made = self._made(recipe, node, depth)
        self._label(node, made)
        if f.ITEMS in node:
            _extend(made, self._items(node, depth))
        if f.PAIRS in node:
            self._set_pairs(made, node, depth)
        return made

    def _made(self, recipe: _Recipe, node: dict[str, Any], depth: int) -> Any:
        cls = recipe.cls
        called = f.CALL in node
        args = self._arguments(cls, node, f.CALL if called else f.ARGS, depth)
        if cls is type:
            if not called or args != [None]:
                raise CheckpointDecodeError("A checkpoint cannot make a class.")
            return NoneType
        if called:
            if not recipe.callable:
                raise CheckpointDecodeError(
                    f"A stored {type_key(cls)!r} asks for a call that its class never asks for."
                )
            return cls(*args)
        if f.BASE in node:
            return _reconstructed(cls, self._gate.resolve(_text(node, f.BASE)), args)
        keywords = self.value(node.get(f.KWARGS, {}), depth + 1)
        return recipe.new(cls, *args, **keywords)

    def _arguments(self, cls: type[Any], node: dict[str, Any], field: str, depth: int) -> list[Any]:
        args = node.get(field, [])
        if type(args) is not list:
            raise _malformed(node)
        args = cast(list[Any], args)
        self._fill(args, depth)
        for arg in args:
            if isinstance(arg, range) and len(arg) > _MAX_RANGE:
                raise CheckpointDecodeError(f"A stored {type_key(cls)!r} is built from a range of {len(arg):,} items.")
            if isinstance(arg, int) and issubclass(cls, (bytes, bytearray)):
                raise CheckpointDecodeError(f"A stored {type_key(cls)!r} is built from a size instead of its content.")
        return args


def _set_attributes(made: Any, state: Any) -> None:
    """What a type without `__setstate__` does with its state: a dict of attributes, or a pair of it and of slots."""
    attributes, slots = state if f.type_of(state) is tuple and len(state) == 2 else (state, None)
    if attributes:
        made.__dict__.update(attributes)
    for name, item in cast(dict[str, Any], slots or {}).items():
        if name in ("__class__", "__dict__"):
            raise CheckpointDecodeError(f"A stored state sets {name}.")
        setattr(made, name, item)


def _reconstructed(cls: type[Any], base: type[Any], args: list[Any]) -> Any:
    """What `copyreg._reconstructor(cls, base, state)` does."""
    if not issubclass(cls, base) or len(args) != 1:
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
