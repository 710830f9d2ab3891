"""What a server is told to be: which rules of the service it keeps, and what goes wrong with it now and then.

Rules are on unless switched off: a server without one of them is kinder than the service. What happens to an account
only at times is off until it is switched on, as are the kinds of account that most are not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from .consistency import LEVELS

ENVIRONMENT: Final = "COSMOS_EMULATOR_SWITCHES"
"""The variable that holds switches for servers which are not told any, as `lag=0.3,late=0.2,sessions=off`."""


@dataclass(frozen=True)
class Switches:
    """The switches of one server."""

    # ---- rules
    sessions: bool = True
    """A session token that is ahead of its partition, or of another container, is refused: 404/1002."""
    key_versions: bool = True
    """In a partition key of version 1, or of none, the first 101 bytes count."""
    sizes: bool = True
    """A logical partition that is full refuses writes: 403/1014."""
    charges: bool = True
    """Request units are counted; without, everything costs nothing."""
    refusals: bool = True
    """What the server cannot do is refused by name (501); without, headers that ask for more are passed over."""

    # ---- what happens at times
    lag: float = 0.0
    """The share of reads that a replica answers which is `lag_seconds` behind, unless a session token forbids it."""
    lag_seconds: float = 0.2
    clients_wait: bool = False
    """A client that asks for the account begins a moment after what was written before: no replica lags by that."""
    empty_pages: float = 0.0
    """The share of change feed pages that come with 200 and nothing in them, though there is more."""
    late: float = 0.0
    """Seconds after which a new database, container or offer is there for those who ask: 404/1003 before."""
    throttling: int = 0
    """Request units a second that each physical partition serves: 429 beyond. 0: any number."""
    logical_partition_bytes: int = 20 * 1024**3
    """What a logical partition holds; see `sizes`."""
    seed: int = 0
    """Of the draws. The same draws come again where the same requests come in the same order."""

    # ---- kinds of account
    serverless: bool = False
    """Throughput is not set by anyone: a header that does is refused (400)."""
    regions: int = 1
    """Regions that each write is charged for."""
    consistency: str = "Session"
    """The account's level; a request may ask for less."""

    def __post_init__(self) -> None:
        """Refuses values that mean nothing, which would make a server kinder than it was told to be."""
        for name in ("lag", "empty_pages"):
            _check(name, 0 <= getattr(self, name) <= 1, "a share from 0 to 1", self)
        for name in ("lag_seconds", "late"):
            seconds = getattr(self, name)
            _check(name, math.isfinite(seconds) and seconds >= 0, "a number of seconds, 0 or more", self)
        for name, least in (("throttling", 0), ("logical_partition_bytes", 0), ("regions", 1)):
            _check(name, getattr(self, name) >= least, f"a number, {least} or more", self)
        _check("consistency", self.consistency in LEVELS, f"one of {', '.join(LEVELS)}", self)
        if self.throttling and not self.charges:
            raise ValueError("The switches throttling and charges=off exclude each other: nothing costs anything then.")

    @classmethod
    def off(cls) -> Switches:
        """No rule beyond the protocol, and nothing that goes wrong."""
        rules: dict[str, Any] = {each.name: False for each in fields(cls) if each.default is True}
        return cls(**rules)

    @classmethod
    def of(cls, text: str) -> Switches:
        """Switches as text: `name=value` or `name`, with commas between them; `on` and `off` for those that are true
        or false."""
        found: dict[str, Any] = {}
        kinds = {each.name: type(each.default) for each in fields(cls)}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            name, value = name.strip().replace("-", "_"), value.strip()
            if name not in kinds:
                raise ValueError(f"There is no switch {name!r}; there are {', '.join(kinds)}.")
            found[name] = _value(kinds[name], name, value)
        return replace(cls(), **found)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Switches:
        """What `ENVIRONMENT` says; else the rules, and nothing that goes wrong."""
        return cls.of(environment.get(ENVIRONMENT, ""))

    def text(self) -> str:
        """What `of` makes these of: the switches that are not as usual, and always the seed, so that a run can be
        repeated."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        shown = [each.name for each in fields(self) if values[each.name] != each.default or each.name == "seed"]
        return ",".join(f"{name.replace('_', '-')}={_shown(values[name])}" for name in shown)


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _value(kind: type, name: str, text: str) -> Any:
    if kind is bool:
        if text not in {"", "on", "off"}:
            raise ValueError(f"The switch {name} is on or off, not {text!r}.")
        return text != "off"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"The switch {name} is a number, not {text!r}.") from None


def _check(name: str, right: bool, what: str, switches: Switches) -> None:
    if not right:
        raise ValueError(f"The switch {name} is {what}, not {getattr(switches, name)!r}.")
