"""What the commands print: tables and text on a terminal, plain lines into a pipe, one JSON object a line on request.

Stored text is hostile until shown otherwise: it reaches a terminal with its control characters spelled out, and is
never read as markup.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from io import StringIO
from shutil import get_terminal_size
from typing import Any, BinaryIO, Final, Literal, NamedTuple, TextIO, TypeAlias, cast

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..exit_codes import Failure, nowhere, printing
from ..rendering.fields import error_fields, line_of
from ..rendering.times import ago, in_utc, stored
from ..text import SHORTENED, safe, safe_json
from .tables import Column, aligned, cut, fitted, fitting, short_ids

__all__ = [
    "VIEWS",
    "Column",
    "Listing",
    "Output",
    "Screen",
    "View",
]

View: TypeAlias = Literal["table", "wide", "json"]
VIEWS: Final[dict[str, View]] = {"table": "table", "wide": "wide", "json": "json"}

Shown: TypeAlias = tuple[str, ...]
"""The heads of the columns of a table that were shown."""

_AS_IT_IS: Final[dict[str, Any]] = {"markup": False, "highlight": False, "emoji": False}
_PAGE: Final = 50  # rows that a table is made of; a longer listing is several, as they come
_NAME: Final = 20  # cells of a name in a line that is brief
_WIDTH: Final = 100  # characters of a line, where nothing says how wide it may be
_SHORTENED: Final = "~"  # where an encoding has no letter for the mark that a text was shortened


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
            self._print(line_of(kind, fields))
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

    def error(self, code: int, error: BaseException) -> None:
        text = str(error)
        try:
            self.record("error", error_fields(code, error))
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
