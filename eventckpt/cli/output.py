"""What the commands print: tables and text on a terminal, plain lines into a pipe, one JSON object a line on request.

Stored text is hostile until shown otherwise: it reaches a terminal with its control characters spelled out, and is
never read as markup.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from itertools import islice
from shutil import get_terminal_size
from types import NoneType
from typing import Any, BinaryIO, Final, Literal, NamedTuple, TextIO, TypeAlias, TypeVar, cast

import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..codec.tree import Form, Opaque, Ref, Tree, Value, children, has_parts, parts_of
from ..exit_codes import Failure, nowhere, printing
from ..text import SHORTENED, safe, safe_json, shortened
from .tables import Column, aligned, cut, fitted, fitting, short_ids
from .times import ago, in_utc, stored

__all__ = [
    "VIEWS",
    "Column",
    "Listing",
    "Output",
    "Screen",
    "View",
    "leaf_text",
    "plain_tree",
    "safe",
    "shortened",
    "tree_lines",
]

View: TypeAlias = Literal["table", "wide", "json"]
VIEWS: Final[dict[str, View]] = {"table": "table", "wide": "wide", "json": "json"}

Shown: TypeAlias = tuple[str, ...]
"""The heads of the columns of a table that were shown."""

_AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "highlight": False, "emoji": False}
_PAGE: Final = 50  # rows that a table is made of; a longer listing is several, as they come
_NAME: Final = 20  # cells of a name in a line that is brief
_WIDTH: Final = 100  # characters of a value that is shown shortened
_SHORTENED: Final = "~"  # where an encoding has no letter for the mark that a text was shortened
_PARTS: Final = 20  # parts of a list that is shown shortened
_JSON: Final = frozenset({NoneType, bool, int, str})  # types that stand for themselves


class Screen(NamedTuple):
    """What a command prints on. Who calls `app` with another one as `obj` has the commands print for that."""

    width: int | None = None
    """Of a terminal, in cells; None: as the output of the process is."""
    now: Callable[[], datetime] = partial(datetime.now, UTC)


class Output:
    """Where a command prints.

    Args:
        view: table: as much of each row as fits on a line of the terminal, all of it into a pipe; wide: all of it, and
            columns that are not shown otherwise; json: one JSON object a line, each with its `kind`.
        utc: whether times are told in UTC, and not how long ago they were.
        screen: what is printed on.
    """

    def __init__(self, view: View = "table", *, utc: bool = False, screen: Screen | None = None) -> None:
        self.as_json: Final = view == "json"
        self.is_wide: Final = view == "wide"
        self.goes_on: bool = False
        """Whether a command goes on where nobody reads what it prints any more: one that changes something does all
        that it was told to do, and others end there."""
        self._utc = utc
        self._screen = screen or Screen()
        self._out: TextIO = sys.stdout or nowhere()
        self._bytes: BinaryIO | None = getattr(self._out, "buffer", None)
        if hasattr(self._out, "reconfigure"):  # it may be of any encoding, and be given what that has no letters for
            cast(Any, self._out).reconfigure(errors="backslashreplace")
        self._console = Console(file=self._out, width=self._screen.width, **_AS_IT_IS)
        self._width: Final = self._console.width or get_terminal_size().columns  # COLUMNS=0 says nothing
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        self._encoding: Final = None if SHORTENED.encode(encoding, "ignore") else encoding
        self._errors = Console(file=sys.stderr or nowhere(), **_AS_IT_IS)

    @property
    def is_terminal(self) -> bool:
        """Whether somebody reads along. Colours alone, as FORCE_COLOR has them, make no terminal."""
        return self._screen.width is not None or self._out.isatty()

    @property
    def _fits(self) -> bool:
        """Whether lines are made to fit what they are printed on."""
        return self.is_terminal and not self.is_wide

    def now(self) -> datetime:
        """The time that others are told from."""
        return self._screen.now()

    def time(self, text: str) -> str:
        """A time, as it is told here: how long ago on a terminal, and elsewhere as it is stored."""
        if self._utc:
            return in_utc(text)
        return ago(text, self.now()) if self._fits else stored(text)

    def record(self, kind: str, fields: Mapping[str, Any]) -> None:
        """A JSON object, where JSON was asked for."""
        if self.as_json:
            builtins = msgspec.to_builtins({"kind": kind, **fields})
            self._print(safe_json(json.dumps(builtins, ensure_ascii=True, allow_nan=False)))
            self.flush()

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line of text, where text was asked for."""
        if not self.as_json:
            self._styled(Text(safe(text), style=style))

    def brief(self, text: str) -> None:
        """A line of text, of which a narrow terminal is shown as much as fits on one line of it."""
        self.line(cut(self._lettered(safe(text)), self._width) if self._fits else text)

    def name(self, text: str) -> str:
        """What a run or a workflow is called, in a line that is brief: so that there is room for what follows."""
        return short_ids([text], _NAME)[0] if self._fits and not self._encoding else text

    def note(self, text: str) -> None:
        """A line for the person at the terminal, kept out of what is piped on."""
        if self._errors.is_terminal or not self.as_json:
            self._tell(Text(safe(text)))

    def nothing(self, text: str) -> None:
        """That an answer is empty, and of what: no JSON is an answer in itself."""
        self.note(text)

    def complaint(self, text: str) -> None:
        """A line that says what is wrong, kept out of what is piped on, whatever that is."""
        self._tell(Text(f"eventckpt: {safe(text)}", style="red"))

    def error(self, code: int, text: str, fields: Mapping[str, Any] | None = None) -> None:
        try:
            self.record("error", {"code": code, "message": text, **(fields or {})})
        except (Failure, BrokenPipeError):
            self.complaint(text)
        if not self.as_json:
            self.complaint(text)

    def flush(self) -> None:
        """Have all that was printed written.

        Raises:
            Failure: it cannot be.
        """
        with self._printing():
            self._out.flush()

    @contextmanager
    def _printing(self) -> Generator[None]:
        try:
            with printing():
                yield
        except BrokenPipeError:
            if not self.goes_on:
                raise
            sys.stdout = self._out = nowhere()
            self._bytes = None
            self._console = Console(file=self._out, width=self._screen.width, **_AS_IT_IS)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, before: Shown = ()) -> Shown:
        """Rows in columns: a line each on a terminal, as far as it is wide enough; aligned text in a pipe.

        Args:
            columns: all that there are.
            rows: the texts of their cells; those of times as they are stored.
            before: what this gave for the rows before, whose heads stand there already.

        Returns:
            The heads that were shown.
        """
        told = [
            [self.time(text) if column.holds == "time" else text for column, text in zip(columns, row, strict=True)]
            for row in rows
        ]
        kept = [place for place, column in enumerate(columns) if self.is_wide or not column.wide]
        columns, told = [columns[place] for place in kept], [[row[place] for place in kept] for row in told]
        if not self._fits:
            for line in aligned(columns, told, heads=not before):
                self._styled(line)
            return tuple(column.head for column in columns)
        if self._encoding:  # which has no mark that a shortened id would be known by
            columns, told = list(map(_whole, columns)), [list(map(self._lettered, row)) for row in told]
        widths = fitting(columns, told, self._width)
        columns, told = [columns[place] for place in widths], [[row[place] for place in widths] for row in told]
        heads = tuple(column.head for column in columns)
        for line in fitted(columns, list(widths.values()), told, heads=heads != before):
            self._styled(line)
        return heads

    def bytes_lines(self, lines: Iterable[bytes]) -> None:
        """Lines of JSON, in UTF-8 whatever the encoding of the output: they are to be read again."""
        for line in lines:
            text = safe_json(line.decode()) + "\n"
            with printing():
                if self._bytes is None:
                    self._out.write(text)
                else:
                    self._out.flush()
                    self._bytes.write(text.encode())

    @contextmanager
    def progress(self, what: str) -> Generator[Callable[[int], None], None, None]:
        """Shows how many are done while they are, on a terminal only."""
        if not self._errors.is_terminal:
            yield lambda count: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f}"), TimeElapsedColumn())
        with Progress(*columns, console=self._errors, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda count: progress.update(task, completed=count)

    def _styled(self, text: Text) -> None:
        self._print(text.plain if self._console.color_system is None else _rendered(text, self._console))

    def _lettered(self, text: str) -> str:
        """A text as it will be printed, where the encoding has no letters for all of it: so it takes more cells."""
        if self._encoding is None:
            return text
        return SHORTENED.join(
            part.encode(self._encoding, "backslashreplace").decode(self._encoding) for part in text.split(SHORTENED)
        )

    def _print(self, line: str) -> None:
        if self._encoding and self._fits:
            line = line.replace(SHORTENED, _SHORTENED)
        with self._printing():
            self._out.write(line + "\n")

    def _tell(self, text: Text) -> None:
        try:
            self._errors.file.write(_rendered(text, self._errors) + "\n")
            self._errors.file.flush()
        except OSError:  # nobody reads it: the exit code says the same
            sys.stderr = nowhere()


def _whole(column: Column) -> Column:
    """A column whose ids are not shortened."""
    holds = "word" if column.holds == "id" else column.holds
    return Column(column.head, right=column.right, holds=holds, rank=column.rank, wide=column.wide, style=column.style)


def _rendered(text: Text, like: Console) -> str:
    """A line as this console would print it. It does not write it itself: where a pipe is closed, it would end us."""
    line = StringIO()
    colours: Any = like.color_system
    width = like.width or _WIDTH  # which is not kept to
    console = Console(
        file=line, width=width, force_terminal=like.is_terminal, color_system=colours, no_color=like.no_color
    )
    console.print(text, soft_wrap=True, end="")
    return line.getvalue()


class Listing:
    """Rows that are printed as they come, a page at a time."""

    def __init__(self, out: Output, kind: str, columns: Sequence[Column]) -> None:
        self._out = out
        self._kind = kind
        self._columns = columns
        self._rows: list[Sequence[str]] = []
        self._shown: Shown = ()
        self.count: int = 0

    def add(self, fields: Mapping[str, Any], row: Sequence[str]) -> None:
        self.count += 1
        if self._out.as_json:
            self._out.record(self._kind, fields)
            return
        self._rows.append(row)
        if len(self._rows) == _PAGE:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._shown = self._out.table(self._columns, self._rows, before=self._shown)
            self._rows = []


# Trees


def plain_tree(tree: Tree) -> Any:
    """A tree as JSON: what JSON has no word for is an object with the key "$"."""
    if type(tree) in _JSON:
        return tree
    if isinstance(tree, list):
        return tree if _JSON.issuperset(map(type, tree)) else list(map(plain_tree, tree))
    if isinstance(tree, dict):
        keys = [f"[{key!r}]" for key in tree] if "$" in tree else tree
        plain: dict[str, Any] = {"$": "dict"} if "$" in tree else {}
        plain.update(zip(keys, map(plain_tree, tree.values()), strict=True))
        return plain
    if isinstance(tree, Form):
        plain = {"$": tree.name}
        for step, part in tree.parts:
            plain[step] = plain_tree(part)
        return plain
    if isinstance(tree, Value):
        return {"$": tree.name, "text": tree.text}
    if isinstance(tree, Opaque):
        return {"$": tree.name, "not_shown": True, "size": tree.size, "sha256": tree.digest}
    if isinstance(tree, Ref):
        return {"$": "ref", "path": tree.path}
    if isinstance(tree, bytes):
        return {"$": "bytes", "base64": base64.b64encode(tree).decode()}
    return tree if math.isfinite(cast(float, tree)) else {"$": "float", "text": repr(tree)}


def tree_lines(tree: Tree, name: str = "", *, depth: int = 0, full: bool = False) -> Iterator[str]:
    """A tree as indented lines; long values and long lists are shortened unless `full`."""
    open_parts: list[Iterator[tuple[str, Tree] | str]] = [iter(((name, tree),))]
    indents = ["  " * depth]
    while open_parts:
        part = next(open_parts[-1], None)
        if part is None:
            open_parts.pop()
            indents.pop()
        elif isinstance(part, str):
            yield indents[-1] + part
        else:
            step, inner = part
            label = f"{indents[-1]}{_named(step, full=full)}"
            text = leaf_text(inner, full=full) if not has_parts(inner) else _inline(inner)
            if text is not None:
                yield label + text
            else:
                yield f"{label}{_head(inner)}".rstrip()
                open_parts.append(_shown(inner, full=full))
                indents.append(indents[-1] + "  ")


def leaf_text(tree: Tree, *, full: bool = False) -> str:
    """One value on one line, safe to print; a container as what it is and how many parts it has."""
    if has_parts(tree):
        inline = _inline(tree)
        return inline if inline is not None else _head(tree) or f"{_count(tree)} keys"
    if isinstance(tree, Opaque):
        return f"{safe(tree.name)}, {tree.size:,} bytes, not shown (--allow {safe(tree.name)})"
    if isinstance(tree, Value):
        return f"{_cut(safe(_start(tree.text, full=full)), full=full)} ({safe(tree.name)})"
    if isinstance(tree, Ref):
        return f"the same as {safe(tree.path)}"
    if isinstance(tree, str):
        start = _start(tree, full=full)
        end = '"' if len(start) == len(tree) else ""
        return _cut(f'"{safe(start)}{end}', full=full, size=f"{len(tree):,} characters")
    if isinstance(tree, bytes):
        return _cut(safe(repr(_start(tree, full=full))), full=full, size=f"{len(tree):,} bytes")
    return str(tree)


_Text = TypeVar("_Text", str, bytes)


def _start(text: _Text, *, full: bool) -> _Text:
    """As much of a text as is looked at to show it: the rest may be very long."""
    return text if full else text[: _WIDTH + 1]


def _named(step: str, *, full: bool) -> str:
    step = _start(step.removeprefix("."), full=full)
    return f"{_cut(safe(step), full=full)}: " if step else ""


def _cut(text: str, *, full: bool, size: str = "") -> str:
    if full or len(text) <= _WIDTH:
        return text
    return f"{shortened(text, _WIDTH)} ({size})" if size else shortened(text, _WIDTH)


def _count(tree: Tree) -> int:
    return len(tree.parts) if isinstance(tree, Form) else len(cast("list[Tree]", tree))


def _shown(tree: Tree, *, full: bool) -> Iterator[tuple[str, Tree] | str]:
    """The parts that are shown, and then how many are not."""
    parts, count = parts_of(tree) or (), _count(tree)
    if full or isinstance(tree, dict) or count <= _PARTS + 1:
        yield from parts
        return
    yield from islice(parts, _PARTS)
    yield f"… {count - _PARTS:,} more"


def _inline(tree: Tree) -> str | None:
    """A short list or form of plain values on one line; None where it would be long."""
    count = _count(tree)
    if not count and not isinstance(tree, Form):
        return "{}" if isinstance(tree, dict) else "[]"
    if isinstance(tree, dict) or count > 8:
        return None
    parts = children(tree) or []
    if any(has_parts(part) for _, part in parts):
        return None
    if isinstance(tree, Form) and ":" in tree.name:
        texts = [f"{step.removeprefix('.')}={leaf_text(part)}" for step, part in parts]
        text = f"{safe(tree.name)}({', '.join(safe(each) for each in texts)})"
    elif isinstance(tree, Form) and tree.name == "dict":
        text = f"{{{', '.join(f'{safe(step[1:-1])}: {leaf_text(part)}' for step, part in parts)}}}"
    else:
        name = tree.name if isinstance(tree, Form) else ""
        text = f"{name}{'(' if name else '['}{', '.join(leaf_text(part) for _, part in parts)}{')' if name else ']'}"
    return text if len(text) <= _WIDTH else None


def _head(tree: Tree) -> str:
    if isinstance(tree, Form):
        return f"{safe(tree.name)}" if ":" in tree.name else f"{tree.name}, {_count(tree):,} items"
    return f"{_count(tree):,} items" if isinstance(tree, list) else ""
