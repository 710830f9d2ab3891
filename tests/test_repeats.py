"""Nothing is written twice: no six lines of the packages stand at two places.

Lines are compared by their tokens, so that neither comments and blank lines nor the way they are broken make a
difference, and a second time with every name of a variable left out, so that a copy with other names is one too. What
must repeat is excepted by rule: imports, `__all__`, signatures and what hands a parameter on under its own name, fields
that a class declares, docstrings.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import textwrap
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow  # compares every six lines with every other six

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("eventckpt/**/*.py"), *ROOT.glob("projections/**/*.py")])

LEAST = 6
"""Lines that are a repeat."""


class Line(NamedTuple):
    number: int
    tokens: tuple[str, ...]


class Repeat(NamedTuple):
    lines: int
    one: tuple[str, int]
    """Name of a file and number of the first line; likewise:"""
    other: tuple[str, int]


_SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def blocks(source: str, *, with_names: bool) -> list[list[Line]]:
    """The lines that may not repeat, in stretches that end where something stands that may, or where a class or a
    function begins or ends."""
    tree = ast.parse(source)
    tokens = _tokens(source, with_names=with_names)
    found: list[list[Line]] = [[]]
    for statement in _in_order(tree.body):
        if statement is None or _must_repeat(statement):
            found.append([])
        else:
            end = _end_of_head(statement)
            for number in range(statement.lineno, end + 1):
                if tokens.get(number) and not _hands_on(tokens[number]):
                    found[-1].append(Line(number, tuple(tokens[number])))
    return [block for block in found if len(block) >= LEAST]


def _tokens(source: str, *, with_names: bool) -> dict[int, list[str]]:
    """By line, its tokens; none of what only closes or separates."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _SKIPPED:
            continue
        text = token.string
        if not with_names and token.type == tokenize.NAME and before != "." and _is_a_variable(text):
            text = "name"
        found[token.start[0]].append(text)
        before = token.string
    return {number: texts for number, texts in found.items() if not set(texts) <= set(")]},")}


def _is_a_variable(text: str) -> bool:
    return not keyword.iskeyword(text) and not hasattr(builtins, text) and text != "self" and not text[:1].isupper()


def _hands_on(tokens: Sequence[str]) -> bool:
    """`name=name,`: a parameter that is handed on is as much of a signature as the parameter."""
    return len(tokens) in (3, 4) and tokens[1] == "=" and tokens[0] == tokens[2] and tokens[3:] in ([], [","])


def _in_order(body: Sequence[ast.stmt]) -> Iterator[ast.stmt | None]:
    """Every statement as it stands in the source; None where a class or a function begins or ends."""
    for statement in body:
        is_scope = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if is_scope:
            yield None
        else:
            yield statement
        for inner in ("body", "handlers", "orelse", "finalbody", "cases"):
            part: list[ast.stmt | ast.ExceptHandler | ast.match_case] = getattr(statement, inner, [])
            for each in part if isinstance(part, list) else []:
                if isinstance(each, ast.stmt):
                    yield from _in_order([each])
                else:
                    yield from _in_order(each.body)
        if is_scope:
            yield None


def _end_of_head(statement: ast.stmt) -> int:
    body: list[ast.stmt] = getattr(statement, "body", [])
    cases: list[ast.match_case] = getattr(statement, "cases", [])
    if body:
        return max(statement.lineno, body[0].lineno - 1)
    return statement.lineno if cases else statement.end_lineno or statement.lineno


