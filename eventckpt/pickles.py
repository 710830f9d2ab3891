"""What a pickle does, found out without running it: which classes it gives attributes to, and whether it goes beyond
what a pickler writes.

An allow-list sees the names in a pickle, not what is done with what they lead to. With a name that is admitted, a
pickle can set attributes of the class itself, and so change the process for everyone. Here its opcodes are walked once,
with a stack that holds what is needed to tell a class or a function from what was made by one. Whatever no pickler
writes is refused.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from .errors import CheckpointDecodeError

__all__ = ["GETATTR", "RECONSTRUCTOR", "TYPE_OF", "classes_of_states"]

GETATTR: Final = frozenset({"builtins:getattr", "__builtin__:getattr"})
"""How pickles of the older protocols lead to a class inside a class, and to a member of an enum."""
RECONSTRUCTOR: Final = "copyreg:_reconstructor"
TYPE_OF: Final = "builtins:type"

_LONGEST: Final = 1_000  # characters of a text that may be a part of a name
_WIDEST: Final = 3  # items of a tuple that is known by its items


class _Named(NamedTuple):
    """A class, a function or the member of an enum: what is the process's own."""

    key: str


class _Made(NamedTuple):
    """What a class made."""

    key: str


_Item: TypeAlias = "str | tuple[Any, ...] | _Named | _Made | None"
"""What is known of a value: a short text and a short tuple are known by themselves, and of all else nothing is."""

# Opcodes, by what follows them and what they do to the stack.
_PUSH_FIXED: Final = {
    **dict.fromkeys(b"]})N\x88\x89\x8f", 0),
    **dict.fromkeys(b"K", 1),
    **dict.fromkeys(b"M", 2),
    **dict.fromkeys(b"J", 4),
    **dict.fromkeys(b"G", 8),
}
"""Push something of so many bytes of which nothing needs to be known."""
_PUSH_SIZED: Final = {
    **dict.fromkeys(b"UC\x8a", 1),
    **dict.fromkeys(b"TB\x8b", 4),
    **dict.fromkeys(b"\x8e\x96", 8),
}
"""Likewise, behind its size, which takes so many bytes."""
_PUSH_LINES: Final = frozenset(b"ILFSV")
_TEXTS: Final = {0x8C: 1, ord("X"): 4, 0x8D: 8}
_TUPLES: Final = {0x85: 1, 0x86: 2, 0x87: 3}
_INDEXED: Final = {ord("h"): 1, ord("j"): 4, ord("q"): 1, ord("r"): 4}
_SKIPPED: Final = {0x80: 1, 0x95: 8}  # the protocol and the frames
_REFUSED: Final = {
    **dict.fromkeys(b"\x82\x83\x84", "takes a class from the registry of extensions"),
    **dict.fromkeys(b"PQ", "refers to an object outside"),
    **dict.fromkeys(b"\x97\x98", "refers to a buffer outside"),
}


