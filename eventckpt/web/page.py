"""A page: what it shows, the JSON lines that say the same, and how large it may become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ..rendering.fields import line_of
from ..rendering.shell import in_shell
from ..threads import stop_if_dropped
from .query import Query

__all__ = ["MAX_BYTES", "Line", "Page", "SeeOther", "Sent", "as_shown", "command_of"]

MAX_BYTES: Final = 1_000_000
"""Of one answer. A page leaves out what does not fit, and says so."""

_LONGEST_COMMAND: Final = 4_000  # characters: of the longest names that can be written, each spelled out

Line: TypeAlias = tuple[str | None, Mapping[str, Any]]
"""A JSON line, as the matching command prints it with `--json`: its kind, where it has one, and its fields."""


@dataclass(frozen=True)
class Page:
    """What a handler gives."""

    template: str
    """The file below `templates`."""
    title: str
    """What stands in the browser's tab; stored text may be in it."""
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the template shows."""
    lines: Callable[[], Iterable[Line]] | None = None
    """The same as JSON lines; None: the page has none."""
    command: Sequence[str] = ()
    """The words of the command that prints these lines, for those that are longer than an answer may be."""
    status: int = 200

    def as_lines(self) -> bytes | None:
        """The JSON lines; None: there are none, or they are longer than an answer may be.

        Raises:
            Failure: what they are made of cannot be read.
        """
        said: list[str] = []
        size = 0
        for kind, fields in self.lines() if self.lines is not None else ():
            stop_if_dropped()
            said.append(line_of(kind, fields) + "\n")
            size += len(said[-1])
            if size > MAX_BYTES:
                return None
        return "".join(said).encode() if self.lines is not None else None


def command_of(name: str, what: Sequence[str], workflow_name: str | None, *options: str) -> list[str]:
    """The words of a command that prints JSON lines.

    Args:
        name: of the command.
        what: a run, a session, or events, as people name them.
        workflow_name: of these, or the source of the session; None: they are of several.
        options: further ones.
    """
    how = [*(["--workflow", workflow_name] if workflow_name is not None else []), *options, "--json"]
    looks_like_an_option = any(each.startswith("-") for each in what)
    return ["eventckpt", name, *([*how, "--", *what] if looks_like_an_option else [*what, *how])]


def as_shown(command: Sequence[str]) -> str:
    """A command, to be copied into a shell."""
    text = in_shell(command)
    return text if len(text) <= _LONGEST_COMMAND else "a command too long to be shown"


@dataclass(frozen=True)
class Sent:
    """A form that was sent."""

    asked: Query
    """The query of the address that it was sent to."""
    fields: Mapping[str, str] = field(repr=False)
    session_id: str = field(repr=False)
    """Of whoever sent it; empty: of nobody who signed in."""


@dataclass(frozen=True)
class SeeOther:
    """That what a form asked for was done, and which page says what that is."""

    where: str
    """An address below where the viewer is mounted."""
    session_id: str | None = field(default=None, repr=False)
    """Of the session that begins; empty: the one that there was has ended; None: nothing changes about that."""
