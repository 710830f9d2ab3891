"""samples/web_service, asked over HTTP as its clients ask it: servers in processes of their own, over one store.

The payment provider is the test itself, which so sees each effect, and can keep a step waiting in its middle.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from agent_framework import Executor, WorkflowBuilder, WorkflowContext, handler

from .engines import Engine, SqliteEngine
from .projections.commands import PATIENCE
from .test_samples import SAMPLES
from .web_servers import LIMITS, LOOK, Provider, Server, events, locked, sent, served, statuses

pytestmark = pytest.mark.slow  # a process for each server


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def sqlite_engine(tmp_path: Path) -> AsyncGenerator[Engine]:
    made = SqliteEngine(tmp_path / "checkpoints.db")
    yield made
    await made.close()


@pytest.fixture
async def server(sqlite_engine: Engine, provider: Provider) -> AsyncGenerator[Server]:
    async with served(sqlite_engine, provider) as made:
        yield made


def test_the_limits_are_those_that_an_author_is_told() -> None:
    for told in (SAMPLES / "web_service" / "__init__.py", SAMPLES.parent / "docs" / "web-service.md"):
        assert " ".join(LIMITS) in re.sub(r"[\s\\]+", " ", told.read_text(encoding="utf-8"))


# One server


async def test_a_small_refund_is_paid_at_once_and_a_large_one_when_a_person_said_yes(
    engine: Engine, provider: Provider
) -> None:
    async with served(engine, provider) as server:
        assert (await server.start("small", euros=20)).status_code == 201
        assert (await server.stands("small", "done"))["result"] == "paid"

        begun = await server.start("large")
        assert (begun.status_code, begun.headers["Location"]) == (201, "/runs/large")
        [question] = await server.asked()
        assert question["text"] == "May c-17 have 180 euros back?"
        assert question.items() >= {"run": "large", "customer": "c-17", "answer": "builtins:bool"}.items()
        assert (await server.stands("large", "waiting"))["questions"] == [question]

        answered = await server.answer(question)
        assert (answered.status_code, answered.json()["status"], answered.json()["result"]) == (200, "done", "paid")
    assert provider.paid == {"small": 1, "large": 1}


async def test_what_is_refused_is_not_paid(server: Server, provider: Provider) -> None:
    await server.start("r-1")
    [question] = await server.asked()
    assert (await server.answer(question, body=False)).json()["result"] == "refused"
    assert provider.asked == []


async def test_the_second_answer_is_told_what_the_first_one_was(server: Server, provider: Provider) -> None:
    await server.start("r-1")
    [question] = await server.asked()
    await server.answer(question, user="mr-okafor")

    second = await server.answer(question, body=False, user="ms-lind")

    assert second.status_code == 409
    first = second.json()["first"]
    assert (first["by"], first["answer"]) == ("mr-okafor", True)
    assert re.match(r"\d{4}-\d\d-\d\dT", first["at"])
    assert provider.paid == {"r-1": 1}


async def test_a_start_that_is_repeated_is_no_second_run(server: Server, provider: Provider) -> None:
    starts = await asyncio.gather(*(server.start("r-1", euros=20) for _ in range(5)))
    assert sorted(each.status_code for each in starts) == [200, 200, 200, 200, 201]
    await server.stands("r-1", "done")
    assert (await server.start("r-1", euros=20)).status_code == 200
    assert (await server.start("r-1", euros=21)).status_code == 409, "that id is another refund's"
    assert provider.asked == ["r-1"]


async def test_a_run_without_an_id_gets_one(server: Server) -> None:
    ids = {(await server.start()).json()["id"] for _ in range(2)}
    assert len(ids) == 2


async def test_the_inbox_is_paged_longest_wait_first_and_asked_for_by_customer(server: Server) -> None:
    for number in range(5):
        await server.start(f"r-{number}", customer=f"c-{number % 2}")
        await server.stands(f"r-{number}", "waiting")
    await server.asked(times=5)

    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await server.get("/questions", params={"limit": 2, **after})).json()
        found += [each["run"] for each in page["questions"]]
        if page["after"] is None:
            break
        after = {"after": page["after"]}
    assert found == [f"r-{number}" for number in range(5)]
    assert [each["run"] for each in await server.asked(times=2, customer="c-1")] == ["r-1", "r-3"]


async def test_an_answer_that_goes_on_for_long_is_accepted_and_the_client_does_not_wait(
    server: Server, provider: Provider
) -> None:
    provider.open.clear()
    await server.start("r-1")
    [question] = await server.asked()
    answered = await server.answer(question)
    assert (answered.status_code, answered.json()["status"]) == (202, "running")
    provider.open.set()
    await server.stands("r-1", "done")
    assert provider.paid == {"r-1": 1}


async def test_what_fails_is_noted_in_the_run_without_what_it_says_of_the_customer_and_is_not_tried_again(
    server: Server, provider: Provider
) -> None:
    provider.refuses = True
    await server.start("r-1", euros=20, customer="mallory")
    failed = await server.stands("r-1", "failed")
    assert failed["reason"].startswith("RefusedError at tests.paying_service:pay, line ")
    assert not any("mallory" in line or "no money" in line for line in server.lines)

    provider.refuses = False
    assert (await server.start("r-1", euros=20, customer="mallory")).json()["status"] == "failed"
    await server.start("r-2", euros=20)
    await server.stands("r-2", "done")
    assert provider.asked == ["r-1", "r-2"]


async def test_what_fails_after_an_answer_is_told_to_who_answered_and_is_not_tried_again(
    engine: Engine, provider: Provider
) -> None:
    provider.refuses = True
    async with served(engine, provider) as one, served(engine, provider) as other:
        await one.start("r-1")
        [question] = await one.asked()
        said = await one.answer(question)
        assert (said.status_code, said.json()["status"]) == (200, "failed")
        assert said.json()["reason"].startswith("RefusedError at tests.paying_service:pay, line ")
        assert (await other.answer(question)).status_code == 409, "the answer counts"

        provider.refuses = False
        await other.start("r-2", euros=20)
        await one.stands("r-2", "done")
        assert provider.asked == ["r-1", "r-2"]


async def test_no_more_goes_on_at_once_than_may_whatever_it_is_that_goes_on(
    sqlite_engine: Engine, provider: Provider
) -> None:
    runs = ["r-0", "r-1", "r-2"]
    async with served(sqlite_engine, provider, most=2, patience=0.5) as server:
        for run_id in runs:
            await server.start(run_id)
        first, second, third = [(await server.stands(run_id, "waiting"))["questions"][0] for run_id in runs]
        provider.open.clear()
        for number, question in enumerate((first, second), start=1):
            assert (await server.heard(question)).status_code == 202
            await provider.was_asked(number)

        refused = await server.answer(third)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert (await server.start("small", euros=20)).status_code == 201, "it goes on when there is room"
        assert (await server.get("/runs/r-2")).json()["questions"] == [third]
        assert provider.asked == ["r-0", "r-1"]

        provider.open.set()
        assert (await server.heard(third)).status_code == 200
        for run_id in (*runs, "small"):
            await server.stands(run_id, "done")
    assert provider.paid == dict.fromkeys((*runs, "small"), 1)


async def test_what_is_not_on_record_is_never_said_to_be(
    sqlite_engine: Engine, provider: Provider, tmp_path: Path
) -> None:
    async with served(sqlite_engine, provider, patience=0.5) as server:
        await server.start("r-1")
        [question] = await server.asked()
        with locked(tmp_path / "checkpoints.db"):
            for said in (await server.answer(question), await server.start("named"), await server.start()):
                assert (said.status_code, said.headers["Retry-After"]) == (503, "1")
            made: str = said.json()["id"]

        for run_id in ("named", made):
            assert (await server.start(run_id)).status_code in (200, 201), "by the id that it was told"
        assert "is on record" in await server.said("The answer to")
        assert (await server.answer(question)).status_code == 409
        await server.stands("r-1", "done")
    assert provider.paid == {"r-1": 1}


async def test_an_answer_that_was_not_on_record_when_its_server_was_killed_may_be_given_again(
    sqlite_engine: Engine, provider: Provider, tmp_path: Path
) -> None:
    async with served(sqlite_engine, provider, patience=0.5) as server:
        await server.start("r-1")
        [question] = await server.asked()
        with locked(tmp_path / "checkpoints.db"):
            assert (await server.answer(question)).status_code == 503
            await server.killed()
    async with served(sqlite_engine, provider) as again:
        assert (await again.answer(question, body=False)).json()["result"] == "refused"
    assert provider.asked == []


# What is refused

NO_TEXT = [b"\xff", b"\x80", b"c\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "é".encode("latin-1")]
"""What is no UTF-8."""
STARTS_NOTHING = [
    b"",
    b"not json",
    b"[" * 10_000,
    b"\xff\xfe",
    b"{}",
    b'{"customer": "c-17"}',
    b'{"customer": "", "euros": 20}',
    b'{"customer": " \\u2003", "euros": 20}',
    b'{"customer": "\\ud800", "euros": 20}',
    *(b'{"customer": "%b", "euros": 20}' % text for text in NO_TEXT),
    *(b'{"%b": "c-17"}' % text for text in NO_TEXT),
    b'{"customer": "' + b"c" * 101 + b'", "euros": 20}',
    b'{"customer": "c-17", "euros": "20"}',
    b'{"customer": "c-17", "euros": 0}',
    b'{"customer": "c-17", "euros": 1e99}',
    b'{"customer": "c-17", "euros": 20, "more": 1}',
    b'{"customer": "c-17", "euros": 20, "id": "../etc"}',
    b'{"customer": "c-17", "euros": 20, "id": "r~1"}',
    b'{"customer": "c-17", "euros": 20, "id": "r-1\\n"}',
    b'{"customer": "c-17", "euros": 20, "id": ""}',
]
ANSWERS_NOTHING = [
    b"",
    b"not json",
    b"null",
    b'"yes"',
    b"1",
    b"[true]",
    b'{"granted": true}',
    b"[" * 10_000,
    b"9" * 10_000,
]
ANSWERS_NOTHING += [form % text for text in NO_TEXT for form in (b'"%b"', b'{"%b": true}', b'["%b"]', b"%b")]


async def test_a_body_of_the_wrong_form_is_refused_before_anything_runs(
    server: Server, provider: Provider, sqlite_engine: Engine
) -> None:
    assert await statuses(server, "/runs", STARTS_NOTHING) == dict.fromkeys(STARTS_NOTHING, 400)

    await server.start("r-1")
    [question] = await server.asked()
    before = await events(sqlite_engine, "r-1")
    path = f"/runs/r-1/answers/{question['request']}"
    assert await statuses(server, path, ANSWERS_NOTHING) == dict.fromkeys(ANSWERS_NOTHING, 400)

    assert await events(sqlite_engine, "r-1") == before
    assert (await server.get("/runs/r-1")).json()["questions"] == [question]
    assert provider.asked == []


async def test_a_body_that_is_too_large_is_not_read_to_its_end(server: Server) -> None:
    assert (await sent(server, length=1 << 40, begins=b" " * 20_000)).startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_sends_no_more_is_told_so_while_others_are_served(server: Server) -> None:
    slow = asyncio.create_task(sent(server, length=100, begins=b"{"))

    assert (await server.start("r-1", euros=20)).status_code == 201
    await server.stands("r-1", "done")

    assert (await slow).startswith(b"HTTP/1.1 408 ")


async def test_who_does_not_say_who_they_are_gets_nothing(server: Server) -> None:
    for method, path in [("POST", "/runs"), ("GET", "/runs/r-1"), ("GET", "/questions"), ("POST", "/runs/r/answers/q")]:
        for who, status in [("", 401), ("\xa0", 401), ("ü" * 101, 401), *((text, 400) for text in NO_TEXT)]:
            name = who.encode() if isinstance(who, str) else who
            refused = await server.client.request(method, path, content=b"true", headers=[(b"X-User", name)])
            assert refused.status_code == status, (path, who)


async def test_who_answered_is_kept_as_it_is_written_anywhere(server: Server) -> None:
    for number, who in enumerate(("Jürgen", "李小龙", "Ω" * 100)):
        await server.start(f"r-{number}")
        run = await server.stands(f"r-{number}", "waiting")
        for status in (200, 409):
            said = await server.answer(run["questions"][0], user=who)
            assert said.status_code == status
        assert said.json()["first"]["by"] == who


async def test_what_is_not_there_is_not_found(server: Server) -> None:
    await server.start("r-1")
    [question] = await server.asked()
    known = question["request"]
    for run_id, request in [("r-1", "unknown"), ("r-1", "%20"), ("r-1", "%ff"), ("r-2", known), ("r~1", known)]:
        assert (await server.answer({"run": run_id, "request": request})).status_code == 404, (run_id, request)
    for path in ("/runs/r-2", "/runs/r-1/", "/runs/..%2F", "/runs/%0a", "/elsewhere"):
        assert (await server.get(path)).status_code == 404, path
    for name, value in [("after", "no page"), ("after", ""), ("limit", "0"), ("limit", "101"), ("limit", "x")]:
        assert (await server.get("/questions", params={name: value})).status_code == 400, (name, value)
    for customer in (" ", "c" * 101):
        assert (await server.get("/questions", params={"customer": customer})).status_code == 400


async def test_a_question_of_a_cancelled_run_counts_no_more(
    server: Server, provider: Provider, sqlite_engine: Engine
) -> None:
    await server.start("r-1")
    [question] = await server.asked()
    await sqlite_engine.storage().for_run("r-1", workflow_name="refund").annotate(outcome="cancelled")

    assert (await server.answer(question)).status_code == 410
    assert await server.asked(times=0) == []
    assert provider.asked == []


@dataclass
class Unknown:
    """What the service has no class for."""


class Elder(Executor):
    """Asks as the clerk does, in a version of the workflow that the service was before."""

    @handler
    async def asks(self, about: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(about if about == "text" else Unknown(), bool, request_id="q")


@pytest.mark.parametrize(("about", "status"), [("text", 200), ("what is not known", 503)])
async def test_a_run_that_this_version_cannot_read_or_go_on_with_is_left_alone_and_says_so(
    server: Server, sqlite_engine: Engine, about: str, status: int
) -> None:
    storage = sqlite_engine.storage(allowed_checkpoint_types=[f"{__name__}:Unknown"])
    elder = WorkflowBuilder(start_executor=Elder(id="clerk"), name="refund").build()
    await elder.run(about, checkpoint_storage=storage.for_run("r-1"))
    [question] = await server.asked()
    before = await events(sqlite_engine, "r-1")

    refused = await server.answer(question)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "this version of the service" in refused.json()["error"]
    assert (await server.get("/runs/r-1")).status_code == status
    assert await events(sqlite_engine, "r-1") == before
    await server.said(f"/runs/r-1/answers/{question['request']}: ")


# Two servers, and servers that die


async def test_two_servers_list_one_question_and_of_two_answers_at_once_one_counts(
    engine: Engine, provider: Provider
) -> None:
    async with served(engine, provider) as one, served(engine, provider) as other:
        await one.start("r-1")
        [[question], [same]] = await asyncio.gather(one.asked(), other.asked())
        assert question == same

        answers = await asyncio.gather(one.answer(question, user="one"), other.answer(question, user="other"))

        assert sorted(each.status_code for each in answers) == [200, 409]
        [winner] = [user for user, each in zip(("one", "other"), answers, strict=True) if each.status_code == 200]
        [first] = [each.json()["first"] for each in answers if each.status_code == 409]
        assert (first["by"], first["answer"]) == (winner, True)
        for server in (one, other):
            assert (await server.stands("r-1", "done"))["result"] == "paid"
    assert provider.asked == ["r-1"]


async def test_two_servers_that_start_one_run_at_once_start_it_once(engine: Engine, provider: Provider) -> None:
    async with served(engine, provider) as one, served(engine, provider) as other:
        for number in range(5):
            run_id = f"r-{number}"
            starts = await asyncio.gather(one.start(run_id, euros=20), other.start(run_id, euros=20))
            assert sorted(each.status_code for each in starts) == [200, 201]
            await one.stands(run_id, "done")
    assert provider.asked == [f"r-{number}" for number in range(5)]
    assert {stream.run_id async for stream in engine.open().streams()} == {*provider.asked}, "and nothing is forked"


async def test_an_answer_while_another_server_goes_on_for_long_is_told_to_come_again(
    engine: Engine, provider: Provider
) -> None:
    provider.open.clear()
    async with served(engine, provider) as one, served(engine, provider) as other:
        await one.start("r-1")
        [question] = await other.asked()
        first = asyncio.create_task(one.answer(question))
        await provider.was_asked(1)
        second = await other.answer(question)
        assert second.status_code in (409, 423)
        assert second.status_code == 409 or second.headers["Retry-After"] == "1"
        assert (await first).status_code == 202
        provider.open.set()
        await other.stands("r-1", "done")
        assert (await other.answer(question)).status_code == 409
    assert provider.asked == ["r-1"]


async def test_a_run_whose_server_is_killed_in_the_middle_of_a_step_goes_on_when_it_is_started_again(
    engine: Engine, provider: Provider
) -> None:
    provider.open.clear()
    async with served(engine, provider, ttl=4) as server:
        await server.start("asks")
        [question] = await server.asked()
        answering = asyncio.create_task(server.answer(question))
        await server.start("pays", euros=20)
        await provider.was_asked(2)
        await server.killed()
        with pytest.raises(httpx.TransportError):
            await answering
    provider.open.set()

    async with served(engine, provider, ttl=4) as again:
        for run_id in ("asks", "pays"):
            assert (await again.stands(run_id, "done"))["result"] == "paid"
        assert (await again.answer(question)).status_code == 409, "that it was answered outlived the server"
    assert provider.paid == {"asks": 1, "pays": 1}


async def test_a_run_whose_server_is_killed_goes_on_at_another_one(engine: Engine, provider: Provider) -> None:
    provider.open.clear()
    async with served(engine, provider, ttl=4) as one, served(engine, provider, ttl=4) as other:
        await one.start("r-1", euros=20)
        await one.start("waits")
        await provider.was_asked(1)
        await one.stands("waits", "waiting")
        await one.killed()
        provider.open.set()

        await other.stands("r-1", "done")
        assert [each["run"] for each in await other.asked()] == ["waits"]
    assert provider.paid == {"r-1": 1}


async def test_a_server_that_is_told_to_stop_lets_runs_end_and_leaves_nothing_to_wait_for(
    engine: Engine, provider: Provider
) -> None:
    provider.open.clear()
    async with served(engine, provider) as server:
        await server.start("r-1", euros=20)
        await provider.was_asked(1)
        server.process.send_signal(signal.SIGTERM)
        await server.said("Waiting for application shutdown")
        provider.open.set()
        assert await server.ended() in (0, -signal.SIGTERM)
    async with served(engine, provider) as again:
        assert (await again.get("/runs/r-1")).json()["status"] == "done"
        await again.start("asks")
        await again.answer((await again.asked())[0])
    assert provider.paid == {"r-1": 1, "asks": 1}


async def test_a_server_tells_whether_it_does_its_work(server: Server, tmp_path: Path) -> None:
    assert (await server.client.get("/healthz")).status_code == 200

    (tmp_path / "checkpoints.db").rename(tmp_path / "elsewhere.db")

    async with asyncio.timeout(PATIENCE):
        while (await server.client.get("/healthz")).status_code != 503:  # noqa: ASYNC110 - another process
            await asyncio.sleep(LOOK)
    refused = await server.start("r-1")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert str(tmp_path) not in refused.text
