"""All the changes that the suite knows, by the sort of class, as docs/evolution.md has them."""

from __future__ import annotations

from typing import Final

from .dataclass_kinds import DATACLASSES
from .enum_kinds import ENUMS, FLAGS
from .kinds import Kind
from .own_kinds import NAMES, OWN
from .pydantic_kinds import MODELS
from .tuple_kinds import ATTRS, STRUCTS, TUPLES

__all__ = ["KINDS", "TABLES"]

TABLES: Final[dict[str, list[Kind]]] = {
    "Dataclasses": DATACLASSES,
    "Models of pydantic": MODELS,
    "Named tuples and dicts": TUPLES,
    "Classes of attrs": ATTRS,
    "Structs of msgspec": STRUCTS,
    "Enums": ENUMS,
    "Flags": FLAGS,
    "Classes that decide themselves": OWN,
    "Names": NAMES,
}
"""By the headings of the page."""

KINDS: Final = [kind for kinds in TABLES.values() for kind in kinds]
