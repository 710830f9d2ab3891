"""One event that somebody forged ends no command for the others: it has a verdict, and so have they."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import CheckpointEvent, StreamId, delta
from eventckpt.audit import CheckpointAudit
from eventckpt.chain import sealed
from eventckpt.events import MAX_SEQ, ForkPoint, PendingRequest, Pruned, Summary
from eventckpt.stores import AuditStore
from eventckpt.stores.conformance import make_event

from ..engines import Engine, SqliteEngine
from .conftest import Cli, checkpoint, order_run

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
    printed = await Cli(engine)("verify", "--all", "--projection", code=1)
    assert "the run has no latest document" in printed.out, "one of such a seq counts for none"
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
    newer = msgspec.structs.replace(claiming(4, type="tombstone", payload=None, pruned=pruned), schema=3)
    await keep(engine, claiming(3, type="tombstone", payload=None), newer)
    printed = await cli("verify", "--all", code=1)
    assert "seqs 1 to 2 are gone, and no removal of them was recorded, unless the event at seq 4" in printed.out
    assert "NOT what was written" not in printed.out
    await keep(engine, claiming(6))
    assert "1 runs are NOT what was written." in (await cli("verify", "--all", code=1)).out


def holding(raw: bytes) -> CheckpointEvent:
    return claiming(payload=delta.encode(raw))


def deep(levels: int) -> bytes:
    fields = {"workflow_name": "orders", "graph_signature_hash": "g", "checkpoint_id": "x", "state": None}
    return msgspec.msgpack.encode(fields)[:-1] + b"\x91" * levels + b"\x90"


@pytest.mark.parametrize(
    "raw",
    [b"\x80", msgspec.msgpack.encode({"state": {}}), b"\x90", b"\xc1", deep(990), deep(100_000)],
    ids=lambda raw: str(raw[:20]),
)
async def test_a_fork_of_what_is_no_checkpoint_is_refused_by_name(engine: Engine, cli: Cli, raw: bytes) -> None:
    await keep(engine, holding(raw))
    printed = await cli("fork", "forged@1", "--as", "copy", code=5)
    assert "Seq 1 of run 'forged', workflow 'orders', cannot be forked from: " in printed.err
    await cli("history", "copy", code=3)


async def test_checkpoints_that_follow_each_other_in_a_circle_are_drawn(engine: Engine, cli: Cli) -> None:
    follows = {"a": "b", "b": "a", "c": "b", "x": "x", "p": "q", "q": "r", "r": "p", "z": None}
    events = [
        claiming(seq, checkpoint_id=name, previous_checkpoint_id=previous)
        for seq, (name, previous) in enumerate(follows.items(), 1)
    ]
    await keep(engine, *events)
    nodes = (await cli.json("lineage", "forged")).of("node")
    assert sorted(node["checkpoint_id"] for node in nodes) == sorted(follows)
    assert sum(node["depth"] == 0 and not node["branch"] for node in nodes) >= 4


async def test_a_checkpoint_is_looked_for_in_the_workflow_that_is_named(engine: Engine, cli: Cli) -> None:
    for name in ("sales", "refunds"):
        run = engine.storage().for_run(f"run-{name}")
        await run.save(checkpoint(checkpoint_id="first", workflow_name=name, state={"of": name}))
    for name in ("sales", "refunds"):
        for words in (("show", "first"), ("show", "fir")):
            [shown] = (await cli.json(*words, "-w", name)).of("checkpoint")
            assert (shown["workflow_name"], shown["tree"]["state"]["of"]) == (name, name)
    [found] = (await cli.json("diff", "first", "first", "-w", "sales")).of("summary")
    assert found["before"]["workflow_name"] == found["after"]["workflow_name"] == "sales"
    [event] = (await cli.json("fork", "first", "--as", "copy", "-w", "sales")).of("event")
    assert event["workflow_name"] == "sales"
    await cli("show", "first", "-w", "orders", code=3)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "order-1@1", "--allow", "foo"),
        ("doctor", "--allow", "foo"),
        ("prune", "--all", "--older-than", "99999999999d"),
        ("prune", "--all", "--older-than", f"{'9' * 5000}h"),
        ("prune", "--all", "--older-than", "9" * 5000),
    ],
    ids=lambda words: " ".join(words)[:60],
)
async def test_what_an_option_cannot_be_is_said(engine: Engine, cli: Cli, words: tuple[str, ...]) -> None:
    await order_run(engine, steps=1)
    printed = await cli(*words, code=2)
    assert printed.err.startswith("eventckpt: --")
    assert len(printed.err) < 400


async def test_listings_of_huge_summaries_stay_small(engine: Engine, cli: Cli) -> None:
    asked = tuple(
        PendingRequest(request_id=f"{n:06}", source_executor_id="e" * 50, request_type="t" * 50) for n in range(5_000)
    )
    huge = claiming(summary=Summary(messages={"m" * 100_000: 1}, pending_requests=asked))
    await keep(engine, huge, *(claiming(seq) for seq in range(2, 40)))
    for words in (("history", "forged"), ("runs",)):
        assert len((await cli(*words)).out) < 200_000
    [event] = (await cli.json("history", "forged", "--last", "0")).of("event")[:1]
    assert len(event["summary"]["pending_requests"]) == 5_000


@pytest.mark.slow
async def test_near_names_of_many_long_ids_are_found_quickly(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    store = engine.open()
    assert isinstance(store, AuditStore)
    for number in range(2_000):
        named = StreamId("orders", f"{'ab' * 120}{number}")
        await store.put(named, [make_event(named, 1)])
    started = time.process_time()
    await Cli(engine)("history", "ba" * 120, code=3)
    assert time.process_time() - started < 3
    await engine.close()


async def test_types_are_judged_by_their_names_and_nothing_is_imported(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    unknown = [{"$": f"openai.types.m{n}:N{n}"} for n in range(100)]
    fields = {"workflow_name": "orders", "graph_signature_hash": "g", "checkpoint_id": "x"}
    known = [{"$": "openai.types.batch:Batch", "s": {}}]
    await keep(engine, holding(msgspec.msgpack.encode({**fields, "state": {"x": unknown + known}})))
    before = set(sys.modules)
    await cli("show", "forged@1")
    await cli("diff", "forged@1", "order-1@1")
    assert not {name for name in set(sys.modules) - before if name.startswith("openai")}


def test_an_output_of_another_encoding_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "events.db"

    async def write() -> None:
        engine = SqliteEngine(path)
        await engine.storage().for_run("größe").save(checkpoint(checkpoint_id="größe", state={"größe": "→"}))
        await engine.close()

    asyncio.run(write())

    def printed(*words: str) -> bytes:
        env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        command = [sys.executable, "-m", "eventckpt.cli", *words, "--store", str(path)]
        return subprocess.run(command, env=env, capture_output=True, check=True).stdout

    assert rb"gr\xf6\xdfe" in printed("show", "größe")
    assert rb"gr\xf6\xdfe" in printed("runs")
    lines = printed("export", "--all").splitlines()
    assert json.loads(lines[1])["run_id"] == "größe"
