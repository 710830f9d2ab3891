"""Application types that no checkpoint can hold: not allowed, or such as cannot be stored."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pydantic import BaseModel

from .checkpoint_types import listed

# What cannot be stored although it is allowed


@listed
class HasLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@listed
class CannotBeRead:
    def __getstate__(self) -> Any:
        raise RuntimeError("not now")


@listed
class CannotBeRebuilt:
    def __init__(self) -> None:
        self.ready = True

    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("state of another version")


@listed
class StrictName(str):
    """A str that cannot be rebuilt: its `__new__` takes more than `str` gives back."""

    def __new__(cls, text: str, suffix: str) -> Self:
        return super().__new__(cls, text + suffix)


@listed
class Reduces:
    """Reduces to whatever it was made with."""

    def __init__(self, reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


@listed
class ReducesToFunction:
    def __reduce__(self) -> Any:
        return make_one, ()


def make_one() -> Any:
    return ReducesToFunction()


@listed
class StateSetter:
    """Brings a function that would restore its state."""

    def __reduce__(self) -> Any:
        return StateSetter, (), {"a": 1}, None, None, set_state


def set_state(target: Any, state: Any) -> None:
    target.__dict__.update(state)


@listed
class Singleton:
    def __reduce__(self) -> str:
        return "SINGLETON"


SINGLETON = Singleton()


@listed
class Replaced:
    """Another class has its name by now."""


FirstReplaced = Replaced


class Replaced:
    pass


# What nobody allowed


@dataclass
class Unlisted:
    value: Any = None


@dataclass(frozen=True)
class UnlistedKey:
    value: Any = None


class UnlistedName(str):
    pass


class UnlistedNumber(int):
    pass


class UnlistedRatio(float):
    pass


class UnlistedLevel(enum.IntEnum):
    LOW = 1


class UnlistedKind(enum.StrEnum):
    A = "a"


class UnlistedColour(enum.Enum):
    RED = 1


class UnlistedModel(BaseModel):
    value: int = 1


class UnlistedError(Exception):
    pass


class UnlistedPair(NamedTuple):
    left: Any = 1


class UnlistedItems(list[Any]):
    pass


class UnlistedTable(dict[Any, Any]):
    pass


def local_class() -> type[Any]:
    class Local:
        pass

    return Local
