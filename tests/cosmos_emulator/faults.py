"""Faults by rule: which requests, what happens to them, and how often.

Rules are asked in the order they were added; every rule that fires acts. `applied=True` lets the request do its work
first, so that the client is left not knowing.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from .routes import Call
from .statuses import NAMED_FAULTS


class Match(TypedDict, total=False):
    """Which requests, and how often; what is left out matches everything."""

    kind: str | Collection[str]
    """The operation, e.g. `create_item`; the kinds are listed in the README."""
    method: str
    path: str
    """A regular expression searched for in the path."""
    container: str
    where: Callable[[Call], bool]
    rate: float
    """The share of the matching requests, drawn with `seed`."""
    seed: int
    nth: int
    """Only the n-th matching request, counted from 1."""
    times: int
    """At most so often."""


@dataclass(frozen=True)
class Respond:
    status: int
    substatus: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    applied: bool = False
    message: str = "An injected fault."
    names_container: bool = False
    """Whether the answer tells which container it is about."""


@dataclass(frozen=True)
class Delay:
    seconds: float = 0.0
    until: asyncio.Event | None = None
    applied: bool = False

    async def wait(self) -> None:
        if self.until is not None:
            await self.until.wait()
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Drop:
    applied: bool = False


Action = Respond | Delay | Drop


class Rule:
    """One rule; a context manager that removes itself at the end."""

    def __init__(self, faults: Faults, action: Action, match: Match) -> None:
        self.action = action
        self.calls = 0
        """Requests that matched."""
        self.hits = 0
        """Requests that the rule acted on."""
        self._faults = faults
        self._match = match
        self._random = random.Random(match.get("seed", 0))

    def fires(self, call: Call) -> bool:
        if not self._matches(call):
            return False
        self.calls += 1
        match = self._match
        if "nth" in match and self.calls != match["nth"]:
            return False
        if "times" in match and self.hits >= match["times"]:
            return False
        if "rate" in match and self._random.random() >= match["rate"]:
            return False
        self.hits += 1
        return True

    def _matches(self, call: Call) -> bool:
        match = self._match
        kinds = match.get("kind", call.kind)
        return (
            (call.kind == kinds if isinstance(kinds, str) else call.kind in kinds)
            and match.get("method", call.method).upper() == call.method
            and re.search(match.get("path", ""), call.path) is not None
            and match.get("container", call.container) == call.container
            and match.get("where", lambda _: True)(call)
        )

    def remove(self) -> None:
        self._faults.remove(self)

    def __enter__(self) -> Rule:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()


class Faults:
    """The rules of one emulator."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def respond(
        self,
        status: int | None = None,
        *,
        name: str | None = None,
        substatus: int = 0,
        retry_after_ms: int | None = None,
        headers: Mapping[str, str] | None = None,
        applied: bool = False,
        **match: Unpack[Match],
    ) -> Rule:
        """Answers with a status (429, 449, 408, 410, 503, …), or by a name of `NAMED_FAULTS`, instead of, or after,
        doing the work."""
        extra = {**({} if retry_after_ms is None else {"x-ms-retry-after-ms": str(retry_after_ms)}), **(headers or {})}
        if name is not None:
            named = NAMED_FAULTS[name]
            said = Respond(
                named.status, named.substatus, {**named.headers, **extra}, applied, named.message, named.names_container
            )
        elif status is not None:
            said = Respond(status, substatus, extra, applied)
        else:
            raise TypeError("A fault needs its status or its name.")
        return self._add(said, match)

    def delay(
        self,
        seconds: float = 0.0,
        *,
        until: asyncio.Event | None = None,
        applied: bool = False,
        **match: Unpack[Match],
    ) -> Rule:
        """Holds the request, or with `applied` its response, for a time or until an event is set."""
        return self._add(Delay(seconds, until, applied), match)

    def drop(self, *, applied: bool = False, **match: Unpack[Match]) -> Rule:
        """Closes the connection without an answer, before or (`applied`) after the work was done."""
        return self._add(Drop(applied), match)

    def _add(self, action: Action, match: Match) -> Rule:
        rule = Rule(self, action, match)
        self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        if rule in self._rules:
            self._rules.remove(rule)

    def clear(self) -> None:
        self._rules.clear()

    def actions(self, call: Call) -> list[Action]:
        return [rule.action for rule in self._rules if rule.fires(call)]

    def __iter__(self) -> Iterator[Rule]:
        return iter(list(self._rules))
