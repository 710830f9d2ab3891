"""Application types as they turn up in the state of workflows, for the tests of the codec.

`@listed` adds a class to `ALLOWED`, as an application would in `allowed_checkpoint_types`. What no checkpoint can
hold is in `refused_types`.
"""

from __future__ import annotations

import copyreg
import enum
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

ALLOWED: list[str] = []

C = TypeVar("C", bound=type[Any])
T = TypeVar("T")


def listed(cls: C) -> C:
    ALLOWED.append(f"{cls.__module__}:{cls.__qualname__}")
    return cls


class ByAttributes:
    """Equal when of one type and with equal attributes, in `__dict__` and in slots."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__getstate__() == self.__getstate__()

    __hash__ = None


# Dataclasses


@listed
@dataclass
class Point:
    x: Any
    y: Any = 0


@listed
@dataclass(frozen=True)
class FrozenPoint:
    x: Any
    y: Any = 0


@listed
@dataclass(slots=True)
class SlottedPoint:
    x: Any
    y: Any = 0


@listed
@dataclass(frozen=True, slots=True)
class FrozenSlottedPoint:
    x: Any
    y: Any = 0


@listed
@dataclass
class Place(Point):
    """A dataclass that inherits fields and adds its own, one of them made anew for every instance."""

    name: str = ""
    tags: list[str] = field(default_factory=list)


@listed
@dataclass
class Holder:
    """Holds a value where the framework's stores see one opaque object."""

    value: Any


# Pydantic


@listed
class Address(BaseModel):
    street: str
    zip_code: int


@listed
class Customer(BaseModel):
    name: str
    address: Address
    notes: dict[int, str] = {}
    _visits: int = PrivateAttr(default=0)

    def visit(self) -> Self:
        self._visits += 1
        return self

    @property
    def visits(self) -> int:
        return self._visits


