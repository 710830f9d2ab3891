"""How much a decode may do beyond reading its bytes once.

Hostile bytes can ask for far more work than they have bytes: a tuple of (ref, ref) of (ref, ref) … hashes in 2^n steps
and a deep one ends the process, since hashing descends in C; keys whose hashes are equal are compared each with each.
So whatever is copied, hashed or compared is counted before it is done, and the sum is bounded by the size of the bytes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import Field
from itertools import groupby, islice, pairwise
from operator import eq
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeAlias, cast, get_args

from ..errors import CheckpointDecodeError
from ..records import FRAMEWORK, OPENAI
from . import forms as f
from .type_expressions import is_type_expression

__all__ = ["MAX_WORK", "WORK_PER_BYTE", "Work", "are_chosen"]

MAX_WORK: Final = 5_000_000
"""Steps that any decode may take beyond reading its bytes: copying a byte, hashing a part of a key, comparing it. A
step is what the interpreter does in about 15 ns."""
WORK_PER_BYTE: Final = 8
"""As many more for each byte of the encoded checkpoint."""

_any_tuple, _any_frozenset, _any_set = cast(Any, tuple), cast(Any, frozenset), cast(Any, set)
_any_list, _any_dict = cast(Any, list), cast(Any, dict)
"""The interpreter's own methods, whatever a subclass makes of them."""

_SEEDED: Final = frozenset({str, bytes})
"""Types that are hashed with a secret of the process, so that nobody can make hashes equal."""
_LOOK: Final = 16
"""Steps that it takes to look at a part of a key, in Python, against those that its hash takes."""
_CALL: Final = 60
"""Likewise to hash or compare an object by methods of its class."""
_TEXT: Final = 50
"""Likewise to show a number."""
_ENTRY: Final = 16
"""Likewise to copy an entry of a set or dict."""
_ATTRIBUTE: Final = 24
"""Likewise to look at an attribute in a state and to set it."""
_MANY: Final = 64
"""Keys from which on it matters where in its table a dict or set looks for them."""
_PART: Final = 128
_PATIENCE, _USUAL = 0.02, 3e-7
"""Seconds of the processor that putting keys into tables may take before it is looked into: in all, and for each. Keys
that nobody chose take a tenth of that; looking into it costs about 1 µs a key, where the classes of keys are slow."""
_WALK: Final = 100
"""Places at which hardly any key is looked for."""

_Seen: TypeAlias = "dict[int, tuple[int, int]]"
"""By the id of a value: how many steps it takes, and how deep it is."""


