"""What a page is asked for: the query of its address, each part read as the matching command reads its option."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Self, TypeVar
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from ..exit_codes import USAGE, Failure
from ..rendering.cursor import place_in
from ..rendering.times import moment
from ..text import described, is_unicode, safe
from .access import Session

__all__ = ["COMPARED", "EXACT", "OF_QUESTIONS", "OF_RUNS", "OF_SESSIONS", "Query"]

_T = TypeVar("_T", bound=msgspec.Struct)

EXACT: Final = "%"
"""At the end of a field's name: what the field of that name stands for, quoted as in an address. Only so it comes
through a browser as it is, which ends lines in a way of its own, and cannot have some characters in a page at all."""
OF_RUNS: Final = ("workflow", "status", "since", "until", "pending", "request", "actor")
OF_QUESTIONS: Final = ("workflow", "older-than", "type")
"""What runs and questions are filtered by, once each; and by tags."""
OF_SESSIONS: Final = ("source", "prefix")
COMPARED: Final = ("before", "after", "workflow")
_LONGEST: Final = 4_096  # characters of a part
_PARTS: Final = 100


class Query:
    """The parts of a query, by their names. What is empty counts as not given, as forms send it.

    Args:
        parts: each part with its name; of one that is given several times, the last counts, unless all are asked for.
        session: of whoever asks; None: of nobody who signed in.
    """

    def __init__(self, parts: Iterable[tuple[str, str]], session: Session | None = None) -> None:
        self.session = session
        self._parts: dict[str, list[str]] = {}
        for name, value in parts:
            if value:
                self._parts.setdefault(name, []).append(value)

    @classmethod
    def of(cls, query: bytes, session: Session | None = None) -> Self:
        """The query of an address, as a server has it, and whose session asks.

        Raises:
            Failure: it is no UTF-8, so that nothing which is stored could be meant, or has very many parts.
        """
        try:
            text = query.decode()
            given = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_PARTS)
            return cls(_as_meant(given), session)
        except UnicodeDecodeError:
            raise Failure(USAGE, "The query of this address is no UTF-8.") from None
        except ValueError:
            raise Failure(USAGE, f"The query of an address has up to {_PARTS} parts.") from None

    @property
    def parts(self) -> Mapping[str, Sequence[str]]:
        """All that is given, for addresses that ask for the same."""
        return self._parts

    def check(self, takes: Collection[str]) -> None:
        """Refuse what is given by another name than these.

        Raises:
            Failure: something is.
        """
        for name in self._parts:
            if name not in takes:
                raise Failure(USAGE, f"This page takes {', '.join(takes)}, not {described(name)}.")

    def text(self, name: str) -> str | None:
        """A part as text; None: it was not given.

        Raises:
            Failure: it is no text that a store could have, or a very long one.
        """
        return next(reversed(self.texts(name)), None)

    def texts(self, name: str) -> list[str]:
        """Each time that a part was given, as text.

        Raises:
            Failure: see `text`.
        """
        values = self._parts.get(name, [])
        if any(len(value) > _LONGEST or not is_unicode(value) for value in values):
            raise Failure(USAGE, f"{name} takes up to {_LONGEST:,} characters of Unicode.", about=name)
        return values

    def needed(self, name: str) -> str:
        """A part that must be given, as text.

        Raises:
            Failure: it was not.
        """
        value = self.text(name)
        if value is None:
            raise Failure(USAGE, f"The address of this page needs {name}=….", about=name)
        return value

    def options(self, *names: str) -> list[str]:
        """What was given by these names, as options of a command.

        Raises:
            Failure: see `text`.
        """
        return [f"--{name}={value}" for name in names if (value := self.text(name)) is not None]

    def number(self, name: str, otherwise: int, *, most: int, least: int = 1) -> int:
        """A part as a whole number.

        Args:
            name: of the part.
            otherwise: where it was not given.
            most, least: what it may be.

        Raises:
            Failure: it is none, or out of its bounds.
        """
        value = self.text(name)
        if value is None:
            return otherwise
        if not (value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most):
            said = f"{name} takes a number from {least:,} to {most:,}, not {described(value)}."
            raise Failure(USAGE, said, about=name)
        return int(value)

    def moment(self, name: str) -> datetime | None:
        """A part as a time, ISO 8601 or how long ago it was; None: it was not given.

        Raises:
            Failure: it is neither.
        """
        return moment(self.text(name), name)

    def place(self, listing: str, kind: type[_T]) -> _T | None:
        """Where a listing goes on, by the token in `after`; None: from its beginning.

        Raises:
            Failure: it is none of this listing.
        """
        return place_in(next(reversed(self._parts.get("after", [])), None), listing, kind, "after")


def _as_meant(parts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parts without those that tell what others stand for, as which these count where they came back unchanged. One
    that tells it of none is a part like any other."""
    parts = list(parts)
    exact = {f"{name}{EXACT}": name for name, _ in parts}
    told = [(exact[name], unquote_plus(text, errors="strict")) for name, text in parts if name in exact]
    meant = {(name, safe(text)): text for name, text in told}
    return [(name, meant.get((name, text), text)) for name, text in parts if name not in exact]