@listed
class OpenModel(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    known: int


class Box(BaseModel, Generic[T]):
    content: T


IntBox = listed(Box[int])


# Enumerations


@listed
class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    BLUE = (0, 0, 255)


@listed
class ByName(enum.Enum):
    """Its members are stored by name: nothing can store their values."""

    __reduce_ex__ = enum.pickle_by_enum_name
    LOCAL = threading.Lock()
    REMOTE = threading.Condition()


@listed
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@listed
class Kind(enum.StrEnum):
    A = "a"
    B = "b"


@listed
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@listed
class Mode(enum.IntFlag):
    FAST = 1
    SAFE = 2


# Tuples


@listed
class Pair(NamedTuple):
    left: Any
    right: Any = None


LegacyPair = listed(namedtuple("LegacyPair", ["left", "right"]))


# Subclasses of built-in types. Those with an owner may carry attributes; of the others the copy protocol, which the
# standard library defines for them, keeps none.


@listed
class Items(list[Any]):
    owner: str


@listed
class Table(dict[Any, Any]):
    owner: str


@listed
class Tags(set[Any]):
    owner: str


@listed
class FrozenTags(frozenset[Any]):
    owner: str


@listed
class Name(str):
    owner: str


@listed
class Number(int):
    owner: str


@listed
class Ratio(float):
    owner: str


@listed
class Version(tuple[Any, ...]):
    owner: str


@listed
class Blob(bytes):
    owner: str


@listed
class Buffer(bytearray):
    owner: str


@listed
class Recent(deque[Any]):
    owner: str


@listed
class Tally(Counter[Any]):
    pass


@listed
class Groups(defaultdict[Any, Any]):
    pass


@listed
class Steps(OrderedDict[Any, Any]):
    owner: str


@listed
class Price(Decimal):
    pass


def owned(value: T, owner: str = "me") -> T:
    value.owner = owner
    return value


# Classes that say themselves what their state is


@listed
class Slots(ByAttributes):
    __slots__ = ("_Slots__hidden", "left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right
        self.__hidden = "yes"

    @property
    def hidden(self) -> str:
        return self.__hidden


@listed
class SlotsAndDict(Slots):
    """Slots of its base, and a `__dict__` of its own."""

    def __init__(self, left: Any, right: Any, extra: Any) -> None:
        super().__init__(left, right)
        self.extra = extra


@listed
class Attrs(ByAttributes):
    """What the attrs package makes of a slotted class: its own pair of state methods."""

    __slots__ = ("left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("left", "right")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, item in state.items():
            object.__setattr__(self, name, item)


@listed
class Connection(ByAttributes):
    """Leaves out of its state what cannot be stored, and makes it anew."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"host": self.host}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["host"])


@listed
class StateOfAnyShape(ByAttributes):
    """Its state is whatever it was made with, even None or an empty list."""

    state: Any = None

    def __init__(self, state: Any) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state

    def __setstate__(self, state: Any) -> None:
        self.state = state


@listed
class Borg(ByAttributes):
    """All instances made by `of` share one dict of attributes."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.__dict__ = attributes


@listed
class Delegating:
    """Hands unknown attributes on, as proxies do, and so would recurse before it has its own."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


# Classes that say themselves how they are rebuilt


@listed
@dataclass
class Money:
    amount: Decimal
    currency: str

    def __reduce__(self) -> Any:
        return Money, (self.amount, self.currency)


@listed
@dataclass(frozen=True)
class Factory:
    """Makes the values that a defaultdict does not have yet."""

    value: Any

    def __call__(self) -> Any:
        return self.value


@listed
class Celsius:
    """Comes back as a `Kelvin`."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __reduce__(self) -> Any:
        return Kelvin, (self.degrees + 273.15,)


@listed
@dataclass
class Kelvin:
    degrees: float


@listed
class Shape:
    """A factory: calling it makes an instance of a subclass."""

    sides = 0

    def __new__(cls, sides: int) -> Shape:
        made = object.__new__({4: Square}.get(sides, cls))
        made.sides = sides
        return made

    def __reduce__(self) -> Any:
        return Shape, (self.sides,)


@listed
class Square(Shape):
    pass


@listed
class KeywordOnly(ByAttributes):
    """Its `__new__` takes keywords that `__getnewargs_ex__` brings back."""

    def __new__(cls, *, region: str, size: int = 1) -> Self:
        made = super().__new__(cls)
        made.made_with = (region, size)
        return made

    made_with: tuple[str, int]

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), {"region": self.made_with[0], "size": self.made_with[1]}


@listed
class Temperature(float):
    """Its `__new__` takes what `__getnewargs__` brings back."""

    unit: str

    def __new__(cls, degrees: float, unit: str) -> Self:
        made = super().__new__(cls, degrees)
        made.unit = unit
        return made

    def __getnewargs__(self) -> tuple[float, str]:
        return float(self), self.unit


@listed
class Tagged(ByAttributes):
    """Cannot be made without the argument that `__getnewargs__` brings back."""

    tag: str

    def __new__(cls, tag: str) -> Self:
        made = super().__new__(cls)
        made.tag = tag
        return made

    def __getnewargs__(self) -> tuple[str]:
        return (self.tag,)


@listed
class Interval(ByAttributes):
    """Makes its argument anew for each reduction."""

    def __init__(self, ends: list[tuple[int]]) -> None:
        (self.low,), (self.high,) = ends

    def __reduce__(self) -> Any:
        return Interval, ([(self.low,), (self.high,)],)


@listed
class Matrix(ByAttributes):
    """Its reducer is registered with `copyreg`."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows


copyreg.pickle(Matrix, lambda matrix: (Matrix, (matrix.rows,)))


@listed
class OldProtocol(ByAttributes):
    """Copied by protocol 1, which has a builder of its own."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __reduce_ex__(self, protocol: Any) -> Any:
        return super().__reduce_ex__(1)


@listed
class OldList(list[Any]):
    """Copied by protocol 1, as a list."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return super().__reduce_ex__(1)


@listed
class Queue(ByAttributes):
    """Brings its content as list items and as dict items."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.done: dict[Any, Any] = {}

    def append(self, job: Any) -> None:
        self.jobs.append(job)

    def __setitem__(self, key: Any, result: Any) -> None:
        self.done[key] = result

    def __reduce__(self) -> Any:
        return Queue, (), None, iter(self.jobs), iter(self.done.items())


@listed
class ToNative:
    """Comes back as a native value."""

    def __init__(self, kind: type[Any], *args: Any) -> None:
        self.reduced = kind, args

    def __reduce__(self) -> Any:
        return self.reduced


# Objects that lead back to themselves


@listed
class Node:
    def __init__(self, name: str) -> None:
        self.name = name
        self.parent: Node | None = None
        self.children: list[Node] = []

    def add(self, child: Node) -> Node:
        child.parent = self
        self.children.append(child)
        return child

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


@listed
class Tree(Node):
    """Its children, which hold it, are arguments of its constructor."""

    def __init__(self, name: str, children: list[Node] | None = None) -> None:
        super().__init__(name)
        self.children = [] if children is None else children

    def __reduce__(self) -> Any:
        return Tree, (self.name, self.children)


@listed
class Endless:
    """Its only argument is itself."""

    def __reduce__(self) -> Any:
        return Endless, (self,)


# Nested classes


@listed
class Outer:
    @listed
    @dataclass
    class Inner:
        value: Any

        @listed
        class Mood(enum.Enum):
            GOOD = "good"

    class Unlisted:
        pass


# Exceptions


@listed
class AppError(Exception):
    pass


@listed
class DetailedError(Exception):
    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@listed
class UnreplayableError(Exception):
    """Takes two arguments and passes on one, so that it cannot be made again from its `args`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


# Classes of a class of their own


@listed
class Meta(type):
    pass


@listed
class MadeByMeta(metaclass=Meta):
    pass
