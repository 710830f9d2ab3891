"""Drift: a stored value that does not fit its class any more, and what an application may ask to be done about it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from ..errors import CheckpointDecodeError

__all__ = ["MAX_NOTED", "SHORT", "Drift", "Drifts", "OnDrift"]

OnDrift: TypeAlias = Literal["error", "warn"]

SHORT: Final = 80
"""Characters of a stored name that a message gives."""


MAX_NOTED: Final = 100
"""Drifts of one load that are told of: who writes to the store would otherwise choose how much is logged."""


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
        if len(self._noted) < MAX_NOTED:
            self._noted.setdefault(drift[:3], drift)

    def noted(self) -> list[Drift]:
        """What was gone on with, once for each class, kind and name; the first `MAX_NOTED` of them."""
        return list(self._noted.values())
