"""How work on a run ended, said by itself: nothing where others go on with the run, whatever the work came to."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, cast

from ..errors import AnswerMissingError, CheckpointConflictError, ClaimLostError, RunClaimedError, RunNotFoundError
from ..events import MAX_REASON
from ..log import logger_of
from ..text import safe, shortened
from .annotations import Change
from .load import Reader
from .memory import Bound
from .save import Writer

__all__ = ["done", "failed"]

logger: Final = logger_of("eventckpt")

_ENDED: Final = "How work on run %r ended is not annotated: %s"


async def failed(writer: Writer, own: Bound, workflow_name: str | None, error: Exception, *, message: bool) -> None:
    """Say that work failed by `error`, with what that says, if asked for. It is about to be raised: a failure to say so
    is logged.

    Args:
        writer, own, workflow_name: of the handle that the work went through.
        error: what it raised.
        message: whether to keep what that says.
    """
    if _is_no_failure(error):
        return
    try:
        await _annotate(writer, own, workflow_name, Change("failed", _place_of(error, message=message), {}, None))
    except Exception as failure:  # without its context, which is the error, and says what is of anybody's data
        logger.error(_ENDED, own.run_id, _place_of(failure, message=True))


async def done(writer: Writer, reader: Reader, own: Bound, workflow_name: str | None) -> None:
    """Say that work ended, unless the run waits for an answer, or nobody knows whether it does.

    Args:
        writer, reader, own, workflow_name: of the handle that the work went through.

    Raises:
        CheckpointStoreError: the engine failed.
    """
    if workflow_name is not None and not own.is_others:
        if own.refused is not None:
            logger.warning(_ENDED, own.run_id, "its last checkpoint was not saved, and would tell what it asks")
            return
        latest, _ = await reader.newest_live(workflow_name, own.execution(workflow_name).stream.run_id)
        if latest is not None and latest.summary.pending_requests:
            return
    await _annotate(writer, own, workflow_name, Change("done", None, {}, None))


async def _annotate(writer: Writer, own: Bound, workflow_name: str | None, change: Change) -> None:
    if own.is_others:
        return
    if workflow_name is None:
        logger.warning(_ENDED, own.run_id, "no checkpoint told its workflow")
        return
    with suppress(RunNotFoundError, ClaimLostError):
        await writer.annotate(change, own.execution(workflow_name), own, as_holder=True)


def _is_no_failure(error: Exception) -> bool:
    """Whether an error, or one of its group, says that others go on with the run, or that it waits as before."""
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return any(map(_is_no_failure, group.exceptions))
    return isinstance(error, (AnswerMissingError, CheckpointConflictError, RunClaimedError))


def _place_of(error: Exception, *, message: bool) -> str:
    """What an exception is and where it was raised, without the path of any file: `ValueError at shop.workflows:charge,
    line 41`; and what it says, if asked for."""
    text = type(error).__qualname__
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        frame = trace.tb_frame
        module = cast("object", frame.f_globals.get("__name__"))
        text += f" at {module}:{frame.f_code.co_qualname}, line {trace.tb_lineno}"
    return shortened(safe(f"{text}: {safe(error)}" if message else text), MAX_REASON)
