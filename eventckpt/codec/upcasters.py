"""Upcasters: what an application says that a stored value of an older class becomes.

They work on the stored state, before anything is imported: the old class may be gone, and needs no permission. A chain
of them leads from the name that was stored to the one of today. What a function of an upcaster is given and gives back
is plain values and stored forms (docs/event-format.md), innermost first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec

from ..errors import CheckpointDecodeError
from . import forms as f
from . import shapes as s
from .fields import listed, malformed, text_of
from .forms import SHORT
from .messagepack import pack
from .root import Root
from .walk import all_in, key_of, labelled

__all__ = [
    "Recorded",
    "Upcast",
    "Upcaster",
    "Upcasters",
    "recorded_of",
    "register_upcaster",
    "state_of",
    "upcast",
]

_PARTS_OF_A_MODEL: Final = ("__dict__", "__pydantic_extra__", "__pydantic_private__")

State: TypeAlias = "dict[str, Any]"


class Upcaster(msgspec.Struct, frozen=True):
    """What a stored value of an older class becomes.

    Args:
        key: the class that was stored, `"module:qualname"`. It may be gone, and needs no permission.
        to: the class that it becomes, which does; None: the same one.
        fn: makes the state for that class of the stored one: a dict from the names of the fields to plain values and
            stored forms; of an enum, `name` and `value`. None: the state stays, the class has another name.

    Without `to`, `fn` is asked only where the class has another shape now than the one that was recorded, or where none
    was recorded.

    Raises:
        ValueError: a key is not of that form, or neither `to` nor `fn` is given.
        TypeError: `fn` cannot be called.
    """

    key: str
    to: str | None = None
    fn: Callable[[State], State] | None = None

    def __post_init__(self) -> None:
        for name, key in (("key", self.key), ("to", self.to)):
            if key is None and name == "to":
                continue
            if not isinstance(key, str) or not all(key.partition(":")):
                raise ValueError(f"{name} of an Upcaster is of the form 'module:qualname', not {key!r}.")
        if self.fn is not None and not callable(self.fn):
            raise TypeError(f"fn of the Upcaster of {self.key!r} has to be callable.")
        if self.fn is None and self.to in (None, self.key):
            raise ValueError(f"The Upcaster of {self.key!r} changes nothing: give it `to`, `fn`, or both.")

    @property
    def target(self) -> str:
        """The key of the class that the value becomes."""
        return self.to or self.key


class Chain(NamedTuple):
    """The upcasters that a stored value goes through, in order."""

    steps: tuple[Upcaster, ...]

    @property
    def target(self) -> str:
        """The class that it ends at."""
        return self.steps[-1].target

    @property
    def renames_only(self) -> bool:
        """Whether the state stays as it is."""
        return all(step.fn is None for step in self.steps)

    @property
    def stays(self) -> bool:
        """Whether the class keeps its name all along."""
        return all(step.target == step.key for step in self.steps)


class Upcasters:
    """The upcasters of one codec, and behind them those of the process.

    Raises:
        ValueError: two lead from one class to others, or they lead in a circle.
        TypeError: one of them is none.
    """

    def __init__(self, given: Iterable[Upcaster] = ()) -> None:
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
            raise TypeError(f"upcasters takes a list of Upcaster, not a {f.type_of(given).__name__}.")
        self._own = _by_key(given)
        self._chains: dict[str, Chain] = {}
        self._renamed: dict[str, str] = {}
        self._made_of = -1

    def chains(self) -> Mapping[str, Chain]:
        """From the key of each stored class that changes, what it goes through.

        Raises:
            CheckpointDecodeError: those of the codec and those of the process lead in a circle together.
        """
        if self._made_of != len(_registered):
            by_key = {**_by_key(_registered), **self._own}
            self._chains = {key: _chain(key, by_key, CheckpointDecodeError) for key in by_key}
            self._renamed = {key: chain.target for key, chain in self._chains.items()}
            self._made_of = len(_registered)
        return self._chains

    def renamed(self) -> Mapping[str, str]:
        """From the key of each stored class that changes, the class that it ends at; raises what `chains` does."""
        self.chains()
        return self._renamed


_registered: Final[list[Upcaster]] = []


def register_upcaster(upcaster: Upcaster) -> None:
    """Give an upcaster to every storage and audit of the process; again changes nothing. A storage's own ones come
    first.

    Raises:
        ValueError: another one leads from the same class elsewhere, or they lead in a circle.
        TypeError: it is no `Upcaster`.
    """
    _by_key([*_registered, upcaster])
    if upcaster not in _registered:
        _registered.append(upcaster)


def _by_key(given: Iterable[Upcaster]) -> dict[str, list[Upcaster]]:
    found: dict[str, list[Upcaster]] = {}
    for upcaster in given:
        if not isinstance(upcaster, Upcaster):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
            raise TypeError(f"upcasters takes values of Upcaster, not {type(upcaster).__name__}.")
        steps = found.setdefault(upcaster.key, [])
        if upcaster in steps:
            continue
        if steps and steps[-1].target != upcaster.key:
            raise ValueError(
                f"Two upcasters are given for {upcaster.key!r}, and the first leads to {steps[-1].target!r} already."
            )
        steps.append(upcaster)
    for key in found:
        _chain(key, found, ValueError)
    return found


def _chain(key: str, by_key: Mapping[str, list[Upcaster]], error: type[Exception]) -> Chain:
    steps: list[Upcaster] = []
    met = [key]
    while True:
        steps += by_key[met[-1]]
        target = steps[-1].target
        if target == met[-1] or target not in by_key:
            return Chain(tuple(steps))
        if target in met:
            raise error(f"The upcasters lead in a circle: {' -> '.join([*met, target])}.")
        met.append(target)


# Upcasting


class Upcast(dict[str, Any]):
    """A form whose state an upcaster made: the key of the class, the state by the names of the fields, and the label,
    if it had one. No bytes can hold one."""

    __slots__ = ("dropped",)

    def __init__(self, key: str, state: State, label: Any, dropped: list[Any]) -> None:
        super().__init__({f.FORM: key, f.STATE: state} | ({} if label is None else {f.LABEL: label}))
        self.dropped: list[Any] = dropped
        """Forms of which the state does not hold all any more that a reference elsewhere may mean."""


def upcast(
    root: Root,
    chains: Mapping[str, Chain],
    unchanged: Callable[[str], bool],
    stored: Callable[[Any], Any],
) -> Root:
    """A checkpoint whose values have gone through their upcasters. The tree is used up.

    Args:
        root: the checkpoint.
        chains: the upcasters, by the key that was stored. Mere renames change nothing here.
        unchanged: whether a class has the shape still that was recorded of it.
        stored: the stored form of a value that a function made.

    Raises:
        CheckpointDecodeError: a function failed, or gave no state.
    """
    active = {
        key: chain for key, chain in chains.items() if not chain.renames_only and not (chain.stays and unchanged(key))
    }
    holder: dict[str, Any] = {f.STATE: root.fields}
    places: list[tuple[Any, Any]] = []
    rest: list[tuple[Any, Any]] = [(holder, f.STATE)]
    while rest:
        place = rest.pop()
        node = place[0][place[1]]
        if type(node) is dict:
            form = cast("dict[str, Any]", node)
            rest += [(form, name) for name, item in form.items() if type(item) in (dict, list)]
            if key_of(form) in active:
                places.append(place)
        else:
            items = cast("list[Any]", node)
            rest += [(items, index) for index, item in enumerate(items) if type(item) in (dict, list)]
    recorded: dict[str, Recorded] = {}
    for container, at in reversed(places):  # what is inside a value comes before it
        form = container[at]
        key = cast(str, key_of(form))
        if key not in recorded:
            recorded[key] = recorded_of(root, key)
        container[at] = _through(active[key], form, recorded[key], stored)
    return Root(holder[f.STATE], root.shapes)


class Recorded(NamedTuple):
    """What the record of a class says of its values."""

    fields: list[str] | None
    """Their names, in order; None: there is no such record."""
    values: dict[str, Any] | None
    """Of an enum, the stored value of each name; None: it is no enum."""
    names: dict[bytes, str]
    """Likewise the name of each value, packed: looked up for each member that is stored."""


def recorded_of(root: Root, key: str) -> Recorded:
    """What was recorded of a class.

    Raises:
        CheckpointDecodeError: its record is malformed.
    """
    shape = s.recorded_shape(root.shapes, key)
    if shape is None:
        return Recorded(None, None, {})
    values: dict[str, Any] | None = dict(shape[s.MEMBERS]) if s.MEMBERS in shape else None
    names: dict[bytes, str] = {}
    for name, value in (values or {}).items():
        names.setdefault(pack(value), name)
    return Recorded(shape.get(s.FIELDS), values, names)


def _through(chain: Chain, form: dict[str, Any], shape: Recorded, stored: Callable[[Any], Any]) -> Upcast:
    state = state_of(form, shape)
    before = [*state.values()]
    for step in chain.steps:
        if step.fn is not None:
            state = _asked(step, step.fn, state)
    as_stored = _AsStored(stored, chain)
    made = {name: as_stored.form(value, 0) for name, value in state.items()}
    # In the order in which they were stored, wherever a function put them: a reference comes behind what it means.
    places = {id(each): at for at, each in enumerate(before)}
    order = {name: min(places.get(id(each), len(places)) for each in all_in(value)) for name, value in made.items()}
    made = {name: made[name] for name in sorted(made, key=order.__getitem__)}
    kept = labelled(list(made.values())).keys()
    dropped = [each for each in before if not labelled(each).keys() <= kept]
    return Upcast(chain.target, made, form.get(f.LABEL), dropped)


def _asked(step: Upcaster, fn: Callable[[State], State], state: State) -> State:
    try:
        made: Any = fn({**state})
    except (Exception, SystemExit) as error:
        raise CheckpointDecodeError(
            f"The upcaster of {step.key!r} to {step.target!r} failed: {type(error).__name__}: {str(error)[:300]}."
        ) from error
    if not isinstance(made, dict) or not all(isinstance(name, str) for name in cast("dict[Any, Any]", made)):
        raise CheckpointDecodeError(
            f"The upcaster of {step.key!r} to {step.target!r} has to return a dict of fields, and gave a "
            f"{f.type_of(made).__name__}."
        )
    return cast("State", made)


class _AsStored:
    """Makes stored forms of what a function gave: of values that it made, and of forms that it was given, each of which
    stands at one place."""

    def __init__(self, stored: Callable[[Any], Any], chain: Chain) -> None:
        self._stored = stored
        self._key = chain.steps[0].key
        self._met: dict[int, Any] = {}
        """By their ids, which are theirs as long as they are here."""

    def form(self, value: Any, depth: int) -> Any:
        """The stored form of a value. Lists and dicts are changed in place."""
        kind = f.type_of(value)
        if kind in f.ATOMS - f.LARGE_ATOMS:
            return value
        if id(value) in self._met:
            return self._again(value, depth)
        is_map = kind is dict and all(type(name) is str for name in value)
        if kind is Upcast or ((is_map or kind is list) and depth < f.MAX_DEPTH):
            self._met[id(value)] = value
        if kind is list and depth < f.MAX_DEPTH:
            for index, item in enumerate(value):
                value[index] = self.form(item, depth + 1)
        elif is_map and depth < f.MAX_DEPTH:
            for name, item in value.items():
                value[name] = self.form(item, depth + 1)
        elif kind is not Upcast:
            return self._of_its_own(value)
        return value

    def _again(self, value: Any, depth: int) -> Any:
        """A form that stands elsewhere already: a reference where it has a label, else an equal one."""
        if depth > f.MAX_DEPTH:
            raise CheckpointDecodeError(f"The upcaster of {self._key!r} gave a value that holds itself.")
        if type(value) is list:
            return [self._again(item, depth + 1) for item in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        form = cast("dict[str, Any]", value)
        if f.FORM in form and f.LABEL in form:
            return {f.FORM: f.REF, f.LABEL: form[f.LABEL]}
        copied = {name: self._again(item, depth + 1) for name, item in form.items()}
        return Upcast(copied[f.FORM], copied[f.STATE], None, []) if f.type_of(value) is Upcast else copied

    def _of_its_own(self, value: Any) -> Any:
        try:
            return self._stored(value)
        except Exception as error:
            raise CheckpointDecodeError(
                f"The upcaster of {self._key!r} gave a value that cannot be stored: {str(error)[:300]}"
            ) from error


# The state of a form


def state_of(form: dict[str, Any], shape: Recorded) -> State:
    """What a form holds, by the names of its fields; of an enum, `name` and `value`.

    Raises:
        CheckpointDecodeError: it is copied in a way of its own, or no names were recorded for what stands in order.
    """
    if form[f.FORM] == f.ENUM or shape.values is not None:
        return _of_member(form, shape)
    if f.PAIRS in form or f.ITEMS in form or f.BASE in form or f.KWARGS in form:
        raise _cannot_be_taken_apart(form)
    args = form.get(f.ARGS, form.get(f.CALL))
    if args:
        return _in_order(form, args, shape)
    state = form.get(f.STATE)
    if state is None:
        return {}
    if type(state) is list:
        return _in_order(form, state, shape)
    parts: list[Any] = [state]
    if type(state) is dict:
        attributes = cast("dict[str, Any]", state)
        if attributes.get(f.FORM) == f.TUPLE:
            parts = listed(attributes, f.ITEMS)
        elif {"__dict__", "__pydantic_fields_set__"} <= attributes.keys():
            parts = [attributes.get(name) for name in _PARTS_OF_A_MODEL]
    found: State = {}
    for part in parts:
        found.update(_attributes(form, part))
    return found


def _attributes(form: dict[str, Any], part: Any) -> State:
    if part is None:
        return {}
    if type(part) is dict and f.FORM not in part:
        return cast("State", part)
    raise _cannot_be_taken_apart(form)


def _in_order(form: dict[str, Any], values: Any, shape: Recorded) -> State:
    if shape.fields is None or type(values) is not list:
        raise _cannot_be_taken_apart(form)
    items = cast("list[Any]", values)
    if len(shape.fields) != len(items):
        raise _cannot_be_taken_apart(form)
    return dict(zip(shape.fields, items, strict=True))


def _of_member(form: dict[str, Any], shape: Recorded) -> State:
    if form[f.FORM] == f.ENUM:
        name = text_of(form, f.NAME)
        return {"name": name, "value": (shape.values or {}).get(name)}
    args = form.get(f.CALL)
    if type(args) is not list or len(cast("list[Any]", args)) != 1:
        raise malformed(form)
    return {"name": shape.names.get(pack(args[0])), "value": args[0]}


def _cannot_be_taken_apart(form: dict[str, Any]) -> CheckpointDecodeError:
    return CheckpointDecodeError(
        f"A stored {str(form.get(f.FORM))[:SHORT]!r} is copied in a way of its own, so that an upcaster is not given "
        "its fields. Keep the class, or migrate the run."
    )
