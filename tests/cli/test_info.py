"""What one run amounts to, and in which traces it was written."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec
import pytest

from eventckpt import StreamId
from eventckpt.chain import sealed
from eventckpt.events import Annotation
from eventckpt.storage.compose import annotation_after, claim_after
from eventckpt.storage.memory import Head
from eventckpt.stores import AuditStore

from ..conversations import session, talked
from ..cosmos_emulator import CosmosEmulator
from ..engines import CosmosEngine, Engine
from ..shell import ODD_NAMES, needs_a_shell, words_of
from ..spans import Spans, name_of
from ..test_traceparent import BAD, TRACE
from .conftest import WORKFLOW, Cli, checkpoint, order_run, question
from .programs import called


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
    assert said["events"] == "3 checkpoints, 0 others"
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
    assert shown["events"] == "3 checkpoints, 1 other"


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


# Questions, and what to do about them


async def test_info_says_what_a_question_asks_since_when_and_how_it_is_answered(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    said = told((await cli("info", "order-1")).out)
    asked, _, text = said["waits for"].partition(": ")
    assert asked.startswith("q1 from clerk, asked 2")
    assert text == "builtins:str"
    assert said["answer with"] == (
        "eventckpt answer order-1 q1 --json ANSWER --app MODULE:CALLABLE  # JSON of builtins:bool"
    )


@pytest.mark.parametrize("request_id", ["$(reboot)", "a b", "`id`", "x;y", "it's"])
async def test_a_command_to_copy_means_nothing_to_a_shell_but_itself(engine: Engine, cli: Cli, request_id: str) -> None:
    await engine.storage().for_run("a run").save(checkpoint(pending_request_info_events=question(request_id)))
    words = shlex.split(told((await cli("info", "a run")).out)["answer with"].partition(" --json")[0])
    assert words[:3] == ["eventckpt", "answer", "a run"]
    assert words[3:] == [request_id]


@needs_a_shell
@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_shell_gives_back_the_names_in_the_command_that_answers(engine: Engine, cli: Cli, name: str) -> None:
    await engine.storage().for_run(name).save(checkpoint(pending_request_info_events=question(f"q{name}")))
    words = await words_of(told((await cli("info", "--", name)).out)["answer with"])
    names = words[words.index("--") + 1 :] if "--" in words else words[1:]
    assert names[:2] == [name, f"q{name}"]


async def test_of_many_questions_some_are_told_and_json_has_them_all(engine: Engine, cli: Cli) -> None:
    many = {name: each for number in range(30) for name, each in question(f"q{number:02}").items()}
    await engine.storage().for_run("order-1").save(checkpoint(pending_request_info_events=many))
    printed = (await cli("info", "order-1")).out
    assert printed.count("answer with") == 10
    assert "20 more: --json has them all" in printed
    [run] = (await cli.json("info", "order-1")).of("run")
    assert len(run["pending_requests"]) == 30


# What happened last, who has it, and where it went


async def test_info_shows_the_last_events_and_no_more(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=8)
    assert [event["seq"] for event in (await cli.json("info", "order-1")).of("event")] == [4, 5, 6, 7, 8]
    rows = (await cli("info", "order-1")).out.split("\n\n")[1].splitlines()
    assert [row.split()[0] for row in rows] == ["seq", "4", "5", "6", "7", "8"]


async def test_info_names_who_has_the_claim_while_somebody_has_it(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    run = engine.storage(actor="the worker").for_run("order-1", workflow_name=WORKFLOW)
    async with run.claim(ttl=600):
        engine.settle()
        assert told((await cli("info", "order-1")).out)["claim"].startswith("claimed by ")
        [claim] = (await cli.json("info", "order-1")).of("claim")
        assert (claim["run_id"], claim["ttl"]) == ("order-1", 600)
        assert claim["owner"]
    engine.settle()
    assert "claim" not in told((await cli("info", "order-1")).out)
    assert (await cli.json("info", "order-1")).of("claim") == []


@pytest.mark.parametrize("projected", [False, True], ids=["log", "projection"])
async def test_info_names_the_runs_that_forked_from_one(engine: Engine, cli: Cli, projected: bool) -> None:
    await order_run(engine, steps=3)
    for seq, name in ((1, "trial"), (2, "order-1~elsewhere"), (3, "another")):
        await cli("fork", f"order-1@{seq}", "--as", name)
    await cli("fork", "trial@1", "--as", "of another")
    if projected:
        assert (await called("eventckpt-projector", ["rebuild"], cli.env)).code == 0
    found = (await cli.json("info", "order-1", "-w", WORKFLOW)).of("fork")
    assert {(fork["run_id"], fork["forked_from"]["seq"]) for fork in found} == {
        ("trial", 1),
        ("order-1~elsewhere", 2),
        ("another", 3),
    }
    assert (await cli("info", "order-1", "-w", WORKFLOW)).out.count("  forked to") == 3


async def test_what_info_costs_does_not_grow_with_the_runs_of_a_workflow() -> None:
    async with CosmosEmulator() as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "glance")
        asked: list[int] = []
        for count in (30, 60):
            for number in range(count):
                await engine.storage().for_run(f"run-{count}-{number}").save(checkpoint())
            emulator.reset()
            await Cli(engine)("info", "run-30-7")
            asked.append(len(emulator.requests))
        assert 0 < asked[1] <= asked[0]
        await engine.close()


async def test_info_of_a_run_of_which_nothing_counts_any_more_says_so(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    await cli("prune", "order-1", "--keep", "0", "--force", "--execute", "--yes")
    said = told((await cli("info", "order-1")).out)
    assert said["status"] == "removed: nothing of it counts any more"
    assert said["events"].endswith("2 removed")
    assert "waits for" not in said


# Sessions


async def test_info_of_a_session_says_its_turns_its_branches_and_its_last_events(engine: Engine, cli: Cli) -> None:
    store = engine.open()
    assert isinstance(store, AuditStore)
    await talked(store.sessions(), session(), "one", "two", "three")
    engine.settle()
    printed = await cli("info", "s1", "--turns")
    assert printed.out.splitlines()[0] == "session s1 of chat"
    said = told(printed.out)
    assert said["turns"] == "3 with those of 0 branches"
    assert said["events"] == "3 turns, 0 others"
    lines = await cli.json("info", "s1", "--turns")
    assert [line["kind"] for line in lines.records] == ["run", "session", "event", "event", "event"]
    assert lines.of("session") == (await cli.json("sessions")).of("session")
    assert "No session is called" in (await cli("info", "nobody", "--turns", code=3)).err


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
