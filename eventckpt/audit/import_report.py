"""What an import has done so far, and what it has to say about it: counts, and the first of the problems.

A file may have a million bad lines. All are counted; as many are told as a person reads.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ..events import StreamId
from ..text import described

__all__ = ["Imported", "Report", "named"]

_TOLD: Final = 100  # problems, and notes


class Imported(NamedTuple):
    """What became of an import."""

    events: int
    """Whole events in the file, each counted once."""
    added: int
    """Of those, how many were not in the store yet."""
    runs: int
    complete: bool
    """Whether the file has its last line."""
    problems: tuple[str, ...]
    """The first 100 things that are wrong with the file, or kept it from being imported as a whole: lines and runs that
    were left out, totals that do not fit, and why."""
    removed: int = 0
    """Events that the store's own record says were removed: they were not put back."""
    problem_count: int = 0
    """How many problems there were, those included that are not in `problems`."""
    notes: tuple[str, ...] = ()
    """The first 100 things that are worth knowing, and no fault: checkpoint ids that several runs have."""

    @property
    def whole(self) -> bool:
        """Whether the file was what an export wrote, and all of it is accounted for in the store."""
        return self.complete and not self.problems


class Report:
    """An `Imported` in the making."""

    def __init__(self) -> None:
        self.events = self.added = self.runs = self.removed = 0
        self.complete = False
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._count = 0

    def problem(self, text: str) -> None:
        self._count += 1
        if len(self._problems) < _TOLD:
            self._problems.append(text)

    def note(self, text: str) -> None:
        if len(self._notes) < _TOLD:
            self._notes.append(text)

    def only(self, text: str) -> None:
        """Leave one problem, in place of all that were told."""
        self._problems, self._count = [text], 1

    def imported(self) -> Imported:
        """As of now."""
        return Imported(
            self.events,
            self.added,
            self.runs,
            self.complete,
            tuple(self._problems),
            self.removed,
            self._count,
            tuple(self._notes),
        )


def named(stream: StreamId) -> str:
    """A run as a problem names it; what is in a file may be of any length."""
    if not stream.is_run:
        return f"the removals of workflow {described(stream.workflow_name)}"
    return f"run {described(stream.run_id)} of workflow {described(stream.workflow_name)}"
