"""The steps that are played with claims: servers that claim a run, save, are frozen, and lose answers, in any order.

Each server has a clock of its own, and no two run alike: a claim may be taken over from a holder whose own clock says
that it lasts. What must hold all the same is what the log decides: after a claim was taken, no save of an earlier one
is acknowledged. Whether one is given or refused follows from the document, and from how long a server has seen it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
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
from .lost_store import Gate
from .playing import Machine

T = TypeVar("T")

STREAM = StreamId(WORKFLOW, RUN)
LOST = ["append", "create document", "replace document", "delete document"]


class Player(Server):
    """A server, and what is known of it."""

    def __init__(self, engine: Engine, name: str, on_conflict: str, gate: Gate) -> None:
        self.door = Door(engine.open(), gate)
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
        self.over_at = 0.0
        """Its time when whatever it last wrote of a claim has ended for certain."""
        self.may_be_over = False

    def __str__(self) -> str:
        return self.name

    async def rests(self) -> None:
        """Until nothing of it is under way."""
        for _ in range(10):
            await asyncio.sleep(0)
            await self.door.is_idle.wait()

    async def until(self, condition: Callable[[], bool], *, at_most: float = 200) -> None:
        """Time goes by for it. What is under way takes none."""
        end = self.clock.now + at_most
        while not condition() and self.clock.now < end:
            self.clock.advance(2)
            await self.rests()

    def knows_as_left(self, document: Document) -> bool:
        """Whether it must take the claim for one whose holder is gone."""
        etag, since = self.saw or ("", 0.0)
        return etag == document["_etag"] and self.clock.now - since >= document["lasts"]

    def may_know_as_left(self, document: Document) -> bool:
        return self.clock.now - self.changed[0] >= document["lasts"]

    def lasts(self, document: Document | None) -> bool:
        """Whether the claim that it holds is beyond doubt by its own clock and by the document."""
        if document is None or document["owner"] != self.name or self.may_be_over:
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
        self.seen: dict[int, CheckpointEvent] = {}
        """All that was ever in the run."""
        self.etag = ""
        self.names = 0

    def play(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(self._step(doing), context=copy_context())

    async def _step(self, doing: Coroutine[Any, Any, T]) -> T:
        before = {player: player.clock.now for player in self.players}
        result = await doing
        for player in self.players:
            await player.rests()  # a renewal belongs to the step in which it was sent
        document = await self._document()
        if document is not None and document["_etag"] != self.etag:
            self.etag = document["_etag"]
            for player in self.players:
                player.changed = (before.get(player, player.clock.now), player.clock.now)
                if player.name == document["owner"]:
                    player.over_at = player.clock.now + document["lasts"]
        self.seen |= {each.seq: each for each in await log_of(self.engine)}
        return result

    def _in_force(self) -> int:
        """The epoch of the claim that was in force at the head, by what took it and what was saved."""
        return next((each.claim or 0 for each in reversed(self.seen.values()) if each.is_claim or each.payload), 0)

    @initialize()
    def start(self) -> None:
        self.play(begun(self.engine))
        gate = Gate()
        self.players = [
            Player(self.engine, name, on_conflict, gate)
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
            await player.until(taking.done)
        [result] = await asyncio.gather(taking, return_exceptions=True)
        await self._took(player, result, document, began)

    async def _took(
        self, player: Player, result: Holding | BaseException, document: Document | None, began: float
    ) -> None:
        if isinstance(result, Holding):
            assert document is None or player.may_know_as_left(document), "it was held"
            assert result.claim.epoch == max(each.seq for each in await log_of(self.engine) if each.is_claim)
            player.holding, player.may_be_over = result, "replace document" in player.door.loses
        elif isinstance(result, RunClaimedError):
            assert document is not None, "nobody holds it"
            assert (result.owner, result.expires_at) == (document["owner"], document["expires_at"])
            assert not player.knows_as_left(document)
            if player.saw is None or player.saw[0] != document["_etag"]:
                player.saw = (document["_etag"], began)
        else:
            assert isinstance(result, StoreUnavailableError), result

    @precondition(lambda self: self._awake(holds=False))
    @rule(data=st.data())
    def take_over_at_once(self, data: st.DataObject) -> None:
        """Whoever has it does not hear of it."""
        awake = self._awake(holds=False)
        self.play(self._take_over(awake[: data.draw(st.integers(1, len(awake)), "how many")]))

    async def _take_over(self, players: list[Player]) -> None:
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
            player.may_be_over = False
            if isinstance(result, Holding):
                player.holding = result
            else:
                assert isinstance(result, RunClaimedError), result
        winners = [player.name for player in players if player.holding is not None]
        assert len(winners) == 1, f"{winners} have it"
        assert {result.owner for result in results if isinstance(result, RunClaimedError)} <= {*winners, ""}

    @precondition(lambda self: self._awake(holds=False))
    @rule(
        data=st.data(),
        saves=st.sampled_from(["nothing", "with the claim", "without it", "both"]),
        then=st.sampled_from(["nothing", "saves", "reads and saves"]),
    )
    def comes_and_goes(self, data: st.DataObject, saves: str, then: str) -> None:
        """Somebody takes over, and gives it back; then whoever had it before goes on."""
        player, before = self._someone(data, holds=False), self._awake(holds=True)
        self.play(self._take_over([player]))
        if saves in ("with the claim", "both"):
            self.play(self._save_held(player, self._name(), fresh=True))
        if player.holding is not None:
            self.play(self._ended(player))
        if saves in ("without it", "both"):
            self.play(self._save_without(player, self._name()))
        for holder in before if then != "nothing" else []:
            self.play(self._save_held(holder, self._name(), fresh=then == "reads and saves"))

    @precondition(lambda self: self._awake(holds=True))
    @rule(data=st.data())
    def renews(self, data: st.DataObject) -> None:
        player = self._someone(data, holds=True)
        self.play(self._renewed(player))

    async def _renewed(self, player: Player) -> None:
        holding, asked, document = player.holding, player.door.asked, await self._document()
        assert holding is not None
        is_ours, renewals = document is not None and document["owner"] == player.name, asked["replace document"]
        await player.until(lambda: holding.was_cancelled or asked["replace document"] > renewals)
        assert is_ours or await self._document() == document, "another's was written over"

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
            self.play(player.until(lambda: False, at_most=seconds))

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
        player.may_be_over |= seconds > 0
        if renews_first:
            self.play(player.until(lambda: False, at_most=1))
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
        assert player.clock.now < player.over_at, "it was not renewed"
        assert is_saved or not fresh, "nobody else may have gone on"

    async def _save(self, player: Player, run: RunCheckpointStorage, name: str) -> bool | None:
        """Whether it is in the run; None: nobody knows."""
        following = checkpoint(
            player.last.get(run), checkpoint_id=name, timestamp=f"2026-01-01T00:00:00.{self.names:06}+00:00"
        )
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
        document, in_force = await self._document(), self._in_force()
        is_saved = await self._save(player, await self._resumed(player, player.kept), name)
        if is_saved is None:
            return
        if document is None or not in_force or player.knows_as_left(document):
            assert is_saved, "nobody holds it"
        elif not player.may_know_as_left(document):
            assert not is_saved, f"{document['owner']} holds it"
        if in_force and document is not None and (player.saw is None or player.saw[0] != document["_etag"]):
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
        names = ["", "", "root", *sorted(name for _, name in self.acknowledged)]
        name = names[data.draw(st.integers(0, 99), "what") % len(names)]
        self.play(self._annotate_or_delete(player, run, name))

    async def _annotate_or_delete(self, player: Player, run: RunCheckpointStorage, name: str) -> None:
        before = run.forked_to
        with self._answers_may_be_lost(player):
            await (run.delete(name) if name else run.annotate(tags={"last": self._name()}))
        assert run.forked_to == before

    @rule(data=st.data())
    def is_forked_by_an_audit(self, data: st.DataObject) -> None:
        headers = [each for each in self.play(log_of(self.engine)) if each.type == "checkpoint"]
        if not headers:
            return  # all were deleted, and pruned
        origin = headers[data.draw(st.integers(0, 99), "origin") % len(headers)]
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
        player.may_be_over |= what == "replace document"

    # What holds after each step

    @invariant()
    def one_holder_at_a_time_is_acknowledged(self) -> None:
        type(self).taken += 1
        if self.players:
            self.play(self._check())

    async def _check(self) -> None:
        newest = in_force = 0
        for event in self.seen.values():
            if event.is_claim:
                newest = in_force = event.seq
            elif event.type == "checkpoint":
                assert event.claim in (None, newest), f"{event.checkpoint_id} is under the claim of {event.claim}"
                in_force = event.claim or 0
            else:
                assert (event.claim or 0) >= in_force, f"seq {event.seq} hides the claim of {in_force}"
        assert self.acknowledged <= {*await self._found(), *self.removed}

    async def _found(self) -> list[tuple[str, str]]:
        headers: list[CheckpointEvent] = [each async for each in self.store.workflow_headers(WORKFLOW)]
        return [(each.run_id, each.checkpoint_id) for each in headers if each.type == "checkpoint"]
