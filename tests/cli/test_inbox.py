"""`eventckpt inbox`: which questions wait, as a listing and as JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from eventckpt import RunInfo, StreamId
from eventckpt.chain import sealed
from eventckpt.cli.output import Screen
from eventckpt.events import Annotation, PendingRequest, Summary
from eventckpt.runs import fold
from eventckpt.testing import make_event

from ..engines import Engine
from .conftest import Cli

HOSTILE = "\x1b[31mred\u202e\r\n"


def question(number: int, **fields: Any) -> PendingRequest:
    asked = datetime.now(UTC) - timedelta(**fields.pop("ago"))
    return PendingRequest(
        request_id=f"q{number}",
        source_executor_id="clerk",
        request_type="app:Approval",
        asked_at=asked.isoformat(),
        **fields,
    )


async def ask(engine: Engine, *questions: PendingRequest) -> None:
    """A run for each question, in the log and in the projection."""
    store = engine.open()
    for number, asked in enumerate(questions):
        event = make_event(StreamId("orders", f"order-{number}"), 1)
        event = sealed(msgspec.structs.replace(event, summary=Summary(pending_requests=(asked,)), digest=""))
        said = make_event(event.stream, 2, previous=event, type="tombstone")
        tags = Annotation(tags={"number": str(number)})
        said = sealed(msgspec.structs.replace(said, checkpoint_id="", annotation=tags, digest=""))
        for each in (event, said):
            await store.append(each)
        await store.run_store().put(cast(RunInfo, fold([event, said])))
    engine.settle()


async def test_the_questions_are_listed_with_their_age_and_what_they_say(engine: Engine, cli: Cli) -> None:
    await ask(
        engine,
        question(1, ago={"hours": 5}, prompt="May it be 7?"),
        question(2, ago={"days": 9}),
        question(3, ago={"seconds": 1}),
    )
    lines = (await cli("inbox", screen=Screen(width=120))).out.splitlines()
    assert [line.split()[:6] for line in lines] == [
        ["run", "request", "type", "asked", "prompt"],
        ["order-1", "q2", "app:Approval", "9", "d", "ago"],
        ["order-0", "q1", "app:Approval", "5", "h", "ago"],
        ["order-2", "q3", "app:Approval", *lines[3].split()[3:]],
    ]
    assert lines[2].endswith("May it be 7?")
    assert len((await cli("inbox", "--older-than", "2d")).out.splitlines()) == 2
    assert (await cli("inbox", "--older-than", "3w")).err.splitlines()[-1] == "No question waits so long."
    assert "q2" in (await cli("inbox", "--tag", "number=1")).out
    assert (await cli("inbox", "--type", "app:Choice")).out == ""
    assert (await cli("inbox", "--workflow", "other")).out == ""


async def test_as_json_and_wide_it_says_all_that_is_known(engine: Engine, cli: Cli) -> None:
    await ask(engine, question(1, ago={"hours": 5}, response_type="builtins:bool", prompt="May it?"))
    [record] = (await cli.json("inbox")).of("question")
    assert (record["workflow_name"], record["run_id"], record["seq"]) == ("orders", "order-0", 2)
    assert (record["request"]["prompt"], record["request"]["response_type"]) == ("May it?", "builtins:bool")
    assert (record["tags"], record["status"]) == ({"number": "0"}, "waiting")
    wide = (await cli("inbox", "-o", "wide")).out
    for shown in ("builtins:bool", "orders", "clerk", "waiting", "number=0", record["checkpoint_id"]):
        assert shown in wide


async def test_of_many_the_longest_waiting_are_listed_and_it_is_said_that_there_are_more(
    engine: Engine, cli: Cli
) -> None:
    await ask(engine, *(question(number, ago={"days": number}) for number in range(5)))
    printed = await cli("inbox", "--limit", "2")
    assert [line.split()[1] for line in printed.out.splitlines()[1:]] == ["q4", "q3"]
    assert "--limit 0" in printed.err
    assert len((await cli("inbox", "--limit", "0")).out.splitlines()) == 6
    [more] = (await cli.json("inbox", "--limit", "2")).of("more")
    assert more["after"]


@pytest.mark.parametrize("command", ["inbox", "runs"])
async def test_what_is_listed_from_the_projection_is_as_late_as_that_and_says_so(
    engine: Engine, cli: Cli, command: str
) -> None:
    await ask(engine, question(1, ago={"days": 1}))
    late = make_event(StreamId("orders", "late"), 1)
    asks = Summary(pending_requests=(question(2, ago={"days": 2}),))
    await engine.open().append(sealed(msgspec.structs.replace(late, summary=asks, digest="")))
    engine.settle()
    own = ([], command == "inbox")  # of which a projector is asked, unless there is none
    for words, is_late in (own, (["--latest", "log"], False), (["--latest", "projection"], True)):
        printed = await cli(command, *words)
        assert ("late" in printed.out) is not is_late
        assert (printed.err == "Listed from the projection, which may be late.\n") is is_late
    assert await cli(command, "--latest", "auto") == await cli(command, "--latest", "projection")
    assert (await cli(command, "--latest", "auto", "--json")).err == "", "a program asked for it by name"
    assert "--latest is log, projection, auto" in (await cli(command, "--latest", "soon", code=2)).err


@pytest.mark.parametrize("command", ["inbox", "runs"])
async def test_auto_is_the_log_where_nobody_fills_a_projection(engine: Engine, cli: Cli, command: str) -> None:
    event = make_event(StreamId("orders", "one"), 1)
    asks = Summary(pending_requests=(question(1, ago={"days": 1}),))
    await engine.open().append(sealed(msgspec.structs.replace(event, summary=asks, digest="")))
    engine.settle()
    assert await cli(command, "--latest", "auto") == await cli(command, "--latest", "log")


async def test_what_a_question_says_moves_no_cursor(engine: Engine, cli: Cli) -> None:
    await ask(engine, question(1, ago={"days": 1}, prompt=HOSTILE, response_type=HOSTILE))
    for words in (["inbox"], ["inbox", "-o", "wide"], ["inbox", "--json"]):
        assert (await cli(*words)).out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "words", [["--older-than", "soon"], ["--older-than", "-1d"], ["--tag", "x"], ["-o", "narrow"], ["--turns"]]
)
async def test_what_is_no_option_of_it_is_refused_in_one_sentence(cli: Cli, words: list[str]) -> None:
    assert (await cli("inbox", *words, code=2)).out == ""


@pytest.mark.parametrize("unit", "smhdw")
async def test_no_span_is_too_long_to_be_asked_for(engine: Engine, cli: Cli, unit: str) -> None:
    event = make_event(StreamId("orders", "asks nothing"), 1)
    await engine.open().append(event)
    engine.settle()
    assert (await cli("inbox", "--older-than", f"999999999{unit}")).err.strip() == "No question waits so long."


async def test_without_any_question_it_says_so(engine: Engine, cli: Cli) -> None:
    event = make_event(StreamId("orders", "asks nothing"), 1)
    await engine.open().append(sealed(msgspec.structs.replace(event, summary=Summary(), digest="")))
    engine.settle()
    assert (await cli("inbox")).err.strip() == "No question waits for an answer."
