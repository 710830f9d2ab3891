"""Drift: a stored value that does not fit its class any more, and what an application may ask to be done about it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from ..errors import CheckpointDecodeError

__all__ = ["MAX_TOLD", "Drift", "Drifts", "OnDrift"]

OnDrift: TypeAlias = Literal["error", "warn"]

MAX_TOLD: Final = 100
"""Different drifts of one checkpoint that are each told of: the names in it are whatever was stored, and each is a line
of a log. Those beyond are told of together, by class and kind."""


class Drift(NamedTuple):
    """A way in which a class has changed such that a stored value does not fit it."""

    type: str
    """The key of the class."""
    kind: Literal["added", "removed", "class", "member"]
    """A required field was added; a field was removed; it is another kind of class; a member of an enum was renamed."""
    name: str
    """Of the field or the member; of a class, what it was."""
    text: str
    """What happened, and what to do."""


class Drifts:
    """The drifts of one load: whether it goes on with them, and which those were."""

    def __init__(self, on_drift: OnDrift) -> None:
        self._on_drift = on_drift
        self._noted: dict[tuple[str, str, str], Drift] = {}

    def note(self, drift: Drift, *, even_so: bool = False) -> None:
        """Go on with a drift, or not.

        Args:
            drift: what to go on with.
            even_so: also where drift is an error.

        Raises:
            CheckpointDecodeError: it is an error.
        """
        if self._on_drift == "error" and not even_so:
            raise CheckpointDecodeError(drift.text)
        key = drift[:3]
        if key not in self._noted and len(self._noted) >= MAX_TOLD:
            key = (drift.type, drift.kind, "")
            more = "More of this class is like that, and is not named."
            drift = drift._replace(name="", text=f"{drift.text} {more}")
        self._noted.setdefault(key, drift)

    def noted(self) -> list[Drift]:
        """What was gone on with, once for each class, kind and name, up to `MAX_TOLD`."""
        return list(self._noted.values())