def classes_of_states(data: bytes) -> frozenset[str]:
    """The keys of the classes, `"module:qualname"`, whose instances a pickle gives attributes to or a state.

    Raises:
        CheckpointDecodeError: it sets attributes or items of a class, a function or a member, or is nothing that a
            pickler writes.
    """
    walk = _Walk(data)
    try:
        walk.run()
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise _strange("is cut off, or no pickle") from error
    return frozenset(walk.built)


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[_Item] = []
        self._below: list[list[_Item]] = []
        """The stacks under each mark."""
        self._memo: dict[int, _Item] = {}
        self.built: set[str] = set()

    def run(self) -> None:
        while (code := self._taken(1)[0]) != ord("."):
            if (size := _PUSH_FIXED.get(code)) is not None:
                self._taken(size)
                self._stack.append(None)
            elif code in _SKIPPED:
                self._taken(_SKIPPED[code])
            elif code in _TEXTS:
                self._stack.append(self._text(_TEXTS[code]))
            elif code in _PUSH_SIZED:
                self._taken(self._number(_PUSH_SIZED[code]))
                self._stack.append(None)
            elif code in _PUSH_LINES:
                self._line()
                self._stack.append(None)
            elif code in _INDEXED:
                self._memorize_or_get(code, self._number(_INDEXED[code]))
            elif code in _REFUSED:
                raise _strange(_REFUSED[code])
            else:
                self._of_stack(code)

    # Reading

    def _taken(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise _strange("is cut off")
        taken, self._at = self._data[self._at : end], end
        return taken

    def _number(self, size: int) -> int:
        return int.from_bytes(self._taken(size), "little")

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._at)
        line = self._taken(end - self._at)
        self._at += 1
        return line

    def _text(self, size: int) -> str | None:
        raw = self._taken(self._number(size))
        return raw.decode("utf-8", "surrogatepass") if len(raw) <= _LONGEST else None

    def _index(self) -> int:
        line = self._line()
        if not line.isdigit() or len(line) > 10:
            raise _strange("has a place in its memo that is no number")
        return int(line)

    # The memo

    def _memorize_or_get(self, code: int, index: int) -> None:
        if code in b"hjg":
            self._stack.append(self._memo[index])
        elif index > len(self._data):
            raise _strange("has a memo that is larger than itself")
        else:
            self._memo[index] = self._stack[-1]

    # The stack

    def _of_stack(self, code: int) -> None:
        match chr(code):
            case "g" | "p":
                self._memorize_or_get(code, self._index())
            case "\x94":
                self._memo[len(self._memo)] = self._stack[-1]
            case "(":
                self._below.append(self._stack)
                self._stack = []
            case "0" if not self._stack:
                self._marked()
            case "0":
                self._stack.pop()
            case "1":
                self._marked()
            case "2":
                self._stack.append(self._stack[-1])
            case "a" | "s" | "e" | "u" | "\x90":
                self._fill(code)
            case "t" | "l" | "d" | "\x91":
                items = self._marked()
                self._stack.append(_tuple(items) if code == ord("t") else None)
            case "\x85" | "\x86" | "\x87":
                self._stack.append(_tuple([self._stack.pop() for _ in range(_TUPLES[code])][::-1]))
            case _:
                self._of_objects(code)

    def _marked(self) -> list[_Item]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _fill(self, code: int) -> None:
        if chr(code) in "as":
            for _ in range(1 if code == ord("a") else 2):
                self._stack.pop()
        else:
            self._marked()
        if isinstance(self._stack[-1], _Named):
            raise _strange(f"sets items of {self._stack[-1].key!r} itself")

    def _of_objects(self, code: int) -> None:
        match chr(code):
            case "c":
                self._stack.append(_Named(f"{self._line().decode()}:{self._line().decode()}"))
            case "\x93":
                name, module = self._stack.pop(), self._stack.pop()
                if not isinstance(name, str) or not isinstance(module, str):
                    raise _strange("puts the name of a class together")
                self._stack.append(_Named(f"{module}:{name}"))
            case "R":
                args, function = self._stack.pop(), self._stack.pop()
                self._stack.append(_called(function, args))
            case "\x81" | "\x92":
                for _ in range(1 if code == 0x81 else 2):
                    self._stack.pop()
                self._stack.append(_made_by(self._stack.pop()))
            case "i":
                key = f"{self._line().decode()}:{self._line().decode()}"
                self._marked()
                self._stack.append(_made_by(_Named(key)))
            case "o":
                self._stack.append(_made_by(self._marked()[0]))
            case "b":
                self._stack.pop()
                self._build(self._stack[-1])
            case _:
                raise _strange("has an opcode that this version does not know")

    def _build(self, item: _Item) -> None:
        if isinstance(item, _Named):
            raise _strange(f"sets attributes of {item.key!r} itself, and not of an instance")
        if not isinstance(item, _Made):
            raise _strange("sets attributes of something that no class made")
        self.built.add(item.key)


def _tuple(items: list[_Item]) -> _Item:
    return tuple(items) if len(items) <= _WIDEST else None


def _called(function: _Item, args: _Item) -> _Item:
    """What comes of calling a function with a tuple of arguments."""
    if not isinstance(function, _Named):
        raise _strange("calls something that it does not name")
    if function.key in GETATTR:
        match args:
            case (_Named(key=outer), str(name)):
                return _Named(f"{outer}.{name}")
            case _:
                raise _strange("asks for an attribute of something that is no class")
    if function.key == RECONSTRUCTOR:
        match args:
            case (_Named() as made, _, _):
                return _made_by(made)
            case _:
                raise _strange("makes an instance of something that is no class")
    return _Named("the type of None") if function.key == TYPE_OF else _Made(function.key)


def _made_by(cls: _Item) -> _Made:
    if not isinstance(cls, _Named) or cls.key in GETATTR or cls.key in (RECONSTRUCTOR, TYPE_OF):
        raise _strange("makes an instance of something that is no class")
    return _Made(cls.key)


def _strange(what: str) -> CheckpointDecodeError:
    return CheckpointDecodeError(f"A stored pickle {what}, which no checkpoint's does.")
