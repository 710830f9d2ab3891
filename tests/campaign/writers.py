"""Writers: each goes on with runs that others write too, in all the ways in which a program can, and says what was
acknowledged only after the save returned.

A writer is not told what an operator does: it meets it as a conflict, a fork, a checkpoint that is gone. Errors of a
store that could not be reached are met as a program would: the same save again, or on without it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Literal

from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointConflictError,
    CheckpointNotFoundError,
    EventCheckpointStorage,
    RunCheckpointStorage,
)
from eventckpt.errors import StoreLockedError, StoreUnavailableError

from .book import EXECUTION, acknowledgement
from .checkpoints import RUNS, WORKFLOWS, made, what_is_wrong_with
from .stores import Noting

__all__ = ["OUT_OF_REACH", "Writer"]

OUT_OF_REACH: Final = (StoreLockedError, StoreUnavailableError)
"""What a writer may be told while a store has its troubles."""

_TRIES: Final = 4
_WAYS: Final = ("takes a turn", "goes on", "goes on", "supersedes", "again", "resumes", "begins")
_KINDS: Final = ("running", "running", "waiting", "done", "open")


class Writer:
    """One execution after another over one storage.

    Args:
        store: where to.
        name: of this writer, unlike any other's: ids of checkpoints and executions begin with it.
        dice: what it does.
        on_conflict: as of the storage.
        bound: whether it binds runs; else it goes by lineages.
        large: how often a checkpoint is large, as a share.
    """

    def __init__(
        self,
        store: Noting,
        name: str,
        dice: random.Random,
        *,
        on_conflict: Literal["fork", "raise"] = "fork",
        bound: bool = True,
        large: float = 0.01,
    ) -> None:
        self.storage = EventCheckpointStorage(store, on_conflict=on_conflict, actor=name)
        self.name = name
        self._store = store
        self._dice = dice
        self._bound = bound
        self._large = large
        self._workflow = WORKFLOWS[0]
        self._through: EventCheckpointStorage | RunCheckpointStorage = self.storage
        self._count = self._executions = 0
        self._last: WorkflowCheckpoint | None = None
        self._own: list[WorkflowCheckpoint] = []
        self._handle()

    async def turn(self) -> None:
        """One step of an execution, or the first of another."""
        if self._dice.random() < 0.1:
            self._handle()
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "takes a turn": self._takes_a_turn,
            "goes on": self._goes_on,
            "supersedes": self._supersedes,
            "again": self._again,
            "resumes": self._resumes,
            "begins": self._begins,
        }
        way = self._dice.choice(_WAYS)
        try:
            await ways[way]()
        except OUT_OF_REACH:
            return
        except Exception as error:
            self._wrong(f"{way}: {type(error).__name__}: {error}")

    # Ways

    async def _takes_a_turn(self) -> None:
        """As a chat does: read the newest, go on from it."""
        latest = await self._through.get_latest(workflow_name=self._workflow)
        self._begins_to_go_on()
        if latest is not None:
            self._look_at(latest)
            if isinstance(self._through, RunCheckpointStorage):
                self._tell_of_read(self._through, latest)
        await self._save(self._new(latest.checkpoint_id if latest else None))

    async def _goes_on(self) -> None:
        await self._save(self._new(self._last.checkpoint_id if self._last else None))

    async def _supersedes(self) -> None:
        if self._last is not None:
            await self._save(self._made(self._last.checkpoint_id, self._version(self._last) + 1, self._last))

    async def _again(self) -> None:
        if self._last is not None:
            await self._save(self._last)

    async def _resumes(self) -> None:
        """Go back to one of this writer's own, and on from there."""
        if not self._own:
            return
        wanted = self._dice.choice(self._own[-20:]).checkpoint_id
        try:
            loaded = await self._through.load(wanted)
        except CheckpointNotFoundError:  # whether that is right is held against the book by the readers
            return
        self._begins_to_go_on()
        self._look_at(loaded)
        if loaded.workflow_name == self._workflow:
            await self._save(self._new(loaded.checkpoint_id))

    async def _begins(self) -> None:
        """A run id used again, and nothing read."""
        self._handle()
        await self._save(self._new(None))

    # Saves

    async def _save(self, checkpoint: WorkflowCheckpoint) -> None:
        """Save, again where it fails or is given up, or else go on without it."""
        EXECUTION.set(f"{self.name}/{self._executions}")
        for _ in range(_TRIES):
            try:
                saved = await self._tried(checkpoint)
            except CheckpointConflictError:
                await self._through.get_latest(workflow_name=self._workflow)
                self._begins_to_go_on()
                self._last = None
                return
            except OUT_OF_REACH:
                saved = False
            if saved:
                self._store.take(
                    acknowledgement(
                        checkpoint.workflow_name, checkpoint.checkpoint_id, self._version(checkpoint), self._store.name
                    )
                )
                self._last = checkpoint
                self._own.append(checkpoint)
                return
            if self._dice.random() < 0.3:
                return

    async def _tried(self, checkpoint: WorkflowCheckpoint) -> bool:
        """Whether the save returned; now and then it is cancelled, wherever it is."""
        if self._dice.random() > 0.15:
            await self._through.save(checkpoint)
            return True
        saving = asyncio.ensure_future(self._through.save(checkpoint))
        if self._dice.random() < 0.5:
            for _ in range(self._dice.randrange(12)):
                await asyncio.sleep(0)
        else:
            await asyncio.wait([saving], timeout=self._dice.uniform(0, 0.02))
        saving.cancel()
        await asyncio.wait([saving])
        if saving.cancelled():
            return False
        saving.result()
        return True

    # What it knows

    def _handle(self) -> None:
        """Go on elsewhere: with a new handle on one of the runs, or along the last lineage."""
        self._begins_to_go_on()
        self._last = None
        self._workflow = self._dice.choice(WORKFLOWS)
        if self._bound:
            self._through = self.storage.for_run(self._dice.choice(RUNS), workflow_name=self._workflow)

    def _begins_to_go_on(self) -> None:
        self._executions += 1
        EXECUTION.set(f"{self.name}/{self._executions}")

    def _new(self, parent: str | None) -> WorkflowCheckpoint:
        self._count += 1
        return self._made(f"{self.name}-{self._count:04}", 1, parent)

    def _made(self, checkpoint_id: str, version: int, after: WorkflowCheckpoint | str | None) -> WorkflowCheckpoint:
        parent = after.previous_checkpoint_id if isinstance(after, WorkflowCheckpoint) else after
        kind, large = self._dice.choice(_KINDS), self._dice.random() < self._large
        return made(self._workflow, checkpoint_id, version, parent, kind=kind, large=large)

    @staticmethod
    def _version(checkpoint: WorkflowCheckpoint) -> int:
        return checkpoint.iteration_count

    def _tell_of_read(self, handle: RunCheckpointStorage, latest: WorkflowCheckpoint) -> None:
        self._store.take(
            {
                "what": "reads",
                "execution": f"{self.name}/{self._executions}",
                "run": [self._workflow, handle.run_id],
                "checkpoint_id": latest.checkpoint_id,
            }
        )

    def _look_at(self, checkpoint: WorkflowCheckpoint) -> None:
        if wrong := what_is_wrong_with(checkpoint):
            self._wrong(wrong)

    def _wrong(self, said: str) -> None:
        self._store.take({"what": "wrong", "said": f"writer {self.name}: {said}"})
