"""The steps that are played with claims: servers that claim a run, save, are frozen, and lose answers, in any order.

Each server has a clock of its own, and no two run alike: a claim may be taken over from a holder whose own clock says
that it lasts. What must hold all the same is what the log decides: after a claim was taken, no save of an earlier one
is acknowledged. Whether one is given or refused follows from the document, and from how long a server has seen it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from agent_framework import WorkflowCheckpoint
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from eventckpt import (
    CheckpointAudit,
    CheckpointConflictError,
    CheckpointEvent,
    ClaimLostError,
    RunCheckpointStorage,
    RunClaimedError,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.stores import AuditStore
from eventckpt.stores.documents import Document

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint
from .claim_door import Door
from .claimants import RUN, Holding, Server, begun, held, log_of
from .playing import Machine

T = TypeVar("T")

STREAM = StreamId(WORKFLOW, RUN)
LOST = ["append", "create document", "replace document", "delete document"]


class Player(Server):
    """A server, and what is known of it."""

    def __init__(self, engine: Engine, name: str, on_conflict: str) -> None:
        self.door = Door(engine.open())
        super().__init__(engine, name, self.door, on_conflict=on_conflict)
        self.holding: Holding | None = None
        self.kept = self.run()
        """A handle without a claim."""
        self.last: dict[RunCheckpointStorage, WorkflowCheckpoint] = {}
        """What was saved or read last, by handle."""
        self.is_frozen = False
        self.saw: tuple[str, float] | None = None
        """The document that kept it from a claim, and since when it has known that one."""
        self.changed = (0.0, 0.0)
        """Its time before and after the step in which the document was written last."""
        self.may_miss_renewals = False

    def __str__(self) -> str:
        return self.name

    def knows_as_left(self, document: Document) -> bool:
        """Whether it must take the claim for one whose holder is gone."""
        etag, since = self.saw or ("", 0.0)
        return etag == document["_etag"] and self.clock.now - since >= document["lasts"]

    def may_know_as_left(self, document: Document) -> bool:
        return self.clock.now - self.changed[0] >= document["lasts"]

    def lasts(self, document: Document | None) -> bool:
        """Whether the claim that it holds is beyond doubt by its own clock and by the document."""
        if document is None or document["owner"] != self.name or self.may_miss_renewals:
            return False
        return self.clock.now < self.changed[0] + document["lasts"]


class ClaimMachine(Machine):
    """The steps."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = type(self).new_engine()
        store = self.engine.open()
        assert isinstance(store, AuditStore)
        self.store = store
        self.audit = CheckpointAudit(store)
        self.players: list[Player] = []
        self.acknowledged: set[tuple[str, str]] = set()
        """Run and id."""
        self.removed: set[tuple[str, str]] = set()
        self.etag = ""
        self.names = 0

    def play(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(self._step(doing), context=copy_context())

    async def _step(self, doing: Coroutine[Any, Any, T]) -> T:
        for _ in range(5):
            await asyncio.sleep(0)  # what was under way before the step is over
        before = {player: player.clock.now for player in self.players}
        result = await doing
        document = await self._document()
        if document is not None and document["_etag"] != self.etag:
            self.etag = document["_etag"]
            for player in self.players:
                player.changed = (before.get(player, player.clock.now), player.clock.now)
        return result

    @initialize()
    def start(self) -> None:
        self.play(begun(self.engine))
        self.players = [
            Player(self.engine, name, on_conflict)
            for name, on_conflict in (("ann", "fork"), ("bob", "fork"), ("carl", "raise"))
        ]

    def teardown(self) -> None:
        self.runner.run(self._end(), context=copy_context())

    async def _end(self) -> None:
        try:
            for player in self.players:
                if player.holding is not None:
                    await self._ended(player)
            self.engine.settle()
            async for verdict in self.audit.verify_all(decode=True):
                assert not verdict.problems, verdict
        finally:
            await self.engine.close()

    # What is known

    async def _document(self) -> Document | None:
        self.engine.settle()
        documents = await self.store.document_store().list_documents("claim-")
        assert len(documents) <= 1
        return documents[0] if documents else None

    def _awake(self, *, holds: bool | None = None) -> list[Player]:
        """Who is not frozen, and holds a claim as far as it knows, or does not."""
        return [
            player for player in self.players if not player.is_frozen and holds in (None, player.holding is not None)
        ]

    def _someone(self, data: st.DataObject, *, holds: bool | None = None) -> Player:
        return data.draw(st.sampled_from(self._awake(holds=holds)), "who")

    def _name(self) -> str:
        self.names += 1
        return f"c{self.names:03}"

    @contextmanager
    def _answers_may_be_lost(self, player: Player) -> Generator[None, None, None]:
        were_to_be = bool(player.door.loses)
        try:
            yield
        except StoreUnavailableError:
            assert were_to_be

    # Claims

    @precondition(lambda self: self._awake(holds=False))
    @rule(data=st.data(), ttl=st.sampled_from([30, 60]), wait=st.sampled_from([0, 0, 20, 90]))
    def takes(self, data: st.DataObject, ttl: int, wait: int) -> None:
        player = self._someone(data, holds=False)
        self.play(self._take(player, ttl, wait))

    async def _take(self, player: Player, ttl: int, wait: int) -> None:
        run, document = await self._resumed(player), await self._document()
        began = player.clock.now
        taking = asyncio.create_task(held(run, ttl=ttl, wait=wait))
        if wait:
            await player.clock.until(taking.done)
        [result] = await asyncio.gather(taking, return_exceptions=True)
        await self._took(player, result, document, began)

    async def _took(
        self, player: Player, result: Holding | BaseException, document: Document | None, began: float
    ) -> None:
        if isinstance(result, Holding):
            assert document is None or player.may_know_as_left(document), "it was held"
            assert result.claim.epoch == max(each.seq for each in await log_of(self.engine) if each.is_claim)
            player.holding, player.may_miss_renewals = result, "replace document" in player.door.loses
        elif isinstance(result, RunClaimedError):
            assert document is not None, "nobody holds it"
            assert (result.owner, result.expires_at) == (document["owner"], document["expires_at"])
            assert not player.knows_as_left(document)
            if player.saw is None or player.saw[0] != document["_etag"]:
                player.saw = (document["_etag"], began)
        else:
            assert isinstance(result, StoreUnavailableError), result

    @precondition(lambda self: len(self._awake(holds=False)) > 1)
    @rule()
    def all_take_over_at_once(self) -> None:
        """Whoever has it does not hear of it."""
        self.play(self._crowd(self._awake(holds=False)))

    async def _crowd(self, players: list[Player]) -> None:
        for player in players:
            player.door.loses.clear()
            if (document := await self._document()) is not None:
                await self._take(player, 60, 0)
                if player.holding is not None:
                    return  # it knew already
                player.clock.now += document["lasts"]
        runs = [await self._resumed(player) for player in players]
        results = await asyncio.gather(*(held(run, ttl=60) for run in runs), return_exceptions=True)
        for player, result in zip(players, results, strict=True):
            player.may_miss_renewals = False
            if isinstance(result, Holding):
                player.holding = result
            else:
                assert isinstance(result, RunClaimedError), result
        [winner] = [player for player in players if player.holding is not None]
        assert {result.owner for result in results if isinstance(result, RunClaimedError)} <= {winner.name, ""}

    @precondition(lambda self: self._awake(holds=True))
    @rule(data=st.data())
    def renews(self, data: st.DataObject) -> None:
        player = self._someone(data, holds=True)
        self.play(self._renewed(player))

    async def _renewed(self, player: Player) -> None:
        holding, answered = player.holding, player.door.answered
        assert holding is not None
        renewals = answered["replace document"]
        await player.clock.until(lambda: answered["replace document"] > renewals or holding.was_cancelled, at_most=200)

    @precondition(lambda self: self._awake(holds=True))
    @rule(data=st.data())
    def releases(self, data: st.DataObject) -> None:
        player = self._someone(data, holds=True)
        self.play(self._ended(player))

    async def _ended(self, player: Player) -> None:
        holding, document = player.holding, await self._document()
        assert holding is not None
        is_loss_due = document is not None and document["owner"] != player.name and not player.door.loses
        lasts = player.lasts(document)
        error = await holding.ended()
        player.holding = None
        assert error is None or isinstance(error, ClaimLostError)
        assert isinstance(error, ClaimLostError) or not is_loss_due
        if error is not None:
            assert not lasts or await self._lost_by_the_log(holding)

    async def _lost_by_the_log(self, holding: Holding) -> bool:
        """Whether a later claim is in the log, or may have been before something was removed."""
        since = [each for each in await log_of(self.engine) if each.seq > holding.claim.epoch]
        is_whole = not since or len(since) == since[-1].seq - holding.claim.epoch
        return not is_whole or any(each.is_claim for each in since)

    # Time

    @rule(data=st.data(), seconds=st.sampled_from([1, 30, 61]))
    def time_goes_by(self, data: st.DataObject, seconds: int) -> None:
        """For one server alone."""
        player = data.draw(st.sampled_from(self.players), "who")
        if player.is_frozen or player.holding is None:
            player.clock.now += seconds
        else:
            self.play(player.clock.passes(seconds))

    @precondition(lambda self: self._awake(holds=True))
    @rule(data=st.data())
    def freezes(self, data: st.DataObject) -> None:
        player = self._someone(data, holds=True)
        player.is_frozen = True

    @precondition(lambda self: any(player.is_frozen for player in self.players))
    @rule(data=st.data(), seconds=st.sampled_from([0, 61]), renews_first=st.booleans(), fresh=st.booleans())
    def thaws(self, data: st.DataObject, seconds: int, renews_first: bool, fresh: bool) -> None:
        player = data.draw(st.sampled_from([player for player in self.players if player.is_frozen]), "who")
        player.is_frozen = False
        player.clock.now += seconds
        if renews_first:
            self.play(player.clock.passes(1))
        self.play(self._save_held(player, self._name(), fresh=fresh))

    # Saves

    async def _resumed(self, player: Player, run: RunCheckpointStorage | None = None) -> RunCheckpointStorage:
        run = run or player.run()
        self.engine.settle()
        latest = await run.get_latest(workflow_name=WORKFLOW)
        player.last.pop(run, None)
        if latest is not None:
            player.last[run] = latest
        return run

    @precondition(lambda self: self._awake(holds=True))
    @rule(data=st.data(), fresh=st.booleans())
    def saves_with_its_claim(self, data: st.DataObject, fresh: bool) -> None:
        player = self._someone(data, holds=True)
        self.play(self._save_held(player, self._name(), fresh=fresh))

    async def _save_held(self, player: Player, name: str, *, fresh: bool) -> None:
        holding, document = player.holding, await self._document()
        assert holding is not None
        if holding.was_cancelled:
            await self._ended(player)
            return
        run, was_forked = holding.run, holding.run.forked_to is not None and not fresh
        if fresh:
            await self._resumed(player, run)
        later = any(each.is_claim and each.seq > holding.claim.epoch for each in await log_of(self.engine))
        lasts = player.lasts(document)
        try:
            is_saved = await self._save(player, run, name)
        except ClaimLostError:
            assert not lasts or await self._lost_by_the_log(holding)
            await self._ended(player)
            return
        if was_forked or is_saved is None:
            return
        assert not later, "a later claim was taken"
        assert is_saved or not fresh, "nobody else may have gone on"

    async def _save(self, player: Player, run: RunCheckpointStorage, name: str) -> bool | None:
        """Whether it is in the run; None: nobody knows."""
        following = checkpoint(player.last.get(run), checkpoint_id=name)
        with self._answers_may_be_lost(player):
            try:
                await run.save(following)
            except CheckpointConflictError as error:
                if isinstance(error, ClaimLostError):
                    raise
                return False
            self.acknowledged.add((run.forked_to or RUN, name))
            player.last[run] = following
            return run.forked_to is None
        return None

    @precondition(lambda self: self._awake())
    @rule(data=st.data(), new=st.booleans())
    def saves_without_a_claim(self, data: st.DataObject, new: bool) -> None:
        """Having read where the run stands."""
        player = self._someone(data)
        if new:
            player.kept = player.run()
        self.play(self._save_without(player, self._name()))

    async def _save_without(self, player: Player, name: str) -> None:
        document, head = await self._document(), (await log_of(self.engine))[-1]
        is_saved = await self._save(player, await self._resumed(player, player.kept), name)
        if is_saved is None:
            return
        if document is None or not head.claim or player.knows_as_left(document):
            assert is_saved, "nobody holds it"
        elif not player.may_know_as_left(document):
            assert not is_saved, f"{document['owner']} holds it"
        if head.claim and document is not None and (player.saw is None or player.saw[0] != document["_etag"]):
            player.saw = (document["_etag"], player.clock.now)

    @precondition(lambda self: self._awake())
    @rule(data=st.data())
    def saves_as_it_was_read_long_ago(self, data: st.DataObject) -> None:
        player = self._someone(data)
        self.play(self._save(player, player.kept, self._name()))

    # What else happens to a run

    @precondition(lambda self: self._awake())
    @rule(data=st.data())
    def annotates_or_deletes(self, data: st.DataObject) -> None:
        """Never a conflict, and never one for a holder."""
        player = self._someone(data)
        runs = [player.run(), player.kept, *([player.holding.run] if player.holding else [])]
        run = data.draw(st.sampled_from(runs), "through")
        name = data.draw(st.sampled_from(["", "root", *(name for at, name in sorted(self.acknowledged))]), "what")
        self.play(self._annotate_or_delete(player, run, name))

    async def _annotate_or_delete(self, player: Player, run: RunCheckpointStorage, name: str) -> None:
        before = run.forked_to
        with self._answers_may_be_lost(player):
            await (run.delete(name) if name else run.annotate(tags={"last": self._name()}))
        assert run.forked_to == before

    @rule(data=st.data())
    def is_forked(self, data: st.DataObject) -> None:
        headers = [each for each in self.play(log_of(self.engine)) if each.type == "checkpoint"]
        origin = data.draw(st.sampled_from(headers), "origin")
        [event] = self.play(self.store.read(STREAM, origin.seq))
        self.play(self.audit.fork(event, f"fork-{self._name()}"))

    @rule(keep=st.integers(1, 2))
    def is_pruned(self, keep: int) -> None:
        self.play(self._prune(keep))

    async def _prune(self, keep: int) -> None:
        self.engine.settle()
        [plan] = [plan async for plan in self.audit.plan_prune([STREAM], keep=keep, force=True)]
        gone = {(RUN, each.checkpoint_id) for each in await log_of(self.engine) if each.seq in plan.seqs}
        if plan.seqs:
            await self.audit.prune(plan)
            self.removed |= gone

    @precondition(lambda self: self._awake())
    @rule(data=st.data(), what=st.sampled_from(LOST))
    def loses_the_next_answer(self, data: st.DataObject, what: str) -> None:
        player = self._someone(data)
        player.door.loses.add(what)
        player.may_miss_renewals |= what == "replace document"

    # What holds after each step

    @invariant()
    def one_holder_at_a_time_is_acknowledged(self) -> None:
        type(self).taken += 1
        if self.players:
            self.play(self._check())

    async def _check(self) -> None:
        in_force = 0
        for event in await log_of(self.engine):
            in_force = max(in_force, event.claim or 0)
            if event.type == "checkpoint":
                assert event.claim in (None, in_force), f"{event.checkpoint_id} is under the claim of {event.claim}"
        assert self.acknowledged <= {*await self._found(), *self.removed}

    async def _found(self) -> list[tuple[str, str]]:
        headers: list[CheckpointEvent] = [each async for each in self.store.workflow_headers(WORKFLOW)]
        return [(each.run_id, each.checkpoint_id) for each in headers if each.type == "checkpoint"]
