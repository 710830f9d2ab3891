"""Whether each checkpoint that anything saves would come back the same: seen while it is saved, with the codec.

`pytest --round-trips` watches our storages in this project's suites, and in the processes that they start (samples,
commands). Not those of the framework, which some tests give what nobody should store. `tests.framework_tests` watches
these, in the framework's own tests.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointCodec,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
    EventCheckpointStorage,
    RunCheckpointStorage,
)
from tests.fidelity import assert_same

if TYPE_CHECKING:  # a sample in a process of its own has no use for it
    import pytest

LOG, ROOT = "EVENTCKPT_ROUND_TRIPS", "EVENTCKPT_ROUND_TRIPS_ROOT"
"""In the environment, so that processes started by a test know them: the file with a line for each checkpoint, and the
folder whose own types are allowed, since it is their values that count here."""

NOT_EQUAL = "not equal"


class RoundTrips:
    """A pytest plugin that prints at the end how many checkpoints were saved, and which would not come back equal."""

    def __init__(self, log: Path, root: Path) -> None:
        self._log = log
        os.environ |= {LOG: str(log), ROOT: str(root)}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        seen = self.seen()
        troubles = Counter(why for why in seen if why)
        terminalreporter.section("round trips")
        for why, times in troubles.most_common():
            terminalreporter.line(f"{times} x {why}")
        terminalreporter.line(f"{len(seen)} checkpoints saved, {len(seen) - troubles.total()} of them come back equal")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.failed():
            session.exitstatus = 1

    def seen(self) -> list[str | None]:
        """For each checkpoint, why it would not come back equal, if so."""
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def failed(self) -> bool:
        """Whether nothing was seen, or something came back as another value. What is refused is listed, no more."""
        seen = self.seen()
        return not seen or any(why.startswith(NOT_EQUAL) for why in seen if why)


def watch_this_project(folder: Path) -> RoundTrips:
    """The plugin for our own suites, and for the processes that they start. What it writes down goes to `folder`."""
    watch(EventCheckpointStorage, RunCheckpointStorage)
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(here / "elsewhere"), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return RoundTrips(folder / "round-trips", here.parent)


def watch(*storages: type[Any]) -> None:
    """Write a line for each checkpoint that one of these classes saves: null, or why it would not come back equal."""
    for cls in dict.fromkeys(base for storage in storages for base in storage.__mro__ if "save" in vars(base)):
        if not getattr(cls, "_is_protocol", False):
            cls.save = _watched(cls.save)


def _watched(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    async def watched(self: Any, checkpoint: WorkflowCheckpoint) -> Any:
        why = trouble(checkpoint)  # now: the workflow may go on changing it
        saved = await save(self, checkpoint)
        _note(why)
        return saved

    return watched


def _note(why: str | None) -> None:
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"{json.dumps(why)}\n")


def trouble(checkpoint: WorkflowCheckpoint) -> str | None:
    """Why a checkpoint would not come back equal, if so."""
    try:
        back = _back(checkpoint)
    except (CheckpointEncodeError, CheckpointDecodeError, CheckpointTypeNotAllowedError) as error:
        return f"refused: {error.args[0]}"
    difference = _difference(checkpoint, back)
    if difference and _difference(copy.deepcopy(checkpoint), back):  # a class may make something else of its copies
        return f"{NOT_EQUAL}: {difference}"
    return None


def _difference(left: WorkflowCheckpoint, right: WorkflowCheckpoint) -> str | None:
    try:
        assert_same(left, right)
    except AssertionError as error:
        return str(error.args[0]).splitlines()[0][:300]
    return None


_codecs = [CheckpointCodec()]
_allowed: set[str] = set()


def _back(checkpoint: WorkflowCheckpoint) -> WorkflowCheckpoint:
    while True:
        try:
            return _codecs[-1].decode(_codecs[-1].encode(checkpoint))
        except CheckpointTypeNotAllowedError as error:
            if error.type_key in _allowed or not _is_theirs(error.type_key):
                raise
            _allowed.add(error.type_key)
            _codecs[:] = [CheckpointCodec(_allowed)]


def _is_theirs(key: str) -> bool:
    file = getattr(sys.modules.get(key.partition(":")[0]), "__file__", None)
    if file is None:
        return False
    path = Path(file).resolve()
    return path.is_relative_to(Path(os.environ[ROOT]).resolve()) and "site-packages" not in path.parts
