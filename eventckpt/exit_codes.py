"""How the commands of every program end, and what their exit codes mean: a script needs to know them once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from agent_framework import WorkflowCheckpointException
from agent_framework.exceptions import AgentFrameworkException

from .errors import (
    AmbiguousNameError,
    AnswerMissingError,
    CheckpointDecodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
    RequestNotPendingError,
    ResponseTypeError,
    RetentionPolicyError,
    RunClaimedError,
    RunNotFoundError,
)
from .location import ApplicationError, LocationError
from .text import described, safe

__all__ = [
    "FOUND_WRONG",
    "INTERRUPTED",
    "MEANINGS",
    "NO_SUCH_NAME",
    "STATE",
    "STORE",
    "TAKEN",
    "USAGE",
    "Failure",
    "ending",
    "exit_code",
    "nowhere",
    "printing",
    "saying",
    "without_extra",
]

FOUND_WRONG: Final = 1
USAGE: Final = 2
NO_SUCH_NAME: Final = 3
STORE: Final = 4
STATE: Final = 5
TAKEN: Final = 6
INTERRUPTED: Final = 130  # as a shell says it of SIGINT

MEANINGS: Final = (
    "Exit codes: 0 all is well; 1 something was found wrong, or left out; 2 the command line or a setting is wrong; "
    "3 no such run or checkpoint, or several; 4 the store cannot be read or written, or the application cannot be "
    "imported; 5 a state cannot be read; 6 the run does not wait for this answer, or somebody else has it."
)
"""For the help of each program."""

_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (ApplicationError, STORE),
    (LocationError, USAGE),
    (AmbiguousNameError, NO_SUCH_NAME),
    (RunNotFoundError, NO_SUCH_NAME),
    (ResponseTypeError, USAGE),
    (AnswerMissingError, USAGE),
    (RetentionPolicyError, USAGE),
    (RequestNotPendingError, TAKEN),
    (RunClaimedError, TAKEN),
    (CheckpointNotFoundError, NO_SUCH_NAME),
    (CheckpointDecodeError, STATE),
    (CheckpointTypeNotAllowedError, STATE),
    (CheckpointStoreError, STORE),
    (WorkflowCheckpointException, FOUND_WRONG),
    (AgentFrameworkException, USAGE),  # a setting that is missing
)
"""The first that an error is an instance of counts."""


class Failure(Exception):  # noqa: N818 - a way out with an exit code
    """Ends a command with an exit code and a sentence that says why.

    Args:
        code: one of the above.
        message: the sentence.
        about: the name of the option, or of the field of a form, that was not given as it has to be.
    """

    def __init__(self, code: int, message: str, *, about: str | None = None) -> None:
        super().__init__(message)
        self.code: int = code
        self.about: str | None = about.lstrip("-") if about is not None else None


def without_extra(program: str, extra: str, brings: Collection[str], error: ModuleNotFoundError) -> SystemExit:
    """The end of a program whose extra is not installed, in one sentence.

    Args:
        program: its name.
        extra: which one.
        brings: the packages that it brings.
        error: what was not found.

    Raises:
        ModuleNotFoundError: `error` is about something else.
    """
    if error.name is None or error.name.partition(".")[0] not in brings:
        raise error
    sys.stderr.write(f"{program}: it needs the {extra} extra ({error}): pip install '.[{extra}]' in a checkout.\n")
    return SystemExit(USAGE)


@contextmanager
def ending(tell: Callable[[int, BaseException], object]) -> Generator[None, None, None]:
    """Around the work of a command: what goes wrong in it ends the program with its exit code.

    Args:
        tell: called with the code and the error that the user is to be told of.

    Raises:
        SystemExit: something went wrong, or nobody reads what is printed any more.
    """
    try:
        yield
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is, where it was closed
            with printing():
                sys.stdout.flush()
    except BrokenPipeError:  # the reader of the pipe has seen enough
        sys.stdout = nowhere()
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        tell(code, error)
        raise SystemExit(code) from error
    except BaseException as error:  # commands end by a Failure: a SystemExit(0) would say that all is well
        what = described(error.code) if isinstance(error, SystemExit) else safe(error)
        text = f"Code of the application ended the program: {type(error).__name__}: {what or '-'}."
        tell(STORE, ApplicationError(text))
        raise SystemExit(STORE) from error


@contextmanager
def printing() -> Generator[None]:
    """Around what is printed.

    Raises:
        Failure: it cannot be written: a disk is full, for one.
        BrokenPipeError: nobody reads it any more.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = nowhere()
        raise Failure(STORE, f"What there is to print cannot be written: {safe(error)}.") from error


@contextmanager
def saying() -> Generator[None]:
    """Around what a program says of itself, before any command.

    Raises:
        SystemExit: it cannot be written, or nobody reads it any more.
    """
    try:
        with printing():
            yield
    except BrokenPipeError:
        sys.stdout = nowhere()
        raise SystemExit(0) from None
    except Failure as error:
        with suppress(OSError):
            sys.stderr.write(f"{error}\n")
        raise SystemExit(error.code) from None


def nowhere() -> TextIO:
    """An output in place of one that is closed, or takes no more, so that nothing writes into that on exiting."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


def exit_code(error: BaseException) -> int | None:
    """The exit code of a command that ended in this error; None of one that is a fault of the program, and is shown
    with its traceback."""
    if isinstance(error, Failure):
        return error.code
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)
