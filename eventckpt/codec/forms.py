"""The vocabulary that the encoder writes and the decoder reads. docs/codec.md describes it for readers of events.

Natives (None, bool, 64-bit int, float, str, bytes, list, map with str keys) stand for themselves. A map with the
key `"$"` is a form: a built-in kind named below, or, where the value has a colon, an instance of the type that
`"module:qualname"` names.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, Final, cast

type_of: Final = cast(Callable[[Any], type[Any]], type)
"""`type(value)`, typed for values of which nothing is known."""

MAX_DEPTH: Final = 200
"""How many containers and objects may lie inside each other. Recursion uses one frame a level, and CPython's
default limit is 1,000 frames."""

SHORT: Final = 80
"""Characters of a stored name that a message gives."""

HEAP_TYPE: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: of a class made by a class statement, against one that is part of the interpreter."""

LARGE_ATOMS: Final[frozenset[type[Any]]] = frozenset({int, str})
"""Types that MessagePack holds only in part: an int beyond 64 bits and a str with lone surrogates need a form."""

ATOMS: Final[frozenset[type[Any]]] = frozenset({NoneType, bool, float, bytes}) | LARGE_ATOMS
"""Exact types that stand for themselves and hold nothing else."""

# Keys of a form. One letter each: they stand in every stored object.
FORM: Final = "$"
ARGS: Final = "a"  # list: cls.__new__(cls, *args)
KWARGS: Final = "k"  # map: … and its keyword arguments
CALL: Final = "c"  # list: cls(*args), for types that define their own reduction
BASE: Final = "b"  # type key: base.__new__(cls, *args), what `copyreg._reconstructor` does
STATE: Final = "s"  # what __setstate__ takes, or the instance's attributes
ITEMS: Final = "l"  # list items
PAIRS: Final = "d"  # dict items, as [key, value] lists
LABEL: Final = "i"  # int: this value is meant by a `ref` elsewhere
EXPECT: Final = "t"  # type key: the type that the rebuilt object must have; of an enum, its class
NAME: Final = "n"  # the member of an enum, the key of a type, of a zone or a typecode
RAW: Final = "b"  # bytes of an int, a str, a bytearray or an array
SHAPES: Final = "h"  # map: of the root, the shapes of the classes in it, by type key
FORMAT: Final = "f"  # int: how an array's items are written, numbered as the module array does

OBJECT_FIELDS: Final = frozenset({FORM, ARGS, KWARGS, CALL, BASE, STATE, ITEMS, PAIRS, LABEL, EXPECT})

# Kinds: values of `"$"` without a colon.
INT: Final = "int"
STR: Final = "str"
BYTEARRAY: Final = "bytearray"
TUPLE: Final = "tuple"
LIST: Final = "list"  # only where it needs a label
DICT: Final = "dict"  # keys that are not str, a "$" key, or a label
SET: Final = "set"
FROZENSET: Final = "frozenset"
TYPE: Final = "type"
ENUM: Final = "enum"  # a member by name
REF: Final = "ref"
# Kinds since 0.2, which 0.1 refuses as those of a newer version.
ELLIPSIS: Final = "ellipsis"
ZONE: Final = "zone"  # a ZoneInfo, by its key
ARRAY: Final = "array"  # an array.array: its typecode, the format of its items, and their bytes
TYPING: Final = "typing"  # a name of the module typing
GENERIC: Final = "generic"  # a type expression with arguments: list[int], typing.Optional[str]
CHECKPOINT: Final = "checkpoint"  # the root: the fields, and the shapes of the classes in them
UNION: Final = "union"  # int | str
