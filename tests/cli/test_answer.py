"""`eventckpt answer`: what it prints, how it ends, and that nothing is done where it is refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler, response_handler

from eventckpt import CheckpointEvent, EventCheckpointStorage, StreamId
from eventckpt.cli.lines import type_of

from ..engines import Engine, SqliteEngine
from .conftest import Cli

HERE = __name__
ROOT = Path(__file__).parents[2]
WORKFLOW = "refund"
paid: list[tuple[str, bool]] = []


class Odd(BaseException):
    """No `Exception`."""


RAISES: dict[str, type[BaseException]] = {
    "bomb": ZeroDivisionError,
    "cancelled": asyncio.CancelledError,
    "odd": Odd,
}


class Clerk(Executor):
    """Asks for each item whether to pay it back, and in the end for a remark."""

    @handler
    async def ask(self, items: str, ctx: WorkflowContext) -> None:
        for item in items.split():
            await ctx.request_info(item, bool, request_id=f"may-{item}")

    @response_handler
    async def decided(self, item: str, approved: bool, ctx: WorkflowContext) -> None:
        if item in RAISES:
            raise RAISES[item](item)
        paid.append((item, approved))
        if item == "shoes":
            await ctx.request_info(7, str, request_id="remark")

    @response_handler
    async def remarked(self, number: int, remark: str, ctx: WorkflowContext) -> None: ...


def build() -> Workflow:
    return WorkflowBuilder(start_executor=Clerk(id="clerk"), name=WORKFLOW).build()


def build_another_graph() -> Workflow:
    return WorkflowBuilder(start_executor=Clerk(id="another"), name=WORKFLOW).build()


@pytest.fixture(autouse=True)
def _nothing_is_paid() -> Iterator[None]:
    paid.clear()
    yield
    paid.clear()


async def asked(engine: Engine, items: str, run_id: str = "order-1") -> None:
    await build().run(items, checkpoint_storage=engine.storage(actor="the shop").for_run(run_id))
    engine.settle()


async def log(engine: Engine) -> list[CheckpointEvent]:
    engine.settle()
    return [event async for event in engine.open().headers(StreamId(WORKFLOW, "order-1"))]


def words(*words: str, app: str = "build") -> tuple[str, ...]:
    return ("answer", *words, "--app", f"{HERE}:{app}")


async def test_it_answers_and_says_how_the_run_stands_and_what_it_asks_next(engine: Engine, cli: Cli) -> None:
    await asked(engine, "shoes")
    printed = await cli(*words("order", "may-shoes", "--json", "true", "--actor", "ann"))
    assert paid == [("shoes", True)]
    assert printed.out.splitlines()[0] == "Answered. Run order-1 of refund: waiting for 1"
    assert printed.out.splitlines()[1].split()[0].startswith("remark")
    assert [event.actor for event in await log(engine) if event.summary.answered_requests] == ["ann"]

    printed = await cli(*words("order-1", "remark", "--json", "-", "--json-output"), stdin='"thank you"')
    [record] = printed.records
    msgspec.convert(record, type_of("answer"))
    assert (record["kind"], record["run_id"], record["workflow_name"]) == ("answered", "order-1", WORKFLOW)
    assert (record["requests"], record["status"], record["pending_requests"]) == (["remark"], "done", [])


async def test_several_answers_are_given_at_once(engine: Engine, cli: Cli) -> None:
    await asked(engine, "hat boots")
    await cli(*words("order-1", "may-hat", "--json", "true", "--also", "may-boots=false"))
    assert sorted(paid) == [("boots", False), ("hat", True)]


REFUSED: list[tuple[str, list[str], int, str]] = [
    ("a wrong type", ["order-1", "may-hat", "--json", '"yes"'], 2, "takes bool"),
    ("no JSON", ["order-1", "may-hat", "--json", "yes"], 2, "--json takes JSON"),
    ("a name twice", ["order-1", "may-hat", "--json", '{"a": 1, "a": 2}'], 2, "--json gives 'a' twice"),
    (
        "one twice, spelled otherwise",
        ["order-1", "may-hat", "--json", '[{"b": {"a": 1, "\\u0061": 1}}]'],
        2,
        "'a' twice",
    ),
    (
        "one twice beside",
        ["order-1", "may-hat", "--json", "true", "--also", 'x={"a": 1, "a": 2}'],
        2,
        "--also gives 'a'",
    ),
    ("a request without an answer", ["order-1", "may-hat", "--json", "true", "--also", "may-boots"], 2, "REQUEST=JSON"),
    ("one twice", ["order-1", "may-hat", "--json", "true", "--also", "may-hat=true"], 2, "answered twice"),
    ("a blank request", ["order-1", " ", "--json", "true"], 2, "blank"),
    ("no ttl", ["order-1", "may-hat", "--json", "true", "--ttl", "0"], 2, "--ttl"),
    ("a ttl that is no number", ["order-1", "may-hat", "--json", "true", "--ttl", "nan"], 2, "--ttl"),
    ("a ttl of more than a day", ["order-1", "may-hat", "--json", "true", "--ttl", "100000"], 2, "--ttl"),
    ("an endless wait", ["order-1", "may-hat", "--json", "true", "--wait", "inf"], 2, "--wait"),
    ("a run of no Unicode", ["\udcff", "may-hat", "--json", "true"], 2, "not valid Unicode"),
    ("a request of no Unicode", ["order-1", "\udcff", "--json", "true"], 2, "not valid Unicode"),
    (
        "another of no Unicode",
        ["order-1", "may-hat", "--json", "true", "--also", "\udcff=true"],
        2,
        "not valid Unicode",
    ),
    ("all types", ["order-1", "may-hat", "--json", "true", "--allow", "*"], 2, "--allow"),
    ("sessions", ["order-1", "may-hat", "--json", "true", "--turns"], 2, "--turns"),
    ("no such run", ["cart-1", "may-hat", "--json", "true"], 3, "No run of workflow 'refund' is called 'cart-1'"),
    ("no such request", ["order-1", "may-shoes", "--json", "true"], 6, "was never asked"),
]


@pytest.mark.parametrize(("given", "code", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_what_is_refused_is_one_sentence_and_nothing_is_done(
    engine: Engine, cli: Cli, given: list[str], code: int, says: str
) -> None:
    await asked(engine, "hat boots")
    before = await log(engine)
    printed = await cli(*words(*given), code=code)
    assert says in printed.err
    assert len(printed.err.splitlines()) == 1
    assert (printed.out, paid, await log(engine)) == ("", [], before)


@pytest.mark.parametrize(
    ("app", "code", "says"),
    [
        ("no_such", 4, "has no no_such"),
        ("paid", 4, "cannot be called"),
        ("asked", 4, "builds no workflow"),
        ("build_another_graph", 1, "was saved under another graph"),
    ],
)
async def test_an_application_that_is_none_or_another_by_now_answers_nothing(
    engine: Engine, cli: Cli, app: str, code: int, says: str
) -> None:
    await asked(engine, "hat")
    before = await log(engine)
    printed = await cli(*words("order-1", "may-hat", "--json", "true", app=app), code=code)
    assert says in printed.err
    assert (paid, await log(engine)) == ([], before)


async def test_who_comes_second_gets_code_6_and_is_told_of_the_first(engine: Engine, cli: Cli) -> None:
    await asked(engine, "hat")
    await cli(*words("order-1", "may-hat", "--json", "false", "--actor", "ann"))
    second = await cli(*words("order-1", "may-hat", "--json", "true", "--json-output"), code=6)
    [error] = second.of("error")
    [first] = [event for event in await log(engine) if event.summary.answered_requests]
    assert (error["code"], error["request_id"], error["state"]) == (6, "may-hat", "answered")
    assert error["answer"] == {"actor": "ann", "recorded_at": first.recorded_at, "seq": first.seq}
    assert paid == [("hat", False)]


async def test_a_run_that_somebody_else_has_gets_code_6(engine: Engine, cli: Cli) -> None:
    await asked(engine, "hat")
    storage: EventCheckpointStorage = engine.storage(actor="ann")
    async with storage.for_run("order-1", workflow_name=WORKFLOW).claim():
        before = await log(engine)
        printed = await cli(*words("order-1", "may-hat", "--json", "true", "--wait", "0.01"), code=6)
        assert "ann" in printed.err
        assert (paid, await log(engine)) == ([], before)


@pytest.mark.parametrize("item", RAISES)
async def test_whatever_a_workflow_raises_is_told_in_a_line_with_code_1_and_that_the_answer_is_on_record(
    engine: Engine, cli: Cli, item: str
) -> None:
    await asked(engine, item)
    printed = await cli(*words("order-1", f"may-{item}", "--json", "true"), code=1)
    stands = "failed" if issubclass(RAISES[item], Exception) else "running"  # what ends a program says nothing of a run
    assert printed.err.splitlines() == [
        f"eventckpt: The workflow failed: {RAISES[item].__name__}: {item}. The answer is on record, and the run is "
        f"{stands}."
    ]


def build_nothing() -> Workflow:
    raise Odd("no workflow")


async def test_code_that_ends_the_program_while_it_builds_is_told_with_code_4(engine: Engine, cli: Cli) -> None:
    await asked(engine, "hat")
    printed = await cli(*words("order-1", "may-hat", "--json", "true", app="build_nothing"), code=4)
    assert printed.err.splitlines() == ["eventckpt: Code of the application ended the program: Odd: no workflow."]
    assert paid == []


CLOSED: list[tuple[str, str, int, str, bool]] = [
    ("standard input", "--json - <&-", 2, "standard input is closed", False),
    ("standard input that is no text", "--json - <<< $'\\xff'", 2, "--json", False),
    ("output", "--json true >&-", 0, "", True),
    ("errors", "--json true 2>&-", 0, "", True),
    ("full output", "--json true >/dev/full", 4, "The answer was given. What there is to print", True),
    ("full output of JSON", "--json true --json-output >/dev/full", 4, "The answer was given. What there is", True),
]


@pytest.mark.parametrize(
    ("redirected", "code", "says", "is_given"), [row[1:] for row in CLOSED], ids=[row[0] for row in CLOSED]
)
async def test_an_input_or_output_that_is_closed_or_full_is_no_traceback(
    tmp_path: Path, redirected: str, code: int, says: str, is_given: bool
) -> None:
    engine = SqliteEngine(tmp_path / "store.db")
    await asked(engine, "hat")
    command = f"{sys.executable} -m eventckpt.cli {' '.join(words('order-1', 'may-hat'))} {redirected}"
    env = {**os.environ, "EVENTCKPT_STORE": str(engine.path), "PYTHONWARNINGS": "ignore"}
    ended = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", command], env=env, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == code
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == (1 if says else 0)
    assert any(event.summary.answered_requests for event in await log(engine)) is is_given
    await engine.close()


async def test_types_of_the_application_are_named_as_its_storages_name_them(engine: Engine, cli: Cli) -> None:
    """The way in which a command tells that a type is missing is that of all the others."""
    assert sys.modules[HERE]
    help_text = (await cli("answer", "--help")).out
    assert "--allow" in help_text
    assert "--json-output" in help_text
