"""The end of an `async with`: what went wrong inside of it is what the caller must hear of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from .log import logger_of
from .text import safe

__all__ = ["close_after"]

logger: Final = logger_of("eventckpt")


async def close_after(error: BaseException | None, close: Callable[[], Awaitable[None]]) -> None:
    """Close what the body of an `async with` used. `error` is what the body raised, if it did.

    A failure to close is raised where the body went well. Where it did not, the failure is a note on the body's error,
    which it must not replace, and a line in the log. A cancellation is no failure to close: it is always raised.
    """
    try:
        await close()
    except Exception as failure:
        if error is None:
            raise
        if failure is error:  # what ended the body is what there was to say
            return
        error.add_note(f"Closing failed too: {safe(type(failure).__name__)}: {safe(failure)}")
        logger.warning("Closing after %s failed too: %s: %s", type(error).__name__, type(failure).__name__, failure)