def _must_repeat(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.AnnAssign(value=None):
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case _:
            return False


def repeats(sources: dict[str, str], *, with_names: bool, least: int = LEAST) -> list[Repeat]:
    """Where as many lines stand twice, each as long as it goes."""
    lines: dict[str, list[list[Line]]] = {
        name: blocks(source, with_names=with_names) for name, source in sources.items()
    }
    places: defaultdict[tuple[tuple[str, ...], ...], list[tuple[str, int, int]]] = defaultdict(list)
    for name, of_file in lines.items():
        for at, block in enumerate(of_file):
            for start in range(len(block) - least + 1):
                window = tuple(line.tokens for line in block[start : start + least])
                places[window].append((name, at, start))
    found: list[Repeat] = []
    for same in places.values():
        one, *others = same
        for other in others:
            length = _length(lines, one, other)
            if one[:2] == other[:2] and other[2] - one[2] < length:
                continue  # it overlaps itself
            if not _goes_back(lines, one, other):
                found.append(Repeat(length, _place(lines, one), _place(lines, other)))
    return found


def _at(lines: dict[str, list[list[Line]]], place: tuple[str, int, int], offset: int) -> Line | None:
    block, index = lines[place[0]][place[1]], place[2] + offset
    return block[index] if 0 <= index < len(block) else None


def _equal(lines: dict[str, list[list[Line]]], one: tuple[str, int, int], other: tuple[str, int, int], at: int) -> bool:
    ours, theirs = _at(lines, one, at), _at(lines, other, at)
    return ours is not None and theirs is not None and ours.tokens == theirs.tokens


def _length(lines: dict[str, list[list[Line]]], one: tuple[str, int, int], other: tuple[str, int, int]) -> int:
    length = 0
    while _equal(lines, one, other, length):
        length += 1
    return length


def _goes_back(lines: dict[str, list[list[Line]]], one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    """Whether the line before is the same as well, so that the repeat is found from there."""
    return _equal(lines, one, other, -1)


def _place(lines: dict[str, list[list[Line]]], place: tuple[str, int, int]) -> tuple[str, int]:
    line = _at(lines, place, 0)
    assert line is not None
    return place[0], line.number


def found_in_the_packages() -> list[Repeat]:
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES}
    return [each for with_names in (True, False) for each in repeats(sources, with_names=with_names)]


def test_no_six_lines_stand_at_two_places() -> None:
    assert found_in_the_packages() == []


# The control: what counts as a repeat


def source_of(name: str, amount: str, *, lines: int = LEAST) -> str:
    """A function of so many lines in which a variable is called `amount`."""
    return f"def {name}(order: Order) -> int:\n" + "".join(
        f"    {amount} = order.part({number}) + {amount}\n" for number in range(lines)
    )


def test_a_copy_is_found_whatever_its_names_comments_and_indentation_are() -> None:
    copy = "class Orders:\n" + textwrap.indent(source_of("other", "sum_"), "    ")
    sources = {"one": source_of("one", "total"), "other": copy.replace("part(2) + sum_", "part(2) + sum_  # the third")}
    assert repeats(sources, with_names=True) == []
    assert repeats(sources, with_names=False) == [Repeat(LEAST, ("one", 2), ("other", 3))]
    assert repeats({"one": sources["one"], "same": sources["one"]}, with_names=True) == [
        Repeat(LEAST, ("one", 2), ("same", 2))
    ]


def test_a_copy_within_one_file_is_found_once_as_long_as_it_goes() -> None:
    twice = source_of("one", "total", lines=9) + source_of("other", "total", lines=9)
    assert repeats({"one": twice}, with_names=True) == [Repeat(9, ("one", 2), ("one", 12))]


@pytest.mark.parametrize(
    "text",
    [
        source_of("short", "total", lines=LEAST - 1),
        "".join(f"from a import b{number}\n" for number in range(LEAST)),
        "class Row:\n" + "".join(f"    field{number}: int\n" for number in range(LEAST)),
        "def f(\n" + "".join(f"    p{number}: int,\n" for number in range(LEAST)) + ") -> int:\n    return 1\n",
        "super().__init__(\n" + "".join(f"    p{number}=p{number},\n" for number in range(LEAST)) + ")\n",
        '__all__ = [\n' + "".join(f'    "p{number}",\n' for number in range(LEAST)) + "]\n",
        '"""A docstring.' + "\n".join("abcdefg") + '"""\n',
    ],
)  # fmt: skip
def test_what_is_short_or_must_repeat_may(text: str) -> None:
    assert repeats({"one": text, "other": text}, with_names=True) == []
