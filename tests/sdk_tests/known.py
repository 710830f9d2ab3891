"""The tests that are known to fail, each with its reason, and what a run may not do with that list.

The list may only become shorter: a test that fails and is not on it is a fault, and so is one on it that passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .running import FileRun, Outcome

LIST = Path(__file__).parent / "known_failures.txt"
REFUSED = "501"
"""The kind of reason: a feature that the server refuses by name."""
FLAKY = "flaky"
"""The kind of reason: whether the test passes is a matter of time, so it may do either."""
KINDS = frozenset({REFUSED, FLAKY, "undocumented", "not built", "their own"})
_HEADING = re.compile(r"\[([^:\]]+): ([^\]]+)\]")
_SAYS_501 = "The emulator does not support"


@dataclass(frozen=True)
class Reason:
    """Why tests fail."""

    kind: str
    text: str


def read_list(text: str) -> dict[str, Reason]:
    """Headings `[kind: reason]`, and below each the tests, a line each; `#` begins a comment."""
    found: dict[str, Reason] = {}
    reason = None
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        if heading := _HEADING.fullmatch(line):
            reason = Reason(*heading.groups())
            if reason.kind not in KINDS:
                raise ValueError(f"{line}: the kind of a reason is one of {', '.join(sorted(KINDS))}.")
        elif reason is None:
            raise ValueError(f"{line} has no reason above it.")
        elif line in found:
            raise ValueError(f"{line} is listed twice.")
        else:
            found[line] = reason
    return found


def faults(run: FileRun, known: Mapping[str, Reason]) -> list[str]:
    """What is wrong with the run of one file, a sentence each."""
    listed = {test: reason for test, reason in known.items() if test.partition("::")[0] == run.name}
    told = [fault for test, outcome in run.tests.items() if (fault := _fault(test, outcome, listed.get(test)))]
    gone = [f"{test} is listed, but there is no such test." for test in listed if test not in run.tests]
    return [*run.complaints, *told, *gone]


def _fault(test: str, outcome: Outcome, reason: Reason | None) -> str | None:
    if reason is None:
        return f"{test} failed: {_last_line(outcome.text)}" if outcome.outcome == "failed" else None
    if outcome.outcome != "failed":
        return None if reason.kind == FLAKY else f"{test} {outcome.outcome}: take it off the list."
    if reason.kind == REFUSED and _SAYS_501 not in outcome.text:
        return f"{test} is listed as refused, but failed otherwise: {_last_line(outcome.text)}"
    return None


def listed_nowhere(known: Iterable[str], names: Iterable[str]) -> list[str]:
    """Tests on the list whose file is not run at all."""
    files = set(names)
    return [f"{test} is listed, but its file is not run." for test in known if test.partition("::")[0] not in files]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it gave no reason."
