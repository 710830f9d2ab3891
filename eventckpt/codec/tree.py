"""What raw bytes hold, as a plain tree: for people who look at a checkpoint, and for comparing two of them.

Nothing stored is made alive here: an instance is its type's name and its parts. Types that a caller does not admit
are not even taken apart, only named and measured. What can be shared or cyclic in a checkpoint is a reference to
the path where it stands, so a tree is never larger than the bytes it was read from (`eventckpt.codec.tree_reader`).

Those bytes may be hostile. So whatever is done with a tree goes through it once, keeps what is open in a list instead
of on the interpreter's stack, and makes no text longer than `MAX_PATH` per part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast, overload

if TYPE_CHECKING:
    from .tree_reader import read_tree, read_trees, types_in

__all__ = [
    "MAX_PATH",
    "Form",
    "Opaque",
    "Parts",
    "Ref",
    "Tree",
    "Value",
    "brief",
    "children",
    "extended",
    "has_parts",
    "ordered_steps",
    "parts_at",
    "parts_of",
    "read_tree",
    "read_trees",
    "same",
    "same_leaf",
    "step_to",
    "types_in",
]

MAX_PATH: Final = 500
"""Characters of a path. Of a longer one the beginning stays, and a digest of the rest that tells it from others: a key
may be as long as the checkpoint, and would otherwise be repeated for each part behind it."""

_UNORDERED: Final = frozenset({"dict", "set", "frozenset", "tuple", "collections:Counter", "collections:defaultdict"})
"""Forms that are equal whatever the order of their keys, or have none."""

_BRIEF: Final = 60  # characters of what stands for a key or an element


class Form(NamedTuple):
    """A value with parts that is no plain list or map: a tuple, a set, a dict with other keys, an instance."""

    name: str
    """A kind of `eventckpt.codec.forms`, or the type as `"module:qualname"`."""
    parts: Sequence[tuple[str, Tree]]
    """The step that leads to each part, and the part."""


class Value(NamedTuple):
    """An instance that is best read as text: a date, a number, the member of an enum, a class."""

    name: str
    text: str


class Opaque(NamedTuple):
    """An instance of a type that was not admitted."""

    name: str
    size: int
    """Bytes that it takes as MessagePack."""
    digest: str
    """Of those bytes: tells whether two are the same."""


class Ref(NamedTuple):
    """The same object as the one at `path`."""

    path: str


Tree: TypeAlias = "bool | int | float | str | bytes | list[Tree] | dict[str, Tree] | Form | Value | Opaque | Ref | None"


class Parts(Sequence["tuple[str, Tree]"]):
    """Parts with steps of their own, and behind them items whose steps are their indexes, made when they are asked for:
    a step for each takes more than a hundred times the byte that an item may be."""

    __slots__ = ("items", "named")

    def __init__(self, items: list[Tree], named: Sequence[tuple[str, Tree]] = ()) -> None:
        self.items: list[Tree] = items
        self.named: Sequence[tuple[str, Tree]] = named

    def __len__(self) -> int:
        return len(self.named) + len(self.items)

    @overload
    def __getitem__(self, index: int) -> tuple[str, Tree]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[str, Tree], ...]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, Tree] | tuple[tuple[str, Tree], ...]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self))))
        at = range(len(self))[index]
        if at < len(self.named):
            return self.named[at]
        return f"[{at - len(self.named)}]", self.items[at - len(self.named)]

    def __iter__(self) -> Iterator[tuple[str, Tree]]:
        yield from self.named
        for index, item in enumerate(self.items):
            yield f"[{index}]", item

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(cast("Sequence[Any]", other)) if isinstance(other, (Parts, tuple)) else False

    def __hash__(self) -> int:
        raise TypeError("Parts are not hashable: what they hold is not.")

    def __repr__(self) -> str:
        return repr(tuple(self))


def __getattr__(name: str) -> Any:
    if name in ("read_tree", "read_trees", "types_in"):  # which were here before the reader had a module of its own
        from . import tree_reader

        return getattr(tree_reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def has_parts(tree: Tree) -> bool:
    """Whether a node is one with parts, none perhaps, and no leaf."""
    return isinstance(tree, (list, dict, Form))


def parts_of(tree: Tree) -> Iterator[tuple[str, Tree]] | None:
    """The parts of a node with the steps that lead to them, one at a time; None for a leaf."""
    if isinstance(tree, list):
        return ((f"[{index}]", item) for index, item in enumerate(tree))
    if isinstance(tree, dict):
        return ((step_to(key), item) for key, item in tree.items())
    return iter(tree.parts) if isinstance(tree, Form) else None


def children(tree: Tree) -> list[tuple[str, Tree]] | None:
    """As `parts_of`, all at once."""
    parts = parts_of(tree)
    return None if parts is None else list(parts)


def parts_at(tree: Tree, path: str) -> Iterator[Tree]:
    """What stands at a path such as `state.orders[0].price`: one part, or none."""
    whole = path if not path or path[0] in ".[({" else f".{path}"
    waiting = [(tree, 0)]
    while waiting:
        part, start = waiting.pop()
        if start == len(whole):
            yield part
            continue
        matching: list[tuple[Tree, int]] = []
        for step, inner in parts_of(part) or ():
            end = start + len(step)
            if whole.startswith(step, start) and (end == len(whole) or whole[end] in ".[({"):
                matching.append((inner, end))
        waiting += reversed(matching)


def step_to(key: str) -> str:
    """The step to a key of a map, or to an attribute."""
    return f".{key}" if key.isidentifier() else f"[{key!r}]"


def extended(path: str, step: str) -> str:
    """A path and one step more, no longer than `MAX_PATH`."""
    longer = path + step
    if len(longer) <= MAX_PATH:
        return longer
    rest = hashlib.sha256(longer.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{longer[: MAX_PATH - 136]}…{rest}…{longer[-100:] if len(step) > 100 else step}"


# Comparing


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees are the same. Tells 1 from True and NaN from nothing, which `==` does not."""
    rest = [(one, other)]
    while rest:
        ours, theirs = rest.pop()
        pairs = _aligned(ours, theirs)
        if pairs is None:
            return False
        for part, counterpart in pairs:
            if part is counterpart:
                continue
            if has_parts(part):
                rest.append((part, counterpart))
            elif not same_leaf(part, counterpart):
                return False
    return True


