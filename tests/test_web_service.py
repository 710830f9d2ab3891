"""samples/web_service, asked over HTTP as its clients ask it: servers in processes of their own, over one store.

The payment provider is the test itself, which so sees each effect, and can keep a step waiting in its middle.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from eventckpt import CheckpointEvent, StreamId

from .engines import Engine, SqliteEngine
from .paying_service import PROVIDER, TTL
from .projections.commands import PATIENCE, Worker, place
from .projections.rig import Rig
from .test_samples import SAMPLES

pytestmark = pytest.mark.slow  # a process for each server

LIND = {"X-User": "ms-lind"}
LIMITS = ("--limit-concurrency", "200", "--timeout-graceful-shutdown", "20")
LOOK = 0.02
"""Seconds between two looks at another process, which has no event to wait for."""


class Provider:
    """Pays once for each id, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.paid: dict[str, int] = {}
        self.refuses = False
        self.open = asyncio.Event()
        self.open.set()
        self._more = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refund = (await reader.readline()).decode().strip()
        async with self._more:
            self.asked.append(refund)
            self._more.notify_all()
        gone = asyncio.ensure_future(reader.read())
        held = asyncio.ensure_future(self.open.wait())
        await asyncio.wait({gone, held}, return_when=asyncio.FIRST_COMPLETED)
        if held.done() and not self.refuses:
            self.paid[refund] = self.paid.get(refund, 0) + 1
            writer.write(b"paid\n")
        for each in (gone, held):
            each.cancel()
        writer.close()

    async def was_asked(self, times: int) -> None:
        async with asyncio.timeout(PATIENCE), self._more:
            await self._more.wait_for(lambda: len(self.asked) >= times)


class Server(Worker):
    """The service in a process of its own."""

    client: httpx.AsyncClient

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, headers=LIND, **options)

    async def start(self, run_id: str | None = None, *, euros: int = 180, customer: str = "c-17") -> httpx.Response:
        named = {} if run_id is None else {"id": run_id}
        return await self.client.post("/runs", json={"customer": customer, "euros": euros, **named}, headers=LIND)

    async def becomes(self, path: str, holds: Callable[[Any], bool], **options: Any) -> Any:
        """What the service says, once it is as a test waits for."""
        async with asyncio.timeout(PATIENCE):
            while not holds(found := (await self.get(path, **options)).json()):  # noqa: ASYNC110 - another process
                await asyncio.sleep(LOOK)
        return found

    async def asked(self, *, times: int = 1, **which: str) -> list[dict[str, Any]]:
        """The inbox, once so many questions are in it."""
        page = await self.becomes("/questions", lambda page: len(page["questions"]) == times, params=which)
        return page["questions"]

    async def stands(self, run_id: str, status: str) -> dict[str, Any]:
        """The run, once it stands so."""
        return await self.becomes(f"/runs/{run_id}", lambda run: run.get("status") == status)

    async def answer(self, question: dict[str, Any], body: object = True, user: str = "mr-okafor") -> httpx.Response:
        path = f"/runs/{question['run']}/answers/{question['request']}"
        return await self.client.post(path, json=body, headers={"X-User": user})


@asynccontextmanager
async def served(engine: Engine, provider: Provider, *, ttl: float = 60) -> AsyncGenerator[Server]:
    """A server over the engine's store, which a test may kill."""
    listening = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    store, settings = place(Rig(engine))
    python_path = os.pathsep.join([str(SAMPLES), str(SAMPLES.parent), os.environ.get("PYTHONPATH", "")])
    environment = {
        "EVENTCKPT_STORE": store,
        "PYTHONPATH": python_path,
        PROVIDER: str(listening.sockets[0].getsockname()[1]),
        TTL: str(ttl),
    }
    command = ("uvicorn", "--factory", "tests.paying_service:create_app", "--port", "0", *LIMITS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, env={**os.environ, **settings, **environment}, stderr=asyncio.subprocess.PIPE
    )
    server = Server(process)
    try:
        said = await server.said("running on")
        address = re.search(r"http://[\d.]+:\d+", said)
        assert address, said
        server.address = address[0]
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as server.client, listening:
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await server.ended()


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


# What is refused

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
ANSWERS_NOTHING = [b"", b"not json", b"null", b'"yes"', b"1", b"[true]", b'{"granted": true}', b"[" * 10_000]


async def statuses(server: Server, path: str, bodies: list[bytes]) -> dict[bytes, int]:
    return {body: (await server.client.post(path, content=body, headers=LIND)).status_code for body in bodies}


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


async def sent(server: Server, *, length: int, begins: bytes) -> bytes:
    """All that is said to a client that begins a body, and only waits then, until it is no longer listened to."""
    address = httpx.URL(server.address)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST /runs HTTP/1.1\r\nHost: here\r\nX-User: slow\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + begins)
    async with asyncio.timeout(PATIENCE):
        said = await reader.read()
    writer.close()
    return said


async def test_who_does_not_say_who_they_are_gets_nothing(server: Server) -> None:
    for method, path in [("POST", "/runs"), ("GET", "/runs/r-1"), ("GET", "/questions"), ("POST", "/runs/r/answers/q")]:
        for who in (b"", b"\xa0", b"u" * 101):
            refused = await server.client.request(method, path, content=b"true", headers=[(b"X-User", who)])
            assert refused.status_code == 401, (path, who)


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


async def events(engine: Engine, run_id: str) -> list[CheckpointEvent]:
    """The run's log."""
    return [header async for header in engine.open().headers(StreamId("refund", run_id))]


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
    async with served(engine, provider, ttl=2) as server:
        await server.start("asks")
        [question] = await server.asked()
        answering = asyncio.create_task(server.answer(question))
        await server.start("pays", euros=20)
        await provider.was_asked(2)
        await server.killed()
        with pytest.raises(httpx.TransportError):
            await answering
    provider.open.set()

    async with served(engine, provider, ttl=2) as again:
        for run_id in ("asks", "pays"):
            assert (await again.stands(run_id, "done"))["result"] == "paid"
        assert (await again.answer(question)).status_code == 409, "that it was answered outlived the server"
    assert provider.paid == {"asks": 1, "pays": 1}


async def test_a_run_whose_server_is_killed_goes_on_at_another_one(engine: Engine, provider: Provider) -> None:
    provider.open.clear()
    async with served(engine, provider, ttl=2) as one, served(engine, provider, ttl=2) as other:
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
        assert not any("Traceback" in line for line in server.lines)
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
