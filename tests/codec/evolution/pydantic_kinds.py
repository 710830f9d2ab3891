"""What happens to models of pydantic."""

from __future__ import annotations

from typing import Final

from .kinds import Kind, Refused, model

__all__ = ["MODELS"]

_A: Final = "a: int = 1"
_B: Final = "b: str = 'new'"
_EXTRA: Final = "model_config = ConfigDict(extra='allow')"
_PETS: Final = (
    "class Cat(BaseModel):\n    kind: Literal['cat'] = 'cat'\n{}"
    "class Dog(BaseModel):\n    kind: Literal['dog'] = 'dog'\n"
    "class M(BaseModel):\n    pet: Cat | Dog = Field(discriminator='kind')\n"
)

MODELS: Final = [
    Kind("a pydantic model that did not change", model(_A), model(_A), "M(a=7)", "M(a=7)"),
    Kind("… gets a field with a default", model(_A), model(_A, _B), "M(a=7)", "M(a=7, b='new')"),
    Kind("… with a default_factory", model(_A), model(_A, "b: list = Field(default_factory=list)"), "M(a=7)",
         "M(a=7, b=[])"),
    Kind("… with one that takes the other fields", model(_A),
         model(_A, "b: int = Field(default_factory=lambda data: data['a'] * 2)"), "M(a=7)", "M(a=7, b=14)"),
    Kind("… that is required", model(_A), model("a: int", "b: int"), "M(a=7)", Refused("b"),
         *["M(a=7) without b"] * 2),
    Kind("… loses a field", model(_A, _B), model(_A), "M(a=7, b='x')", Refused("b"), "M(a=7)", "M(a=7, b:='x')"),
    Kind("… has a field renamed", model(_A), model("alpha: int = 1"), "M(a=7)", Refused("a"),
         "M(alpha=1)", "M(alpha=1, a:=7)"),
    Kind("… has its fields in another order", model(_A, _B), model(_B, _A), "M(a=7, b='x')", "M(b='x', a=7)"),
    Kind("… has another annotation", model(_A), model("a: str = '1'"), "M(a=7)", "M(a=7)"),
    Kind("… has another alias", model("a: int = Field(1, alias='A')"), model("a: int = Field(1, alias='α')"), "M(A=7)",
         "M(a=7)"),
    Kind("… gets a private attribute with a default", model(_A), model(_A, "_p: int = PrivateAttr(5)"), "M(a=7)",
         "M(a=7, _p=5)"),
    Kind("… with a factory", model(_A), model(_A, "_p: list = PrivateAttr(default_factory=list)"), "M(a=7)",
         "M(a=7, _p=[])"),
    Kind("… a second private attribute", model(_A, "_p: int = 5"), model(_A, "_p: int = 5", "_q: int = 6"), "M(a=7)",
         "M(a=7, _p=5, _q=6)"),
    Kind("… one without a default", model(_A), model(_A, "_p: int"), "M(a=7)", "M(a=7) without _p"),
    Kind("… loses a private attribute", model(_A, "_p: int = 5", "_q: int = 6"), model(_A, "_q: int = 6"), "M(a=7)",
         Refused("_p"), "M(a=7, _q=6)", "M(a=7, _q=6, _p:=5)"),
    Kind("… loses its only private attribute", model(_A, "_p: int = 5"), model(_A), "M(a=7)", Refused("_p"),
         "M(a=7)", "M(a=7, _p:=5)"),
    Kind("… may have extra values from now on", model(_A), model(_A, _EXTRA), "M(a=7)", "M(a=7)"),
    Kind("… may no longer have extra values, and had none", model(_A, _EXTRA), model(_A), "M(a=7)", "M(a=7)"),
    Kind("… may no longer have extra values, and had one", model(_A, _EXTRA), model(_A), "M(a=7, x=8)",
         Refused("x"), "M(a=7)", "M(a=7, x:=8)"),
    Kind("… has an extra value turned into a field", model(_A, _EXTRA), model(_A, "x: int = 1", _EXTRA), "M(a=7, x=8)",
         "M(a=7, x=8)"),
    Kind("… has a field turned into an extra value", model(_A, _B, _EXTRA), model(_A, _EXTRA), "M(a=7, b='x')",
         Refused("b"), "M(a=7)", "M(a=7, b:='x')"),
    Kind("… gets a computed property", model(_A), model(_A, "@cached_property\ndef c(self): return 3"), "M(a=7)",
         "M(a=7)"),
    Kind("a model of one root has another type of root", model("pass", of="RootModel[list[int]]"),
         model("pass", of="RootModel[dict[str, int]]"), "M([7])", "M(root=[7])"),
    Kind("a member of a discriminated union gets a field", _PETS.format(""), _PETS.format("    lives: int = 9\n"),
         "M(pet=Cat())", "M(pet=Cat(kind='cat', lives=9))", allowed=("M", "Cat", "Dog")),
    Kind("a model made without a required field did not change", model("a: int"), model("a: int"),
         "M.model_construct()", "M() without a"),
    Kind("… gets a field with a default", model("a: int"), model("a: int", _B), "M.model_construct()",
         "M(b='new') without a"),
    Kind("… loses the field that it lacks", model("a: int", _B), model(_B), "M.model_construct()", "M(b='new')"),
    Kind("a model becomes frozen", model(_A), model(_A, "model_config = ConfigDict(frozen=True)"), "M(a=7)", "M(a=7)"),
]  # fmt: skip