def _aligned(one: Tree, other: Tree) -> Iterable[tuple[Tree, Tree]] | None:
    """The parts of two trees in pairs; None where the trees differ before one looks at them."""
    if isinstance(one, list) and isinstance(other, list):
        return zip(one, other, strict=True) if len(one) == len(other) else None
    if isinstance(one, dict) and isinstance(other, dict):
        return ((part, other[key]) for key, part in one.items()) if one.keys() == other.keys() else None
    if isinstance(one, Form) and isinstance(other, Form):
        return _aligned_forms(one, other) if one.name == other.name and len(one.parts) == len(other.parts) else None
    return () if same_leaf(one, other) else None


def _aligned_forms(one: Form, other: Form) -> Iterable[tuple[Tree, Tree]] | None:
    if all(step == their_step for (step, _), (their_step, _) in zip(one.parts, other.parts, strict=True)):
        return ((part, theirs) for (_, part), (_, theirs) in zip(one.parts, other.parts, strict=True))
    theirs = dict(other.parts)
    if dict(one.parts).keys() != theirs.keys() or ordered_steps(one) != ordered_steps(other):
        return None
    return ((part, theirs[step]) for step, part in one.parts)


def ordered_steps(form: Form) -> list[str]:
    """The steps to the keys of a form, where their order is a part of what it is: of an `OrderedDict`, and of whatever
    may be made like one. That of attributes and of the keys of a dict is not."""
    if form.name in _UNORDERED:
        return []
    named = form.parts.named if isinstance(form.parts, Parts) else form.parts
    return [step for step, _ in named if step.startswith("[")]


def same_leaf(one: Tree, other: Tree) -> bool:
    """`same`, of two trees of which one at least has no parts. NaN is what is not equal to itself."""
    return type(one) is type(other) and (one == other or (one != one and other != other))


# What stands for a key or an element


def brief(tree: Tree) -> str:
    """A short text that stands for a key or an element: the whole where that is short, else its beginning and a digest.

    Elements and keys further inside stand there by their own brief texts already, so that sets in sets, and keys in
    keys, are read once and not once a level.
    """
    if _stands_for_itself(tree) and len(text := repr(tree)) <= _BRIEF:
        return text
    kept: list[str] = []
    size, digest = 0, hashlib.sha256()
    for piece in _pieces(tree):
        digest.update(piece.encode("utf-8", "surrogatepass"))
        if size <= _BRIEF:
            kept.append(piece[: _BRIEF + 1])
            size += len(piece)
    text = "".join(kept)
    return text if size <= _BRIEF else f"{text[:40]}…{digest.hexdigest()[:32]}"


class _Said(str):
    """Text between parts, as against a part that is a text."""

    __slots__ = ()


_END: Final = _Said()


def _pieces(tree: Tree) -> Iterator[str]:
    waiting: list[Iterator[Tree]] = [iter([tree])]
    while waiting:
        part = next(waiting[-1], _END)
        if part is _END:
            waiting.pop()
        elif isinstance(part, _Said):
            yield part
        elif isinstance(part, list):
            waiting.append(_between("[", _listed(part), "]"))
        elif isinstance(part, dict):
            waiting.append(_between("{", _named(part.items(), "{!r}: "), "}"))
        elif isinstance(part, Form):
            waiting.append(_of_form(part))
        elif isinstance(part, Value):
            yield f"{part.name}({part.text})"  # another type's key may have the same text
        elif isinstance(part, Opaque):
            yield f"{part.name} {part.digest}"
        else:
            yield repr(part)


def _of_form(form: Form) -> Iterator[Tree]:
    if form.name == "tuple" and isinstance(form.parts, Parts):
        return _between("(", _listed(form.parts.items), ")")
    if form.name in ("set", "frozenset"):  # each step says what its element is
        return iter([_Said(f"{{{', '.join(step[1:-1] for step, _ in form.parts)}}}")])
    return _between(f"{form.name}(", _named(form.parts, "{}="), ")")


def _between(start: str, parts: Iterable[Tree], end: str) -> Iterator[Tree]:
    yield _Said(start)
    yield from parts
    yield _Said(end)


def _listed(items: list[Tree]) -> Iterator[Tree]:
    for plain, run in groupby(items, _stands_for_itself):
        if plain:
            yield _Said(", ".join(map(repr, run)) + ", ")
            continue
        for item in run:
            yield item
            yield _Said(", ")


def _stands_for_itself(tree: Tree) -> bool:
    return not isinstance(tree, (list, dict, tuple))


def _named(parts: Iterable[tuple[str, Tree]], how: str) -> Iterator[Tree]:
    for step, part in parts:
        yield _Said(how.format(step))
        yield part
        yield _Said(", ")
