"""One event that somebody forged ends no command for the others: it has a verdict, and so have they."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import CheckpointEvent, StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.chain import sealed
from eventckpt.events import MAX_SEQ, ForkPoint, Pruned
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event

from ..engines import Engine, SqliteEngine
from .conftest import Cli, order_run

FORGED = StreamId("orders", "forged")


def claiming(seq: int = 1, **fields: Any) -> CheckpointEvent:
    return sealed(msgspec.structs.replace(make_event(FORGED, seq), **fields))


def forked_from(seq: int) -> CheckpointEvent:
    return claiming(forked_from=ForkPoint(workflow_name="orders", run_id="order-1", seq=seq, checkpoint_id="x"))


def delta_on(seq: int) -> CheckpointEvent:
    payload = make_event(FORGED, 1).payload
    assert payload is not None
    return claiming(payload=msgspec.structs.replace(payload, base_seq=seq))


def reasons(verdict: dict[str, Any]) -> set[str]:
    return {problem["why"] for problem in verdict["problems"]}


async def keep(engine: Engine, *events: CheckpointEvent) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    await store.put(FORGED, events)


@pytest.mark.parametrize("seq", [2**63 + 5, -(2**63)])
async def test_a_fork_from_a_seq_that_no_event_has_is_one_bad_run(engine: Engine, cli: Cli, seq: int) -> None:
    await order_run(engine, steps=2)
    await keep(engine, forked_from(seq))
    printed = await cli.json("verify", "--all", code=1)
    [verdict] = printed.of("verdict")
    assert (verdict["run_id"], reasons(verdict)) in [("forged", {"fork"}), ("forged", {"changed"})]  # numbers of JSON
    assert printed.of("summary") == [{"kind": "summary", "runs": 2, "events": 3, "bad_runs": 1}]


@pytest.mark.parametrize("seq", [2**63 + 1, -(2**63)])
async def test_a_delta_on_a_seq_that_no_event_has_is_one_bad_run(engine: Engine, cli: Cli, seq: int) -> None:
    await order_run(engine, steps=2)
    await keep(engine, delta_on(seq))
    for words in ((), ("--decode",)):
        [verdict] = (await cli.json("verify", "--all", *words, code=1)).of("verdict")
        assert reasons(verdict) in [{"base", *(["undecodable"] if words else [])}, {"changed"}]
    await cli("show", "forged@1", code=5)
    await cli("diff", "forged@1", "order-1@1", code=5)


async def test_a_latest_document_of_any_seq_is_compared(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=2)
    store = engine.open()
    assert isinstance(store, AuditStore)
    audit = CheckpointAudit(store)
    info = await audit.info(StreamId("orders", "order-1"))
    assert info is not None
    await store.runs().put(info)
    connection_writes = msgspec.msgpack.encode(msgspec.structs.replace(info, seq=2**63 + 9))
    await store.writing(lambda connection: connection.execute("UPDATE runs SET info = ?", (connection_writes,)))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await Cli(engine)("verify", "--all", "--projection")
    await engine.close()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "order-1@99999999999999999999"), 3),
        (("show", f"order-1@{'9' * 5000}"), 3),
        (("diff", "order-1", "--seq", f"1..{'9' * 5000}"), 0),
        (("diff", "order-1", "--seq", f"1..{10**20}"), 0),
        (("at", "order-1", "--seq", str(10**20)), 0),
        (("at", "order-1", "--seq", str(-(10**20))), 3),
        (("at", "order-1", "--iteration", str(10**20)), 0),
        (("replay", "order-1", "--until", str(10**20)), 0),
        (("history", "order-1", "--last", str(10**20)), 0),
        (("tail", "--last", str(10**20), "--limit", "1"), 0),
        (("show", "\udcff\udcfe"), 3),
        (("show", "\udcff@1"), 3),
        (("show", "order-1@1", "-w", "\udcff"), 3),
        (("history", "\udcff"), 3),
    ],
    ids=lambda words: str(words)[:60],
)
async def test_names_and_numbers_that_nothing_has_are_said_to_be_missing(
    engine: Engine, cli: Cli, words: tuple[str, ...], code: int
) -> None:
    await order_run(engine, steps=2)
    await cli(*words, code=code)


async def test_a_run_whose_head_nothing_can_follow_is_not_pruned(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=3)
    await keep(engine, claiming(1), claiming(MAX_SEQ))
    printed = await Cli(engine)("prune", "--all", "--keep", "0", "--force", "--execute", "--yes")
    assert "run forged of orders: left alone: no event can follow its last one" in printed.out
    assert "Removed 3 events of 1 runs." in printed.out
    await engine.close()


async def test_a_gap_that_an_event_of_a_newer_version_may_record_is_newer(engine: Engine, cli: Cli) -> None:
    pruned = (Pruned(first=1, last=2, previous_digest="", digest="x"),)
    newer = msgspec.structs.replace(claiming(4, type="tombstone", payload=None, pruned=pruned), schema=2)
    await keep(engine, claiming(3, type="tombstone", payload=None), newer)
    printed = await cli("verify", "--all", code=1)
    assert "seqs 1 to 2 are gone, and no removal of them was recorded, unless the event at seq 4" in printed.out
    assert "NOT what was written" not in printed.out
    await keep(engine, claiming(6))
    assert "1 runs are NOT what was written." in (await cli("verify", "--all", code=1)).out
