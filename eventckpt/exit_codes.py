"""What the exit codes mean: the same for every command of every program, so that a script needs to know them once."""

from __future__ import annotations

from typing import Final

from agent_framework import WorkflowCheckpointException
from agent_framework.exceptions import AgentFrameworkException

from .errors import (
    AmbiguousNameError,
    CheckpointDecodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
    RunNotFoundError,
)
from .location import LocationError

__all__ = ["FOUND_WRONG", "INTERRUPTED", "MEANINGS", "NO_SUCH_NAME", "STATE", "STORE", "USAGE", "exit_code"]

FOUND_WRONG: Final = 1
USAGE: Final = 2
NO_SUCH_NAME: Final = 3
STORE: Final = 4
STATE: Final = 5
INTERRUPTED: Final = 130  # as a shell says it of SIGINT

MEANINGS: Final = (
    "Exit codes: 0 all is well; 1 something was found wrong, or left out; 2 the command line or a setting is wrong; "
    "3 no such run or checkpoint, or several; 4 the store cannot be read or written; 5 a state cannot be read."
)
"""For the help of each program."""

_CODES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (LocationError, USAGE),
    (AmbiguousNameError, NO_SUCH_NAME),
    (RunNotFoundError, NO_SUCH_NAME),
    (CheckpointNotFoundError, NO_SUCH_NAME),
    (CheckpointDecodeError, STATE),
    (CheckpointTypeNotAllowedError, STATE),
    (CheckpointStoreError, STORE),
    (WorkflowCheckpointException, FOUND_WRONG),
    (AgentFrameworkException, USAGE),  # a setting that is missing
)
"""The first that an error is an instance of counts."""


def exit_code(error: BaseException) -> int | None:
    """The exit code of a command that ended in this error; None of one that is a fault of the program, and is shown
    with its traceback."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)
