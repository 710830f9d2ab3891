"""Deltas whose headers lie about what they need: each is refused by name after one look, and harms no other event."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from eventckpt import CheckpointAudit, CheckpointDecodeError, CheckpointEvent, EventCheckpointStorage, StreamId
from eventckpt.chain import sealed
from eventckpt.codec import CheckpointCodec
from eventckpt.delta import Base, encode
from eventckpt.storage.compose import event_at, header_of
from eventckpt.storage.memory import EMPTY, Head
from eventckpt.storage.payloads import Packed
from eventckpt.stores import AuditStore

from ..engines import Engine
from .checkpoints import WORKFLOW, checkpoint
from .test_delta import CountingReads

RUN: Final = StreamId(WORKFLOW, "r")
NOISE: Final = bytes(range(256)) * 8
LAST: Final = 6
"""The seq of the event that lies."""

LIES: Final[dict[str, tuple[Any, str]]] = {
    "a base that is itself": ((LAST, 1), "not before it"),
    "a snapshot that is itself": ((2, LAST), "not before it"),
    "a plain delta against itself": (LAST, "not before it"),
    "a base behind it": ((7, 1), "not before it"),
    "a delta against a delta against a delta": ((3, 2), "not a delta against seq 2|not a snapshot"),
    "the same, with the snapshot below all": ((3, 1), "not a delta against seq 1"),
    "a plain delta against a delta": (2, "not a snapshot"),
    "another snapshot than its base's": ((2, 5), "not a delta against seq 5"),
    "base and snapshot the other way round": ((1, 2), "not a delta against seq 2|not a snapshot"),
    "a snapshot twice": ((1, 1), "not a delta against seq 1"),
    "a tombstone": ((4, 1), "tombstone"),
    "a base that is not there": ((9, 1), "not before it"),
    "a snapshot that is not there": ((2, 9), "not before it"),
    "seqs that no event has": ((0, -1), "missing"),
    "seqs beyond all": ((2**63 - 1, 2**63), "not before it"),
}


def events(lie: Any) -> list[CheckpointEvent]:
    """A snapshot, a delta, a delta against that, a deletion, a snapshot, one that lies, and a delta that does not."""
    codec, made, found = CheckpointCodec(), list[CheckpointEvent](), list[Base]()
    places: tuple[tuple[int, ...], ...] = ((), (1,), (2, 1), (), (), (2, 1), (1,))
    for seq, needs in enumerate(places, 1):
        head = Head.of(made[-1]) if made else EMPTY
        saved = checkpoint(checkpoint_id=f"c{seq}", state={"noise": NOISE * 100, "more": NOISE[: 10 * seq], "seq": seq})
        raw = codec.encode(saved)
        base = next((base for base in found if needs and base.seq == needs[0]), None)
        payload = encode(raw, base._replace(stored_size=1 << 30) if base else None)
        assert payload.bases == needs
        found.append(Base(seq, raw, payload.stored_size, payload.since_base, *needs[:1]))
        event = event_at(header_of(saved, None), RUN, head, Packed.of(payload), None)
        if seq == LAST:
            event = sealed(msgspec.structs.replace(event, payload=msgspec.structs.replace(payload, base_seq=lie)))
        if seq == 4:
            event = sealed(msgspec.structs.replace(event, type="tombstone", payload=None))
        made.append(event)
    return made


async def kept(engine: Engine, lie: Any) -> AuditStore:
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(RUN, events(lie))
    return store


async def test_what_the_lies_are_about_loads_where_nobody_lies(engine: Engine) -> None:
    store = await kept(engine, (2, 1))
    assert (await CheckpointAudit(store).verify(RUN, decode=True)).ok
    assert (await engine.storage().load(f"c{LAST}")).state["seq"] == LAST


@pytest.mark.parametrize("is_warm", [False, True], ids=["nothing read before", "everything else read before"])
@pytest.mark.parametrize("what", LIES)
async def test_a_delta_that_lies_is_refused_by_name_after_one_look(engine: Engine, what: str, is_warm: bool) -> None:
    lie, why = LIES[what]
    store = await kept(engine, lie)
    counting = CountingReads(engine)
    reader = EventCheckpointStorage(counting.store)
    honest = [f"c{seq}" for seq in (1, 2, 3, 5, 7)]
    for checkpoint_id in honest if is_warm else ():
        assert (await reader.load(checkpoint_id)).checkpoint_id == checkpoint_id
    counting.reads.clear()
    with pytest.raises(CheckpointDecodeError, match=rf"seq {LAST} of run 'r'.*({why}|header is damaged|was changed)"):
        await reader.load(f"c{LAST}")
    assert len(counting.reads) <= 1
    assert sum(len(seqs) for _, seqs in counting.reads) <= 2
    verdict = await CheckpointAudit(store).verify(RUN)
    assert {problem.seq for problem in verdict.problems} == {LAST}
    for checkpoint_id in honest:
        assert (await reader.load(checkpoint_id)).checkpoint_id == checkpoint_id


@pytest.mark.parametrize("lie", [(1, 2, 3), [], (2, "1"), "2", [2]], ids=str)
async def test_what_is_no_seq_or_pair_of_seqs_is_a_damaged_header(engine: Engine, lie: Any) -> None:
    store = await kept(engine, lie)
    with pytest.raises(CheckpointDecodeError, match=rf"seq {LAST} of run 'r'.*header is damaged"):
        await engine.storage().load(f"c{LAST}")
    verdict = await CheckpointAudit(store).verify(RUN)
    assert {(problem.seq, problem.why) for problem in verdict.problems} == {(LAST, "changed")}


async def test_a_save_behind_one_that_lies_is_a_snapshot(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    lies = events((3, 1))[:LAST]
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(RUN, lies)
    storage = engine.storage()
    run = storage.for_run("r", workflow_name=WORKFLOW)
    await run.load("c5")
    following = checkpoint(await storage.load("c5"), state={"on": True})
    following.previous_checkpoint_id = f"c{LAST}"
    await run.save(following)
    [event] = await engine.open().read(RUN, LAST + 1)
    assert event.payload is not None
    assert event.payload.bases == ()
    assert "goes on with a new snapshot" in caplog.text
    assert await engine.storage().load(following.checkpoint_id) == following


@pytest.mark.parametrize(
    "numbers",
    [{"since_base": -(10**15)}, {"since_base": 10**15, "stored_size": 2 * 10**15}, {"stored_size": 2 * 10**15}],
    ids=str,
)
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_what_a_header_says_of_sizes_is_not_carried_on(engine: Engine, at: int, numbers: dict[str, int]) -> None:
    made = events((2, 1))[:at]
    payload = msgspec.structs.replace(made[-1].payload, **numbers)
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(RUN, [*made[:-1], sealed(msgspec.structs.replace(made[-1], payload=payload))])
    run = engine.storage().for_run("r", workflow_name=WORKFLOW)
    last = await run.load(f"c{at}")
    for step in range(3):
        last = checkpoint(last, state=last.state | {"step": step})
        await run.save(last)
        assert await engine.storage().load(last.checkpoint_id) == last
    for event in await store.read(RUN, *range(at + 1, at + 4)):
        assert event.payload is not None
        assert 0 <= event.payload.since_base < 1 << 20
