"""What happens to dataclasses."""

from __future__ import annotations

from typing import Final

from .kinds import Kind, Refused, data, model, tupled

__all__ = ["DATACLASSES"]

_A: Final = "a: int = 1"
_B: Final = "b: str = 'new'"
_LIST: Final = "b: list = field(default_factory=list)"
_NEW: Final = "M(a=7, b='new')"
_BASE: Final = "@dataclass\nclass Base:\n    a: int = 1\n{}\n@dataclass\nclass M(Base):\n    c: int = 3\n"
_GENERIC: Final = "T = TypeVar('T')\n@dataclass\nclass M(Generic[T]):\n    a: T\n"
_PLAIN: Final = "class M:\n    def __init__(self, a):\n        self.a = a\n"

DATACLASSES: Final = [
    Kind("a dataclass that did not change", data(_A), data(_A), "M(7)", "M(a=7)"),
    Kind("… gets a field with a default", data(_A), data(_A, _B), "M(7)", _NEW),
    Kind("… with a default_factory", data(_A), data(_A, _LIST), "M(7)", "M(a=7, b=[])"),
    Kind("… that is required", data(_A), data("a: int", "b: int"), "M(7)", Refused("b"), *["M(a=7) without b"] * 2),
    Kind("… loses a field", data(_A, _B), data(_A), "M(7, 'x')", Refused("b"), "M(a=7)", "M(a=7, b:='x')"),
    Kind(
        "… has a field renamed, which has a default",
        data(_A),
        data("alpha: int = 1"),
        "M(7)",
        Refused("a"),
        "M(alpha=1)",
        "M(alpha=1, a:=7)",
    ),
    Kind(
        "… has a field renamed, which is required",
        data("a: int"),
        data("alpha: int"),
        "M(7)",
        Refused("a"),
        "M() without alpha",
        "M(a:=7) without alpha",
    ),
    Kind("… has its fields in another order", data(_A, _B), data(_B, _A), "M(7, 'x')", "M(b='x', a=7)"),
    Kind("… has another annotation", data(_A), data("a: str = '1'"), "M(7)", "M(a=7)"),
    Kind("… has another default", data(_A), data("a: int = 2"), "M(1)", "M(a=1)"),
    Kind(
        "… has an attribute that is no field, and gets a field",
        data(_A, "def __post_init__(self): self.note = 'n'"),
        data(_A, _LIST, "def __post_init__(self): self.note = 'n'"),
        "M(7)",
        "M(a=7, b=[], note:='n')",
    ),
    Kind("… gets a class variable", data(_A), data(_A, "k: ClassVar[int] = 1"), "M(7)", "M(a=7)"),
    Kind("… has a field turned into a class variable", data(_A, _B), data(_A, "b: ClassVar[str] = 'x'"), "M(7, 'x')",
         Refused("b"), "M(a=7)", "M(a=7, b:='x')"),
    Kind(
        "… gets an argument that is no field (InitVar)",
        data(_A),
        data(_A, "b: InitVar[int] = 3", "def __post_init__(self, b): self.a = b"),
        "M(7)",
        "M(a=7)",
    ),
    Kind(
        "… gets a field that its constructor does not take, with a default",
        data(_A),
        data(_A, "b: list = field(init=False, default_factory=list)"),
        "M(7)",
        "M(a=7, b=[])",
    ),
    Kind(
        "… gets one that only `__post_init__` sets",
        data(_A),
        data(_A, "b: int = field(init=False)", "def __post_init__(self): self.b = 2"),
        "M(7)",
        Refused("b"),
        *["M(a=7) without b"] * 2,
    ),
    Kind("a field with a factory in the base of a dataclass", _BASE.format(""), _BASE.format("    " + _LIST),
         "M(7, 3)", "M(a=7, b=[], c=3)"),
    Kind("a field removed from the base", _BASE.format("    " + _LIST), _BASE.format(""), "M(7, [1], 3)",
         Refused("b"), "M(a=7, c=3)", "M(a=7, c=3, b:=[1])"),
    Kind("a generic dataclass gets a field with a factory", _GENERIC, _GENERIC + "    " + _LIST, "M[int](7)",
         "M(a=7, b=[], __orig_class__:=shop.M[int])"),
    Kind("a frozen dataclass gets a field with a factory", data(_A, options="(frozen=True)"),
         data(_A, _LIST, options="(frozen=True)"), "M(7)", "M(a=7, b=[])"),
    Kind("a dataclass becomes frozen", data(_A), data(_A, options="(frozen=True)"), "M(7)", "M(a=7)"),
    Kind("one with keyword arguments only gets a field with a default", data(_A, options="(kw_only=True)"),
         data(_LIST, _A, options="(kw_only=True)"), "M(a=7)", "M(b=[], a=7)"),
    Kind("a dataclass's field becomes one for keywords only", data(_A, _B), data(_A, "_: KW_ONLY", _B), "M(7, 'x')",
         "M(a=7, b='x')"),
    # slots
    Kind("a dataclass with slots gets a field with a default", data(_A, options="(slots=True)"),
         data(_A, _B, options="(slots=True)"), "M(7)", _NEW),
    Kind("… with a default_factory", data(_A, options="(slots=True)"), data(_A, _LIST, options="(slots=True)"), "M(7)",
         "M(a=7, b=[])"),
    Kind("… that is required", data("a: int", options="(slots=True)"), data("a: int", "b: int", options="(slots=True)"),
         "M(7)", Refused("b"), *["M(a=7) without b"] * 2),
    Kind("… loses a field", data(_A, _B, options="(slots=True)"), data(_A, options="(slots=True)"), "M(7, 'x')",
         Refused("b"), "M(a=7)"),
    Kind("a dataclass gets slots", data(_A), data(_A, options="(slots=True)"), "M(7)", "M(a=7)"),
    Kind("a dataclass loses its slots", data(_A, options="(slots=True)"), data(_A), "M(7)", "M(a=7)"),
    Kind("a frozen dataclass with slots gets a field with a default", data(_A, options="(frozen=True, slots=True)"),
         data(_A, _B, options="(frozen=True, slots=True)"), "M(7)", _NEW, bare=Refused("M")),
    Kind("… that is required", data("a: int", options="(frozen=True, slots=True)"),
         data("a: int", "b: int", options="(frozen=True, slots=True)"), "M(7)", Refused("b"), bare=Refused("M")),
    Kind("… loses a field", data(_A, _B, options="(frozen=True, slots=True)"),
         data(_A, options="(frozen=True, slots=True)"), "M(7, 'x')", Refused("b"), "M(a=7)", Refused("M")),
    Kind("… loses the first of two", data(_B, _A, options="(frozen=True, slots=True)"),
         data(_A, options="(frozen=True, slots=True)"), "M('x', 7)", Refused("b"), "M(a=7)", Refused("M")),
    Kind("… has its fields in another order", data(_A, _B, options="(frozen=True, slots=True)"),
         data(_B, _A, options="(frozen=True, slots=True)"), "M(7, 'x')", "M(b='x', a=7)", bare="M(b=7, a='x')"),
    Kind("a frozen dataclass gets slots", data(_A, options="(frozen=True)"),
         data(_A, options="(frozen=True, slots=True)"), "M(7)", "M(a=7)"),
    Kind("a frozen dataclass with slots loses them", data(_A, options="(frozen=True, slots=True)"),
         data(_A, options="(frozen=True)"), "M(7)", "M(a=7)"),
    # another kind of class
    Kind("a dataclass becomes a pydantic model", data(_A), model(_A), "M(7)", Refused("M")),
    Kind("… a named tuple", data(_A), tupled(_A), "M(7)", Refused("M")),
    Kind("… a class without fields", data(_A), _PLAIN, "M(7)", Refused("M"), "M(a=7)", "M(a=7)"),
    Kind("… an enum", data(_A), "class M(Enum):\n    A = 1", "M(7)", Refused("M")),
    Kind("a class without fields becomes a dataclass", _PLAIN, data(_A, _LIST), "M(7)", "M(a=7, b=[])"),
    Kind("a pydantic model becomes a dataclass", model(_A), data(_A), "M(a=7)", Refused("M")),
    Kind("a named tuple becomes a dataclass", tupled(_A), data(_A), "M(7)", Refused("M"), bare="M(a=1)"),
    Kind("an enum becomes a dataclass", "class M(Enum):\n    A = 1", data(_A), "M.A", Refused("M"), bare="M(a=1)"),
]  # fmt: skip
