"""What an encode says of a value that is no data, and what to do instead."""

from __future__ import annotations

import sys
from typing import Any, Final

from ..allowlist import type_key
from ..errors import CheckpointEncodeError
from .forms import MAX_DEPTH

__all__ = ["deeper", "not_data", "unreadable"]

_FUNCTION: Final = "Store what it is to be called with; functions belong to the code."
_CLASS: Final = "Use the class that it stands for."
_ADVICE: Final[dict[str, str]] = {
    "re:Pattern": "Store its pattern and flags, and compile it again where it is needed.",
    "re:Match": "Store what was found: its group() and span().",
    "builtins:memoryview": "Store bytes(…) of it.",
    "builtins:dict_keys": "Store list(…) of it.",
    "builtins:dict_values": "Store list(…) of it.",
    "builtins:dict_items": "Store list(…) of it.",
    "builtins:mappingproxy": "Store dict(…) of it.",
    "builtins:generator": "Store the list of what it yields.",
    "builtins:function": _FUNCTION,
    "builtins:method": _FUNCTION,
    "builtins:builtin_function_or_method": _FUNCTION,
    "builtins:NotImplementedType": "Store None, or a text.",
    "typing:NewType": _CLASS,
    "typing:TypeVar": _CLASS,
    "typing:TypeAliasType": _CLASS,
}
"""What to do instead, by the type of a value that is no data."""


def _advice(cls: type[Any], of_ones_own: str, otherwise: str) -> str:
    top = cls.__module__.partition(".")[0]
    if top == "numpy":
        return "Store what its tolist() or item() gives, or its tobytes()."
    return _ADVICE.get(type_key(cls)) or (otherwise if top in sys.stdlib_module_names else of_ones_own)


def unreadable(cls: type[Any], error: Exception) -> CheckpointEncodeError:
    """What to raise where taking an instance of a class apart failed."""
    leave = "Leave it out of the state"
    advice = _advice(cls, f"{leave}, or give its class a __getstate__.", f"{leave}.")
    return CheckpointEncodeError(
        f"{type_key(cls)!r} cannot be taken apart to be stored: {type(error).__name__}: {error}. {advice}"
    )


def not_data(cls: type[Any], what: str) -> CheckpointEncodeError:
    """What to raise where an instance of a class is rebuilt by more than data; `what` says by what."""
    plain = "Store plain values instead"
    reduce = f"{plain}, or give its class a __reduce__ that returns an allowed type and its arguments."
    return CheckpointEncodeError(
        f"{type_key(cls)!r} {what}; a checkpoint holds data only. {_advice(cls, reduce, f'{plain}.')}"
    )


def deeper(depth: int) -> int:
    """The depth of what lies in a value of this depth.

    Raises:
        CheckpointEncodeError: it would lie too deep.
    """
    if depth >= MAX_DEPTH:
        raise CheckpointEncodeError(
            f"The checkpoint nests more than {MAX_DEPTH} containers and objects inside each other. "
            "Flatten the value, or store a list instead of a chain."
        )
    return depth + 1