class Work:
    """Counts the work of one decode.

    Args:
        size: bytes of the encoded checkpoint.
    """

    def __init__(self, size: int) -> None:
        self.left: int = MAX_WORK + WORK_PER_BYTE * size
        """Steps that may still be taken."""
        self._seconds = 0.0
        self.keys: int = 0
        """How many were put into tables of which it matters where they come to lie."""
        self._texts = False
        self.wide = False
        """Whether an int beyond 64 bits was made: it takes longer to compare than others."""
        self.decimals = False
        """Whether a Decimal was made: comparing one with an int takes the square of its length."""

    def spend(self, steps: int) -> None:
        """Count work that is about to be done.

        Raises:
            CheckpointDecodeError: it is more than the size of the bytes allows for.
        """
        self.left -= steps
        if self.left < 0:
            raise CheckpointDecodeError(
                "Stored values would take far more memory or time to make than their size allows for."
            )

    def copy(self, value: Any) -> None:
        """Count the copying of an argument by a constructor of the interpreter."""
        cls = f.type_of(value)
        if cls is int:
            self.spend(value.bit_length() >> 3)
        elif issubclass(cls, (dict, set, frozenset)):
            self.spend(_ENTRY * len(value))
        elif issubclass(cls, (list, tuple, deque)):
            self.spend(4 * len(value))
        elif issubclass(cls, (str, bytes, bytearray)):
            self.spend(len(value))

    def copy_state(self, state: Any) -> None:
        """Count the looking at and copying of a state, or of a part of one, which many instances may refer to."""
        for part in cast("tuple[Any, ...]", state if type(state) is tuple else (state,)):
            if isinstance(part, (dict, set)):
                self.spend(_ATTRIBUTE * len(cast("dict[Any, Any] | set[Any]", part)))

    def compare(self, value: Any, times: int) -> None:
        """Count the comparing of a value with others that have its hash."""
        self.spend(times * (_LOOK + self._steps(value, {}, 0, shown=True)[0]))

    def check_keys(self, keys: list[Any]) -> None:
        """Count the hashing and comparing that a dict or set takes that gets these keys at once.

        Raises:
            CheckpointDecodeError: it is too much, or a key nests deeper than `MAX_DEPTH`, through references too.
        """
        if _SEEDED.issuperset(map(type, keys)):
            return
        seen: _Seen = {}
        steps = [  # of what takes one step there is too much to look at each
            1 if type(key) in f.ATOMS and not self.wide else self._steps(key, seen, 0)[0] for key in keys
        ]
        self.spend(sum(steps))
        hashes = list(map(hash, keys))
        # Sorted, not put into a dict: that would take what is to be found out here.
        again = _repeated(hashes)
        if again:
            self._check_equal_hashes(keys, hashes, steps)
        if len(hashes) >= _MANY:
            self._check_places(keys, hashes)

    def _check_places(self, keys: list[Any], hashes: list[int]) -> None:
        """Refuse keys that were chosen so that a table looks for each behind the others, without two of one hash.

        To follow the search for every key would take longer than the search. So the keys are put into a table, a part
        at a time; only where that took the processor far longer than it ever does is the search followed.
        """
        table: dict[Any, None] = {}
        for start in range(0, len(keys), _PART):
            part, started = keys[start : start + _PART], time.thread_time()
            for key in part:
                table[key] = None
            self.keys += len(part)
            self._seconds += time.thread_time() - started
            if self._seconds > _PATIENCE + _USUAL * self.keys:
                if are_chosen(hashes):
                    self.spend(self.left + 1)
                self._seconds = 0.0

    def _check_equal_hashes(self, keys: list[Any], hashes: list[int], steps: list[int]) -> None:
        """Keys of one hash are compared each with each, by what they are hashed by and by more."""
        seen: _Seen = {}
        for _, group in groupby(sorted(range(len(keys)), key=hashes.__getitem__), key=hashes.__getitem__):
            members = list(group)
            if len(members) == 1:
                continue
            pairs = len(members) * (len(members) - 1) // 2
            self.spend(pairs * max(steps[index] for index in members))
            self.spend(pairs * max(self._steps(keys[index], seen, 0, shown=True)[0] for index in members))

    def check_shown(self, value: Any) -> None:
        """Count the work of a text of `value`, which an error may make of it, or of walking through all of it."""
        self._texts = True
        self.spend(self._steps(value, {}, 0, shown=True)[0])
        self._texts = False

    def _steps(
        self, value: Any, seen: dict[int, tuple[int, int]], depth: int, *, shown: bool = False
    ) -> tuple[int, int]:
        """How many steps it takes to hash a value, everything in it again wherever it stands, and how deep it is."""
        cls = f.type_of(value)
        if cls in f.ATOMS or issubclass(cls, (int, str, bytes)):
            return self._steps_of_atom(value, cls, shown), 0
        known = seen.get(id(value), (1, 0))
        if depth + known[1] > f.MAX_DEPTH:
            raise CheckpointDecodeError(f"Stored keys nest deeper than {f.MAX_DEPTH} levels.")
        if id(value) in seen:
            return known
        if cls is tuple and not (self.wide or shown) and f.ATOMS.issuperset(map(type, value)):
            self.spend(len(value))  # by far the most frequent: not worth a call for each of its parts
            seen[id(value)] = 1 + 2 * len(value), 1
            return seen[id(value)]
        seen[id(value)] = (1, 0)  # where it holds itself, Python's own limit ends the hashing
        steps, found = _parts_shown(value, cls) if shown else _parts_hashed(value, cls)
        parts, height = list(found), 0
        self.spend(_LOOK * (1 + len(parts)))
        for part in parts:
            inner, inner_height = self._steps(part, seen, depth + 1, shown=shown)
            steps, height = steps + inner, max(height, 1 + inner_height)
        seen[id(value)] = steps, height
        return steps, height

    def _steps_of_atom(self, value: Any, cls: type[Any], shown: bool) -> int:
        if issubclass(cls, int):
            bits = int.bit_length(value)
            if self._texts:
                return _TEXT + (bits**2 >> 10)
            return 1 + (bits**2 >> 14 if self.decimals else bits >> 6)  # what comparing it with a Decimal takes
        if shown and issubclass(cls, (str, bytes)):
            return 1 + len(value)
        return _TEXT if self._texts else 1


