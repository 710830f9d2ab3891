"""A change of a class between a save and a load, as data: what it was, what it is, and what a load is to give.

The tables of such changes are beside this module, one for each sort of class; docs/evolution.md shows them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from textwrap import indent
from types import ModuleType
from typing import Any, Final

import attrs
import msgspec
import pytest
from pydantic import BaseModel

__all__ = ["MODULE", "Kind", "Refused", "attrs_class", "data", "enum", "imported", "model", "shown", "struct", "tupled"]

MODULE: Final = "shop"
"""The module that all these classes are in."""

_HEAD: Final = """
from collections import namedtuple
from dataclasses import KW_ONLY, InitVar, dataclass, field
from enum import Enum, Flag, FlagBoundary, IntEnum, IntFlag, StrEnum, auto, unique
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypedDict, TypeVar
import attrs, msgspec
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel
"""


@dataclass(frozen=True)
class Refused:
    """A `CheckpointDecodeError` that names the class, and what of it."""

    names: str
    """A field or a member; where it is the class as a whole, `M`."""

    def __str__(self) -> str:
        return f"error: `{self.names}`"


Outcome = str | Refused


@dataclass(frozen=True)
class Kind:
    """One change."""

    name: str
    then: str
    """The source of the class `M` when the value was saved."""
    now: str
    value: str
    """An expression that made the value."""
    want: Outcome
    """What a load gives, as `shown` says it."""
    warn: Outcome | None = None
    """The same with `on_drift="warn"`; None: no other."""
    bare: Outcome | None = None
    """The same of an event that records no shapes; None: no other."""
    allowed: tuple[str, ...] = ("M",)
    tells: bool | None = None
    """Whether a load by `on_drift="warn"` tells of it; None: where it is an error otherwise."""

    def outcome(self, on_drift: str, *, bare: bool) -> Outcome:
        """What a load is to give."""
        if bare:
            return self.want if self.bare is None else self.bare
        return self.want if on_drift == "error" or self.warn is None else self.warn

    @property
    def keys(self) -> list[str]:
        """What the storage is given as allowed."""
        return [f"{MODULE}:{name}" for name in self.allowed]


def imported(monkeypatch: pytest.MonkeyPatch, source: str, name: str = MODULE) -> ModuleType:
    """The module of that name as a deployment of this source has it."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(_HEAD + source, f"<{name}>", "exec", dont_inherit=True), vars(module))
    return module


def data(*lines: str, options: str = "") -> str:
    """A dataclass."""
    return f"@dataclass{options}\nclass M:\n" + _body(lines)


def model(*lines: str, of: str = "BaseModel") -> str:
    """A pydantic model."""
    return f"class M({of}):\n" + _body(lines)


def tupled(*lines: str) -> str:
    """A named tuple."""
    return "class M(NamedTuple):\n" + _body(lines)


def attrs_class(*lines: str, how: str = "attrs.define") -> str:
    """A class of attrs."""
    return f"@{how}\nclass M:\n" + _body(lines)


def struct(*lines: str, options: str = "") -> str:
    """A struct of msgspec."""
    return f"class M(msgspec.Struct{options}):\n" + _body(lines)


def enum(*lines: str, of: str = "Enum") -> str:
    """An enum."""
    return f"class M({of}):\n" + _body(lines)


def _body(lines: tuple[str, ...]) -> str:
    return indent("\n".join(lines or ("pass",)), "    ") + "\n"


def shown(value: Any) -> str:
    """A value as the tables say it: an instance by its fields, with those that it lacks and those that are none."""
    if isinstance(value, Enum) or value is None:
        return repr(value)
    if type(value) is list:
        return f"[{', '.join(map(shown, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{key!r}: {shown(item)}' for key, item in value.items())}}}"
    cls = type(value)
    if cls.__module__ != MODULE:
        return repr(value)
    names, attributes = _field_names(cls), _attributes(value)
    if names is None:
        names = list(attributes)
    others = [name for name in attributes if name not in names]
    if not isinstance(value, BaseModel):  # which finds its values in its parts alone
        attributes = {name: getattr(value, name) for name in names if hasattr(value, name)} | attributes
    lacking = [name for name in names if name not in attributes]
    items = [f"{name}={shown(attributes[name])}" for name in names if name not in lacking]
    items += [f"{name}:={shown(attributes[name])}" for name in others]
    without = f" without {', '.join(lacking)}" if lacking else ""
    return f"{cls.__name__}({', '.join(items)}){without}"


def _field_names(cls: type[Any]) -> list[str] | None:
    if is_dataclass(cls):
        return [field.name for field in fields(cls)]
    if issubclass(cls, BaseModel):
        return [*cls.model_fields, *cls.__private_attributes__]
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    if attrs.has(cls):
        return [field.name for field in attrs.fields(cls)]
    return list(getattr(cls, "_fields", ())) or None


def _attributes(value: Any) -> Mapping[str, Any]:
    own: dict[str, Any] = dict(getattr(value, "__dict__", {}))
    if isinstance(value, BaseModel):
        own |= (value.__pydantic_private__ or {}) | (value.__pydantic_extra__ or {})
    return own
