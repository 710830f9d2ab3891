"""What happens to classes that say themselves how they are stored, and to names."""

from __future__ import annotations

from typing import Final

from .kinds import Kind, Refused, data, model

__all__ = ["NAMES", "OWN"]

_A: Final = "a: int = 1"
_B: Final = "b: str = 'x'"
_FILLS: Final = "def __setstate__(self, state): self.__dict__.update({'b': 'filled'} | state)"
_DROPS: Final = "def __setstate__(self, state): self.a = state['a']"
_DROPS_SLOT: Final = "def __setstate__(self, state): self.a = (state[1] if isinstance(state, tuple) else state)['a']"
_SAYS: Final = (
    "def __getstate__(self): return {'number': self.a}\ndef __setstate__(self, state): self.a = state['number']"
)
_REDUCES: Final = "def __reduce__(self): return M, (self.a,)"
_PLAIN: Final = "class M:\n    def __init__(self):\n        self.a = 7\n{}"
_ERROR: Final = "@dataclass\nclass M(Exception):\n    a: int = 1\n"

OWN: Final = [
    Kind("a dataclass whose `__setstate__` fills in a new field", data("a: int"), data("a: int", "b: str", _FILLS),
         "M(7)", "M(a=7, b='filled')"),
    Kind("… drops a field", data(_A, _B), data(_A, _DROPS), "M(7)", "M(a=7)"),
    Kind("… with slots, drops a field", data(_A, _B, options="(slots=True)"),
         data(_A, _DROPS_SLOT, options="(slots=True)"), "M(7, 'x')", "M(a=7)"),
    Kind("… accepts what another kind of class was", model(_A), data(_A, "def __setstate__(self, state): "
         "self.a = state.get('__dict__', state)['a']"), "M(a=7)", "M(a=7)"),
    Kind("… leaves a new field out", data("a: int"), data("a: int", "b: str", "def __setstate__(self, state): "
         "self.__dict__.update(state)"), "M(7)", "M(a=7) without b"),
    Kind("… and `__getstate__` have names of their own", data(_A, _SAYS), data(_A, "b: int = 2", _SAYS), "M(7)",
         "M(a=7, b=2)"),
    Kind("one made anew by its constructor (`__reduce__`) gets a field", data(_A, _REDUCES),
         data(_A, "b: list = field(default_factory=list)", _REDUCES), "M(7)", "M(a=7, b=[])"),
    Kind("a class without fields gets an attribute", _PLAIN.format(""), _PLAIN.format("        self.b = 8\n"), "M()",
         "M(a=7)"),
    Kind("an exception that is a dataclass gets a field", _ERROR,
         _ERROR + "    b: list = field(default_factory=list)\n", "M(7)", "M(a=7, b=[])"),
]  # fmt: skip

NAMES: Final = [
    Kind("a class is gone", data(_A), "", "M(7)", Refused("M")),
    Kind("a class has another name, and its old one is an alias", data(_A),
         data(_A).replace("M", "N") + "M = N", "M(7)", "N(a=7)", allowed=("M", "N")),
    Kind("the name of a class is a function's now", data(_A), "def M(a): return a", "M(7)", Refused("M")),
]  # fmt: skip