def _repeated(hashes: list[int]) -> set[int]:
    """The indexes of hashes that stand before as well."""
    ordered = sorted(hashes)
    if not any(map(eq, ordered, islice(ordered, 1, None))):
        return set()
    indexes = sorted(range(len(hashes)), key=hashes.__getitem__)  # stable: the first of its kind comes first
    return {later for one, later in pairwise(indexes) if hashes[one] == hashes[later]}


def are_chosen(hashes: list[int]) -> bool:
    """Whether a dict or set of keys of these hashes looks for many of them at very many places, in a table of any of
    the sizes that it grows through."""
    size = 1 << 7
    while size * 2 // 3 < len(hashes):
        size <<= 1
    while size >= 1 << 7:  # the largest first: there it takes longest
        if any(_long_walks(hashes[: size * 2 // 3], size - 1, linear) for linear in (0, 9)):
            return True
        size >>= 1
    return False


def _long_walks(hashes: list[int], mask: int, linear: int) -> bool:
    """Whether a table of `mask + 1` places has many keys that are looked for at more than `_WALK` of them; a set looks
    at so many places behind each before it jumps."""
    taken, long = bytearray(mask + 1 + linear), 0
    enough = min(500, len(hashes) // 8)
    for hashed in hashes:
        perturb = hashed & 0xFFFF_FFFF_FFFF_FFFF
        place, walked = perturb & mask, 0
        while taken[place] and walked <= _WALK:
            near = taken.find(0, place, place + 1 + linear) if linear else -1
            if near >= 0:
                place = near
                break
            walked += 1
            perturb >>= 5
            place = (5 * place + perturb + 1) & mask
        taken[place] = 1
        long += walked > _WALK
        if long > enough:
            return True
    return False


def _parts_hashed(value: Any, cls: type[Any]) -> tuple[int, Iterable[Any]]:
    """The steps that the hash of a value takes by itself, and what it descends into.

    Of a class that says by a method of its own how it is hashed nothing is known; the application allowed it.
    """
    if issubclass(cls, tuple):
        return 1, _any_tuple.__iter__(value)
    if issubclass(cls, frozenset):
        return 1, _any_frozenset.__iter__(value)
    if issubclass(cls, (range, slice)):
        return 1, (value.start, value.stop, value.step)
    if is_type_expression(value):
        return _CALL, get_args(value)
    if cls.__module__.startswith((*FRAMEWORK, OPENAI)):
        return _CALL, [part for _, part in _attributes(value, cls)]
    return (_CALL, _fields_hashed(value, cls)) if _has_generated_hash(cls) else (_CALL, ())


def _parts_shown(value: Any, cls: type[Any]) -> tuple[int, Iterable[Any]]:
    if issubclass(cls, dict):
        return 1, (*_any_dict.keys(value), *_any_dict.values(value))
    if issubclass(cls, list):
        return 1, _any_list.__iter__(value)
    if issubclass(cls, set):
        return 1, _any_set.__iter__(value)
    if issubclass(cls, type):
        return 1, ()
    steps, parts = _parts_hashed(value, cls)
    return steps, (*parts, *(part for _, part in _attributes(value, cls)))


def _has_generated_hash(cls: type[Any]) -> bool:
    """Whether a class is hashed by all it holds, by a method that dataclasses, attrs or pydantic made."""
    code = getattr(cls.__hash__, "__code__", None)
    module = getattr(cls.__hash__, "__module__", None) or ""
    return code is not None and (code.co_filename.startswith("<") or module.startswith("pydantic."))


def _fields_hashed(value: Any, cls: type[Any]) -> list[Any]:
    fields = cast("dict[str, Field[Any]]", getattr(cls, "__dataclass_fields__", {}))
    left_out = {name for name, field in fields.items() if not (field.compare if field.hash is None else field.hash)}
    return [part for name, part in _attributes(value, cls) if name not in left_out]


def _attributes(value: Any, cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """What lies in an object's slots and `__dict__`; nothing of the class's own is asked."""
    for base in cls.__mro__:
        for name, member in vars(base).items():
            if type(member) is MemberDescriptorType:
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # never set
                    continue
            elif name == "__dict__" and type(member) is GetSetDescriptorType:
                yield from member.__get__(value).items()
