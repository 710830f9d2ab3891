"""The fields of a class that has changed: which of them are new, which are gone, and the state that comes of it."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final, Literal, TypeVar, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from . import shapes as s
from .drift import Drift, Drifts
from .forms import SHORT
from .shapes import Field

__all__ = ["Fields", "as_model"]

C = TypeVar("C", dict[str, Any], set[Any])

_OF_A_MODEL: Final = "__pydantic_fields_set__"
_ADDED: Final = "was added to the class without a default, and the stored value has none"


class Fields:
    """The fields of one class, then and now.

    Args:
        drifts: says whether to go on with one.
        cls: the class as it is now.
        key: its key in the store.
        then: the recorded shape; None: none was recorded.
        strict: whether a required field without a value is missed though nothing was recorded.
    """

    def __init__(
        self, drifts: Drifts, cls: type[Any], key: str, then: dict[str, Any] | None, *, strict: bool = True
    ) -> None:
        self._drifts = drifts
        self._key = key
        self.kind: str | None = s.kind_of(cls)
        # Asked once for each class, and not for each value.
        self._now = s.fields_of(cls)
        self._slots = frozenset(s.slots_of(cls))
        self._is_ordered = s.is_ordered(cls)
        is_model = self.kind == s.PYDANTIC
        self._private_now = s.private_of(cls) if is_model else {}
        self._takes_extra = is_model and s.takes_extra(cls)
        self._then: list[str] | None = None if then is None else then[s.FIELDS]
        self._names_then = frozenset(self._then or ())
        self._gone = self._names_then - self._now.keys()
        self._is_plain = not self._slots and not self._is_ordered
        self._private_then: frozenset[str] = frozenset(() if then is None else then.get(s.PRIVATE, ()))
        self._is_recorded = then is not None
        self._strict = strict

    def attributes(self, made: Any, state: Any) -> Any:
        """The attributes of a dataclass or an attrs class, as its state has them now."""
        if self._is_plain and self._fits(state):
            return state
        values = self._by_name(state)
        if _OF_A_MODEL in values:
            raise CheckpointDecodeError(self._text("__dict__", "is a part of the stored value, as it is of a model's"))
        self._drop_removed(values, self._names_then, self._now)
        self._add(made, values)
        if self._is_ordered:
            self._drop_removed(values, values.keys(), self._now)
            return self._in_order(values)
        set_by_name = self._slots | (_slots_in(state) - self._now.keys())
        slots = {name: values.pop(name) for name in sorted(set_by_name) if name in values}
        return (values or None, slots) if slots else values

    def _fits(self, values: Any) -> bool:
        """Whether nothing is to be filled in or taken out, as of most values of 0.1.0."""
        return _has(values, self._now) and self._gone.isdisjoint(values) and _OF_A_MODEL not in values

    def _by_name(self, state: Any) -> dict[str, Any]:
        if type(state) is list:
            names = self._then if self._then is not None else list(self._now)
            items = cast("list[Any]", state)
            if len(items) != len(names):
                raise CheckpointDecodeError(
                    f"A stored {self._key[:SHORT]!r} has {len(items)} values for {len(names)} fields."
                )
            return dict(zip(names, items, strict=True))
        values: dict[str, Any] = {}
        for part in cast("tuple[Any, ...]", state if type(state) is tuple else (state,)):
            values.update(self._exact(dict, part))
        return values

    def _exact(self, cls: type[C], part: Any) -> C:
        """A part of a state, or an empty one: of another class, copying it could call what the part holds, or never
        end."""
        if part is not None and type(part) is not cls:
            raise CheckpointDecodeError(
                f"A stored {self._key[:SHORT]!r} has a {f.type_of(part).__name__} in its state where a {cls.__name__} "
                "is to be; the event is damaged."
            )
        return cls() if part is None else part

    def of_model(self, made: Any, state: Any) -> Any:
        """The state of a pydantic model: its fields, its private attributes, and values of other names."""
        if not self._is_recorded and self._is_whole(state):
            return state
        parts = dict(self._exact(dict, state))
        if type(parts.get("__dict__")) is not dict:  # the model itself would take it for an empty one
            raise CheckpointDecodeError(self._text("__dict__", "is no part of the stored value, as it is of a model's"))
        values = dict(parts["__dict__"])
        extra = dict(self._exact(dict, parts.get("__pydantic_extra__")))
        given = self._exact(set, parts.get(_OF_A_MODEL))
        removed = self._drop_removed(values, self._names_then, self._now)
        for name in [name for name in extra if self._is_recorded and name in self._now]:
            values[name] = extra.pop(name)  # and stands in the set of the fields that were given, as it did
        self._add(made, values)
        if self._is_recorded:
            for name in [] if self._takes_extra else list(extra):
                self._drift("removed", name, "is a value beside the fields, which the model does not keep any more")
                del extra[name]
            parts["__pydantic_extra__"] = extra if self._takes_extra else None
        parts["__dict__"] = values
        parts[_OF_A_MODEL] = given - removed
        parts["__pydantic_private__"] = self._private(made, values, parts.get("__pydantic_private__"))
        return parts

    def _is_whole(self, state: Any) -> bool:
        """Whether a model's state lacks nothing, as most of 0.1.0."""
        parts = cast("dict[str, Any]", state) if type(state) is dict else {}
        return _has(parts.get("__dict__"), self._now) and _has(
            parts.get("__pydantic_private__") or {}, self._private_now
        )

    def _private(self, made: Any, public: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any] | None:
        now = self._private_now
        values = dict(self._exact(dict, stored))
        self._drop_removed(values, self._private_then, now)
        for name, field in now.items():
            if name not in values and name not in self._private_then and field.default is not None:
                values[name] = self._default(field, made, public | values)
        return values if now or values else None

    def arguments(self, args: list[Any]) -> list[Any]:
        """The values of a named tuple or a struct, in the order that its fields have now."""
        values = self._by_name(args)
        self._drop_removed(values, self._names_then, self._now)
        self._add(None, values)
        return self._in_order(values)

    def _in_order(self, values: dict[str, Any]) -> list[Any]:
        for name in self._now:
            if name not in values:
                raise CheckpointDecodeError(self._text(name, _ADDED))
        return [values[name] for name in self._now]

    def _drop_removed(self, values: dict[str, Any], then: Set[str], now: dict[str, Field]) -> set[str]:
        """Take out the values of fields that are gone."""
        removed = {name for name in values if name not in now and name in then}
        for name in sorted(removed):
            self._drift("removed", name, "has a stored value, and is no field of the class any more")
            del values[name]
        return removed

    def _add(self, made: Any, values: dict[str, Any]) -> None:
        """Fill in the fields that were added."""
        given = getattr(made, "__dict__", ())  # of an exception, which its constructor made
        for name, field in self._now.items():
            if name in values or name in self._names_then or name in given:
                continue
            if field.default is not None:
                values[name] = self._default(field, made, values)
            elif self._strict:
                self._drift("added", name, _ADDED)

    def _default(self, field: Field, made: Any, values: dict[str, Any]) -> Any:
        try:
            return cast(Any, field.default)(made, values)
        except Exception as error:
            raise CheckpointDecodeError(
                f"The default of the field {field.name!r}, which was added to {self._key[:SHORT]!r}, cannot be made: "
                f"{type(error).__name__}: {str(error)[:300]}."
            ) from error

    def _drift(self, kind: Literal["added", "removed"], name: str, what: str) -> None:
        self._drifts.note(Drift(self._key, kind, name[:SHORT], self._text(name, what)))

    def _text(self, name: str, what: str) -> str:
        return (
            f"The class {self._key[:SHORT]!r} has changed since the value was stored: {name[:SHORT]!r} {what}. "
            "Give it a default or keep it, or say by an upcaster or its __setstate__ what becomes of it."
        )


def as_model(values: dict[str, Any], named: list[str], private: list[str]) -> dict[str, Any]:
    """The state of a pydantic model that has these values."""
    return {
        "__dict__": {name: values[name] for name in named},
        "__pydantic_extra__": {
            name: each for name, each in values.items() if name not in named and name not in private
        },
        _OF_A_MODEL: set(named),
        "__pydantic_private__": {name: values[name] for name in private},
    }


def _has(values: Any, fields: dict[str, Field]) -> bool:
    return type(values) is dict and fields.keys() <= cast("dict[str, Any]", values).keys()


def _slots_in(state: Any) -> set[str]:
    """The names that a state sets one by one, as slots: any but a field's are looked at again where they are set."""
    parts = cast("tuple[Any, ...]", state) if type(state) is tuple else ()
    return set(cast("dict[str, Any]", parts[1] or {})) if len(parts) == 2 else set()
