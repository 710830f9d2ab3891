"""Failures that last: no attempt later on does better, so that what runs in the background ends instead of trying."""

from __future__ import annotations

from eventckpt.errors import StoreReplacedError

__all__ = ["raise_if_lasting"]


def raise_if_lasting(error: Exception) -> None:
    """Raises `error` where another attempt is of no use. To be asked wherever a failure would be tried again."""
    if isinstance(error, StoreReplacedError):
        raise error
