"""What happens to named tuples, and to classes of attrs and msgspec, and to dicts with named keys."""

from __future__ import annotations

from typing import Final

from .kinds import Kind, Refused, attrs_class, data, struct, tupled

__all__ = ["ATTRS", "STRUCTS", "TUPLES"]

_A: Final = "a: int = 1"
_B: Final = "b: str = 'new'"
_DICT: Final = "class M(TypedDict, total=False):\n    a: int\n"
_NAMED: Final = "M = namedtuple('M', {!r}, defaults=({},), module='shop')\n"

TUPLES: Final = [
    Kind("a named tuple gets a field with a default", tupled("a: int"), tupled("a: int", _B), "M(7)",
         "M(a=7, b='new')"),
    Kind("… that is required", tupled("a: int"), tupled("a: int", "b: int"), "M(7)", Refused("b"), Refused("b"),
         Refused("M")),
    Kind("… before the others", tupled("a: int"), tupled("b: int", "a: int"), "M(7)", Refused("b"), Refused("b"),
         Refused("M")),
    Kind("… loses its last field", tupled("a: int", _B), tupled("a: int"), "M(7, 'x')", Refused("b"), "M(a=7)",
         Refused("M")),
    Kind("… loses its first field", tupled("b: str", "a: int"), tupled("a: int"), "M('x', 7)", Refused("b"), "M(a=7)",
         Refused("M")),
    Kind("… loses one and gets another", tupled("a: int", "b: str"), tupled("a: int", "c: str = 'c'"), "M(7, 'x')",
         Refused("b"), "M(a=7, c='c')", "M(a=7, c='x')"),
    Kind("… has its fields in another order", tupled("a: int", "b: str"), tupled("b: str", "a: int"), "M(7, 'x')",
         "M(b='x', a=7)", bare="M(b=7, a='x')"),
    Kind("… has a field renamed", tupled("a: int"), tupled("alpha: int"), "M(7)", Refused("a"), Refused("alpha"),
         "M(alpha=7)"),
    Kind("one of collections gets a field with a default", _NAMED.format("a", 1), _NAMED.format("a b", 2), "M(7)",
         "M(a=7, b=2)"),
    Kind("a subclass of tuple without fields becomes a named tuple", "class M(tuple): pass",
         tupled("a: Any", "b: int = 1"), "M((7, 8))", Refused("M"), bare="M(a=(7, 8), b=1)"),
    Kind("a dataclass's fields in a dict with named keys (TypedDict) that gets a key", _DICT, _DICT + "    b: int\n",
         "M(a=7)", "{'a': 7}"),
    Kind("… that loses one", _DICT + "    b: int\n", _DICT, "M(a=7, b=8)", "{'a': 7, 'b': 8}"),
]  # fmt: skip

_LIST: Final = "b: list = attrs.Factory(list)"

ATTRS: Final = [
    Kind("a class of attrs that did not change", attrs_class(_A), attrs_class(_A), "M(7)", "M(a=7)"),
    Kind("… gets a field with a default", attrs_class(_A), attrs_class(_A, _B), "M(7)", "M(a=7, b='new')"),
    Kind("… with a factory", attrs_class(_A), attrs_class(_A, _LIST), "M(7)", "M(a=7, b=[])"),
    Kind("… with one that takes the instance", attrs_class(_A),
         attrs_class(_A, "b: int = attrs.Factory(lambda self: self.a * 2, takes_self=True)"), "M(7)", "M(a=7, b=14)"),
    Kind("… with one that is converted", attrs_class(_A),
         attrs_class(_A, "b: int = attrs.field(default='2', converter=int)"), "M(7)", "M(a=7, b=2)"),
    Kind("… with one that is converted by the instance", attrs_class(_A),
         attrs_class(_A, "b: int = attrs.field(default=2, converter=attrs.Converter(lambda value, self: "
         "value * self.a, takes_self=True))"), "M(7)", "M(a=7, b=14)"),
    Kind("… that is required", attrs_class("a: int"), attrs_class("a: int", "b: int"), "M(7)", Refused("b"),
         *["M(a=7) without b"] * 2),
    Kind("… loses a field", attrs_class(_A, _B), attrs_class(_A), "M(7, 'x')", Refused("b"), "M(a=7)", "M(a=7)"),
    Kind("… has a field renamed", attrs_class(_A), attrs_class("alpha: int = 1"), "M(7)", Refused("a"),
         "M(alpha=1)", "M(alpha=1)"),
    Kind("… has its fields in another order", attrs_class(_A, _B), attrs_class(_B, _A), "M(7, 'x')", "M(b='x', a=7)"),
    Kind("… that is frozen gets a field with a factory", attrs_class(_A, how="attrs.frozen"),
         attrs_class(_A, _LIST, how="attrs.frozen"), "M(7)", "M(a=7, b=[])"),
    Kind("… without slots gets one", attrs_class(_A, how="attrs.define(slots=False)"),
         attrs_class(_A, _LIST, how="attrs.define(slots=False)"), "M(7)", "M(a=7, b=[])"),
    Kind("… without slots loses one", attrs_class(_A, _B, how="attrs.define(slots=False)"),
         attrs_class(_A, how="attrs.define(slots=False)"), "M(7, 'x')", Refused("b"), "M(a=7)", "M(a=7, b:='x')"),
    Kind("… loses its slots", attrs_class(_A), attrs_class(_A, how="attrs.define(slots=False)"), "M(7)", "M(a=7)"),
    Kind("… becomes a dataclass", attrs_class(_A), data(_A), "M(7)", Refused("M"), "M(a=7)", "M(a=7)"),
]  # fmt: skip

STRUCTS: Final = [
    Kind("a struct of msgspec that did not change", struct(_A), struct(_A), "M(7)", "M(a=7)"),
    Kind("… gets a field with a default", struct(_A), struct(_A, _B), "M(7)", "M(a=7, b='new')"),
    Kind("… before the others", struct(_A), struct(_B, _A), "M(7)", "M(b='new', a=7)", bare="M(b=7, a=1)"),
    Kind("… with a factory", struct(_A), struct(_A, "b: list = msgspec.field(default_factory=list)"), "M(7)",
         "M(a=7, b=[])"),
    Kind("… that is required", struct("a: int"), struct("a: int", "b: int"), "M(7)", Refused("b"), Refused("b"),
         Refused("M")),
    Kind("… loses its last field", struct(_A, _B), struct(_A), "M(7, 'x')", Refused("b"), "M(a=7)", Refused("M")),
    Kind("… loses its first field", struct(_B, _A), struct(_A), "M('x', 7)", Refused("b"), "M(a=7)", Refused("M")),
    Kind("… has its fields in another order", struct(_A, _B), struct(_B, _A), "M(7, 'x')", "M(b='x', a=7)",
         bare="M(b=7, a='x')"),
    Kind("… has a field renamed", struct("a: int"), struct("alpha: int"), "M(7)", Refused("a"), Refused("alpha"),
         "M(alpha=7)"),
    Kind("… writes its fields in JSON by other names", struct("a_b: int"),
         struct("a_b: int", options=", rename='camel'"), "M(7)", "M(a_b=7)"),
    Kind("… becomes a dataclass", struct(_A), data(_A), "M(7)", Refused("M"), bare="M(a=7)"),
]  # fmt: skip
