"""What one run amounts to, and in which traces it was written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventckpt import StreamId
from eventckpt.chain import sealed
from eventckpt.events import Annotation
from eventckpt.storage.compose import annotation_after, claim_after
from eventckpt.storage.memory import Head

from ..engines import Engine
from ..spans import Spans, name_of
from ..test_traceparent import BAD, TRACE
from .conftest import WORKFLOW, Cli, order_run


def told(text: str) -> dict[str, str]:
    """What `info` prints, by the names before it."""
    return {line[2:16].strip(): line[16:] for line in text.splitlines()[1:]}


async def test_info_says_how_a_run_stands_and_what_it_waits_for(engine: Engine, cli: Cli) -> None:
    made = await order_run(engine, steps=3, actor="shop")
    printed = await cli("info", "order")
    assert printed.out.splitlines()[0] == f"run order-1 of {WORKFLOW}"
    said = told(printed.out)
    assert said["status"] == "waiting for 1"
    assert said["waits for"].startswith("q1 from clerk")
    assert said["checkpoint"] == f"{made[-1].checkpoint_id}, seq 3, superstep 2"
    assert said["events"] == "3 of checkpoints, 0 others"
    assert said["last written"].endswith(" by shop")
    assert {"trace", "annotations", "forked from"}.isdisjoint(said)


async def test_info_says_what_was_said_about_a_run_and_asks_nothing_of_one_that_was_cancelled(
    engine: Engine, cli: Cli
) -> None:
    await order_run(engine, steps=3)
    store = engine.open()
    [*_, head] = [header async for header in store.headers(StreamId(WORKFLOW, "order-1"))]
    said = Annotation(outcome="cancelled", reason="twice", tags={"customer": "c-17"}, hold=True)
    await store.append(annotation_after(head.stream, Head.of(head), said, (), "Ada"))
    engine.settle()
    shown = told((await cli("info", "order-1")).out)
    assert (shown["status"], "waits for" in shown) == ("cancelled", False)
    assert shown["annotations"] == "cancelled (twice, customer=c-17, on hold)"
    assert shown["events"] == "3 of checkpoints, 1 others"


async def test_info_in_json_is_the_whole_run_document(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    assert (await cli.json("info", "order-1")).of("run") == (await cli.json("runs")).of("run")


async def test_info_of_no_run_says_so(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    printed = await cli("info", "elsewhere", code=3)
    assert "elsewhere" in printed.err


async def test_info_names_the_run_that_a_fork_came_from(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    await cli("fork", "order-1@1", "--as", "again")
    assert told((await cli("info", "again")).out)["forked from"] == "seq 1 of run order-1"


# Traces


async def test_the_trace_of_each_event_is_shown_where_one_was_recorded(engine: Engine, cli: Cli, spans: Spans) -> None:
    with spans.request("order") as order:
        await order_run(engine, steps=2)
    trace_id = name_of(order).split("-")[1]
    assert told((await cli("info", "order-1")).out)["trace"] == trace_id
    wide, plain = await cli("history", "order-1", "-o", "wide"), await cli("history", "order-1")
    heads, *rows = wide.out.splitlines()
    assert heads.split()[-2:] == ["claim", "trace"]
    assert [row.split()[-1] for row in rows] == [trace_id] * 2
    assert trace_id not in plain.out
    assert f"in trace {trace_id}" in (await cli("show", "order-1@1")).out
    events = (await cli.json("history", "order-1")).of("event")
    assert [event["trace_id"] for event in events] == [trace_id] * 2
    assert [event["traceparent"] for event in events] == [name_of(save) for save in spans.saves]
    [run] = (await cli.json("info", "order-1")).of("run")
    assert (run["trace_id"], run["traceparent"]) == (trace_id, name_of(spans.saves[-1]))


async def test_where_no_span_was_recorded_there_is_no_trace(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    [event] = (await cli.json("history", "order-1")).of("event")
    assert (event["trace_id"], event["traceparent"]) == (None, None)


async def test_a_wide_history_has_the_claim_that_was_in_force(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    store = engine.open()
    [head] = [header async for header in store.headers(StreamId(WORKFLOW, "order-1"))]
    await store.append(claim_after(head.stream, Head.of(head), None, (), "worker"))
    engine.settle()
    _, first, second = (await cli("history", "order-1", "-o", "wide")).out.splitlines()
    assert (first.split()[-1], second.split()[-1]) == ("shop", "2")


HOSTILE: dict[str, Any] = {name: text for name, text in BAD.items() if isinstance(text, str) and text}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_what_is_stored_and_names_no_trace_is_not_shown_as_one(engine: Engine, cli: Cli, text: str) -> None:
    await order_run(engine, steps=1)
    store = engine.open()
    [event] = await store.read(StreamId(WORKFLOW, "order-1"), 1)
    await store.append(sealed(msgspec.structs.replace(event, run_id="bad", traceparent=text)))
    engine.settle()
    for words in (["info", "bad"], ["history", "bad", "-o", "wide"], ["show", "bad@1"]):
        printed = await cli(*words)
        assert TRACE not in printed.out
        assert text not in printed.out
    [shown] = (await cli.json("info", "bad")).of("run")
    assert shown["trace_id"] is None


@pytest.mark.parametrize("words", [["-o", "yaml"], ["--output", ""], ["-o", "WIDE"]])
async def test_an_output_that_there_is_not_is_refused(engine: Engine, cli: Cli, words: list[str]) -> None:
    await order_run(engine, steps=1)
    assert "--output" in (await cli("history", "order-1", *words, code=2)).err
