"""Rows in columns. Into a pipe each is as wide as what it holds; on a terminal a row is one line.

Where a terminal is too narrow, ids are shortened first, then texts, and then the columns that matter least are left
out. Widths are those of the cells of a terminal: some characters take two, and some none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from os.path import commonprefix
from typing import Final, Literal, TypeAlias

from rich.cells import cell_len
from rich.text import Text

from ..text import SHORTENED, cell, safe

__all__ = ["Column", "Holds", "aligned", "cut", "fitted", "fitting", "short_ids"]

Holds: TypeAlias = Literal["word", "text", "id", "time"]
"""word: is never cut; text: its end may be left out; id: the beginning will do, where no other begins so; time: as an
event has it."""

_GAP: Final = "  "
_LEAST_TEXT: Final = 9  # cells of a text that still says something: "cancelled"
_TEXT: Final = 40  # cells of a text that are worth more than the rest of an id
_LEAST_ID: Final = 9  # cells of an id: 8 characters, and the mark that there are more
_MOST_UNIQUE: Final = 20  # cells that an id is given to be the only one that begins so
_WHOLE_ID: Final = 12  # cells of an id that is not worth shortening
_LOOKED_AT: Final = 300  # characters of an id that are looked at; a run's has 255 at most
_PLAIN: Final[Callable[[str], str]] = lambda _: ""  # noqa: E731 - no style


class Column:
    """A column of a listing.

    Args:
        head: what stands over it.
        right: whether its cells end under each other.
        holds: what they are.
        rank: how soon it is left out of a narrow terminal: the highest first, and one of rank 0 never.
        wide: whether it is shown with `-o wide` only.
        style: the style of a cell, by its text. It says nothing that the text does not.
    """

    def __init__(
        self,
        head: str,
        *,
        right: bool = False,
        holds: Holds = "word",
        rank: int = 0,
        wide: bool = False,
        style: Callable[[str], str] = _PLAIN,
    ) -> None:
        self.head = head
        self.right = right
        self.holds: Holds = holds
        self.rank = rank
        self.wide = wide
        self.style = style


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, heads: bool) -> Iterator[Text]:
    """All columns, each as wide as the widest of its cells; a line for each row."""
    widths = [
        max(cell_len(column.head) if heads else 0, _widest(cells))
        for column, cells in zip(columns, _turned(columns, rows), strict=True)
    ]
    return fitted(columns, widths, rows, heads=heads)


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """The columns that fit into a terminal which is `width` cells wide, by their place: how wide each of them is."""
    cells = _turned(columns, rows)
    natural = [max(cell_len(column.head), _widest(each)) for column, each in zip(columns, cells, strict=True)]
    least = [
        max(cell_len(column.head), _least(column, each, whole))
        for column, each, whole in zip(columns, cells, natural, strict=True)
    ]
    chosen = _chosen(columns, least, width)
    widths, room = [least[place] for place in chosen], width - len(_GAP) * (len(chosen) - 1)
    for holds, most in (("text", _TEXT), ("id", width), ("text", width)):  # an id is as good where it is short
        wanted = [min(natural[place], most) if columns[place].holds == holds else 0 for place in chosen]
        _grow(widths, wanted, room - sum(widths))
    return dict(zip(chosen, _shrunk(widths, room), strict=True))


def fitted(
    columns: Sequence[Column], widths: Sequence[int], rows: Sequence[Sequence[str]], *, heads: bool
) -> Iterator[Text]:
    """Columns of these widths, a line for each row."""
    if heads:
        yield _line(columns, widths, [cut(column.head, width) for column, width in zip(columns, widths, strict=True)])
    shown = [
        short_ids(cells, width) if column.holds == "id" else [cut(cell(each), width) for each in cells]
        for column, cells, width in zip(columns, _turned(columns, rows), widths, strict=True)
    ]
    for line in zip(*shown, strict=True):
        yield _line(columns, widths, line, styled=True)


def cut(text: str, width: int) -> str:
    """Text that is safe to print, its end left out where it is wider than that."""
    if cell_len(text) <= width:
        return text
    return f"{_beginning(text, max(width - 1, 0))}{SHORTENED}"


def short_ids(ids: Sequence[str], width: int) -> list[str]:
    """Ids, safe to print: those that are wider than that by their beginnings, as far as no other of them begins so, or
    else by beginning and end. Commands take what is printed for the id, among these: so one that nothing as narrow
    tells apart from the others is as wide as it has to be."""
    sorted_ids = sorted({each[:_LOOKED_AT] for each in ids})
    return [_short_id(each[:_LOOKED_AT], width, sorted_ids) for each in ids]


def _short_id(full: str, width: int, sorted_ids: Sequence[str]) -> str:
    whole = cell_len(safe(full))
    if whole <= width:
        return safe(full)
    for head, tail in _cuts(full, width, sorted_ids):
        short = f"{head}{SHORTENED}{tail}"
        if cell_len(safe(short)) < whole and _meant(short, sorted_ids) == [full]:
            return safe(short)
    return safe(full)


def _cuts(full: str, width: int, sorted_ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Beginnings and ends of an id, those that are shown rather first: as much of the beginning as there is room for,
    as much of both, and then the least that tells it apart from each other id."""
    yield _beginning(full, max(width - 1, 1)), ""
    head = _beginning(full, max((width - 1) // 2, 1))
    yield head, _ending(full[len(head) :], max(width - 1 - cell_len(safe(head)), 0))
    alike = [
        (_shared(full, each), _shared(full[::-1], each[::-1])) for each in sorted_ids if each != full
    ]  # how many characters each other id begins and ends with alike
    enough = [
        (begin, max((end + 1 for begins, end in alike if begins >= begin), default=0))
        for begin in sorted({1, *(begins + 1 for begins, _ in alike)})
    ]
    for begin, end in sorted(enough, key=sum):
        tail = full[len(full) - end :]
        yield max(full[:begin], _beginning(full, max(width - 1 - cell_len(safe(tail)), 0)), key=len), tail


def _shared(one: str, other: str) -> int:
    return len(commonprefix((one, other)))  # noqa: RUF071 - of texts


def _meant(name: str, sorted_ids: Sequence[str]) -> list[str]:
    """Which of some ids commands take a name for; see `audit.resolve`."""
    begin, _, end = name.rpartition(SHORTENED)
    for begins, ends in ((name, ""), (begin, end)):
        found: list[str] = []
        for each in sorted_ids[bisect_left(sorted_ids, begins) :]:
            if not each.startswith(begins):
                break
            if each == name:
                return [each]
            found += [each] if each.endswith(ends) else []
        if found:
            return found
    return []


def _ending(text: str, width: int) -> str:
    """The longest end whose safe form is no wider than that. The last mark in a name is the one that counts."""
    return _beginning(text[::-1], width)[::-1].rpartition(SHORTENED)[2]


def _beginning(text: str, width: int) -> str:
    """The longest beginning whose safe form is no wider than that."""
    text = text[: 4 * width + 4]  # what takes no cells counts, too
    while text and (over := cell_len(safe(text)) - width) > 0:
        text = text[: -max(over // 12, 1)]  # a character may take twelve: \U0001f600
    return text


def _least(column: Column, cells: Sequence[str], natural: int) -> int:
    if column.holds == "text":
        return min(natural, _LEAST_TEXT)
    if column.holds == "id" and natural > _WHOLE_ID:
        ids = sorted({each[:_LOOKED_AT] for each in cells})
        alike = max((cell_len(safe(commonprefix(pair))) for pair in pairwise(ids)), default=0)  # noqa: RUF071 - of texts
        told_apart = max(map(cell_len, short_ids(ids, _LEAST_ID)), default=0)
        return min(natural, max(_LEAST_ID, told_apart, min(alike + 2, _MOST_UNIQUE)))  # a character more, and the mark
    return natural


def _chosen(columns: Sequence[Column], least: Sequence[int], width: int) -> list[int]:
    """The places of the columns that stay; those of a rank below that of one that went do, too."""
    chosen: list[int] = []
    left = width + len(_GAP)
    for place in sorted(range(len(columns)), key=lambda place: columns[place].rank):
        left -= least[place] + len(_GAP)
        if left < 0 and columns[place].rank:
            break
        chosen.append(place)
    return sorted(chosen)


def _grow(widths: list[int], wanted: Sequence[int], room: int) -> None:
    """Share room out among the columns that want to be wider, alike, the smallest wish first."""
    wishes = sorted((want - width, place) for place, (want, width) in enumerate(zip(wanted, widths, strict=True)))
    wishes = [(wish, place) for wish, place in wishes if wish > 0]
    for count, (wish, place) in enumerate(wishes):
        more = min(wish, max(room, 0) // (len(wishes) - count))
        widths[place] += more
        room -= more


def _shrunk(widths: list[int], width: int) -> list[int]:
    """Columns that stay whatever the width is, cut where even their least is too much."""
    while sum(widths) > max(width, len(widths)):
        widths[widths.index(max(widths))] -= 1
    return widths


def _widest(cells: Sequence[str]) -> int:
    return max((cell_len(cell(each)) for each in cells), default=0)


def _turned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[row[place] for row in rows] for place in range(len(columns))]


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], *, styled: bool = False) -> Text:
    line = Text()
    for place, (column, width, text) in enumerate(zip(columns, widths, cells, strict=True)):
        space = " " * max(width - cell_len(text), 0)
        style = column.style(text) if styled else "bold"
        line.append(_GAP if place else "")
        line.append(space if column.right else "").append(text, style=style).append("" if column.right else space)
    line.rstrip()
    return line
