"""`eventckpt-web`, as a person starts it: another process, judged by what it says, serves and ends with."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from eventckpt import SqliteEventStore, StreamId
from eventckpt.location import open_store
from eventckpt.rendering.trees import plain_tree
from eventckpt.stores.conformance import make_event
from eventckpt.version import said
from eventckpt.web.opened import Opened
from eventckpt.web.program import app
from eventckpt.web.serving import DEFAULT_PORT, listening

from ..cli.conftest import ORDER, environment, order_run
from ..cli.programs import called
from ..cli.test_answer import asked, log
from ..engines import Engine, SqliteEngine
from .answering import Browser
from .html import read

pytestmark = pytest.mark.slow  # a process for each

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
TERMINATED = (signal.SIGINT, signal.SIGTERM)


class Program:
    """The viewer in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address

    async def ended(self, number: signal.Signals = signal.SIGTERM) -> tuple[int | None, str, str]:
        """Its exit code after a signal, and all else that it has printed."""
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            out, err = await self.process.communicate()
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(engine: Engine, *words: str, port: str = "0") -> AsyncGenerator[Program, None]:
    options = [*words, *(["--port", port] if port else [])]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eventckpt.web", *options),
        env={**os.environ, **environment(engine), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode()
        yield Program(process, line.strip())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def refused(*words: str, code: int, **env: str) -> str:
    """What it says where it does not start."""
    ended = CliRunner().invoke(app, list(words), env={"EVENTCKPT_STORE": "", "AZURE_COSMOS_ENDPOINT": "", **env})
    assert (ended.exit_code, ended.stdout) == (code, ""), ended.output
    return ended.stderr


async def raw(address: str, request: bytes) -> bytes:
    """All that is said to bytes that may be no request. Whoever says it may hang up before all of them came: then the
    system tells of that, by an error, and has what was said still, which asyncio's streams would drop."""

    def answer() -> bytes:
        url = httpx.URL(address)
        found = bytearray()
        with socket.create_connection((url.host, url.port), timeout=PATIENCE) as there:
            with suppress(ConnectionError):
                there.sendall(request)
            with suppress(ConnectionError):
                while part := there.recv(65_536):
                    found += part
        return bytes(found)

    return await asyncio.to_thread(answer)


@pytest.mark.parametrize("number", TERMINATED)
async def test_it_says_where_it_is_serves_the_store_and_ends_at_a_signal(
    engine: Engine, number: signal.Signals
) -> None:
    await order_run(engine, steps=2)
    engine.settle()
    async with started(engine) as program, httpx.AsyncClient(timeout=PATIENCE) as client:
        answer = await client.get(f"{program.address}runs")
        assert "order-1" in answer.text
        assert "server" not in answer.headers
        assert program.address == f"http://127.0.0.1:{httpx.URL(program.address).port}/"
        assert await program.ended(number) == (0, "", "")


async def test_it_looks_where_a_projector_has_kept_up_and_else_at_the_log(engine: Engine) -> None:
    await order_run(engine, steps=2)
    engine.settle()
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        async with started(engine) as program:
            assert "more." not in (await client.get(f"{program.address}runs?format=jsonl")).text
            before = await client.get(program.address, follow_redirects=True)
        assert "from the log" in read(before.text).one("footer").text
        assert (await called("eventckpt-projector", ["rebuild"], environment(engine))).code == 0
        engine.settle()
        async with started(engine) as program:
            after = await client.get(program.address, follow_redirects=True)
        async with started(engine, "--latest", "log") as program:
            told = await client.get(program.address, follow_redirects=True)
    assert "from the projection" in read(after.text).one("footer").text
    assert "from the log" in read(told.text).one("footer").text


async def test_it_tells_how_the_projector_stands_as_that_tells_it(engine: Engine) -> None:
    await order_run(engine, steps=2)
    assert (await called("eventckpt-projector", ["rebuild"], environment(engine))).code == 0
    engine.settle()
    async with started(engine) as program, httpx.AsyncClient(timeout=PATIENCE) as client:
        lines = (await client.get(f"{program.address}operations?format=jsonl")).text.splitlines()
    told = json.loads((await called("eventckpt-projector", ["status", "--json"], environment(engine))).out)
    assert told["ranges"]
    assert [json.loads(line) for line in lines] == [told]


async def test_it_takes_its_own_port_or_a_free_one_where_another_process_has_that(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=1)
    try:
        taken = socket.create_server(("127.0.0.1", DEFAULT_PORT))
    except OSError:
        taken = None  # by another one
    async with started(engine, port="") as program, httpx.AsyncClient() as client:
        assert httpx.URL(program.address).port != DEFAULT_PORT
        assert (await client.get(f"{program.address}runs")).status_code == 200
    if taken is not None:
        taken.close()
        with listening(None) as place:
            assert place.getsockname() == ("127.0.0.1", DEFAULT_PORT)
    await engine.close()


async def test_what_is_no_request_is_answered_in_short_and_no_byte_of_it_comes_through_the_log(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=1)
    async with started(engine) as program:
        port = str(httpx.URL(program.address).port).encode()
        host = b"Host: 127.0.0.1:" + port + b"\r\n"
        for request, status in [
            (b"\x1b[31mGET / HTTP/1.1\r\n\r\n", b"400"),
            (b"GET /runs\x1b[31m HTTP/1.1\r\n" + host + b"\r\n", b"400"),
            (b"GET /runs HTTP/1.1\r\n\r\n", b"400"),
            (b"GET /runs HTTP/1.1\r\n" + host + host + b"\r\n", b"400"),
            (b"GET /runs HTTP/1.0\r\n\r\n", b"421"),
            (b"GET http://evil.example/runs HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n", b"404"),
            (b"GET /runs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"421"),
            (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + host + b"\r\n", b"41"),
            (b"CONNECT evil.example:80 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n", b"40"),
            (b"GET /runs HTTP/1.1\r\n" + host + b"Upgrade: websocket\r\nConnection: upgrade, close\r\n\r\n", b"400"),
        ]:
            said = await raw(program.address, request)
            assert said.split(b" ")[1].startswith(status), (request[:60], said[:60])
        code, out, err = await program.ended()
    assert (code, out) == (0, "")
    assert "\x1b" not in err
    assert "Traceback" not in err
    assert "evil.example" not in err
    await engine.close()


async def test_a_connection_that_is_kept_open_keeps_it_from_ending_no_longer(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, steps=1)
    async with started(engine) as program, httpx.AsyncClient(timeout=PATIENCE) as client:
        await client.get(f"{program.address}runs")
        assert (await program.ended())[0] == 0
    await engine.close()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "Which store?"),
        (("--store", "https://user:s3cret@account.example/"), 2, "not shown"),
        (("--store", "none.db"), 4, "There is no store at"),
        (("--store", "good.db", "--latest", "none"), 2, "--latest is log, projection, auto"),
        (("--store", "good.db", "--allow", "no type"), 2, "--allow: "),
        (("--store", "damaged.db"), 4, "damaged.db"),
        (("--store", "."), 4, "There is no store"),
        (("--store", "good.db", "--port", "70000"), 2, "port"),
        (("--store", "good.db", "--host", "0.0.0.0"), 2, "No such option"),
    ],
    ids=str,
)
async def test_what_cannot_be_served_is_said_in_a_sentence_with_the_exit_code_of_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with SqliteEventStore("good.db") as store:
        await store.append(make_event(StreamId("orders", "r1"), 1))
    Path("damaged.db").write_bytes(b"no store" * 1_000)  # noqa: ASYNC240
    told = await asyncio.to_thread(refused, *words, code=code)
    assert says in told
    assert "s3cret" not in told
    assert "Traceback" not in told
    assert sorted(os.listdir()) == ["damaged.db", "good.db"], "looking makes no file"  # noqa: PTH208


async def test_a_port_of_another_process_is_refused(tmp_path: Path) -> None:
    async with SqliteEventStore(tmp_path / "good.db") as store:
        await store.append(make_event(StreamId("orders", "r1"), 1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["--store", str(tmp_path / "good.db"), "--port", str(taken.getsockname()[1])]
        assert "is taken by another process" in await asyncio.to_thread(refused, *words, code=2)


def test_it_says_its_version_and_its_help() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == said("eventckpt-web")
    helped = CliRunner().invoke(app, ["--help"])
    assert helped.exit_code == 0
    for option in ("--store", "--port", "--latest", "--allow", "--version", "Exit codes"):
        assert option in helped.stdout


def test_without_its_extra_it_says_what_to_install() -> None:
    """In an interpreter that finds nothing of the extra."""
    code = (
        "import sys\n"
        "for name in ('starlette', 'jinja2', 'markupsafe', 'uvicorn', 'typer'): sys.modules[name] = None\n"
        "from eventckpt.web.program import main\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 2
    assert "it needs the web extra" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("allow", [(), (ORDER,)], ids=["none", "its type"])
async def test_values_of_types_that_are_allowed_are_shown(engine: Engine, allow: Sequence[str]) -> None:
    await order_run(engine, steps=2)
    engine.settle()
    env = {**os.environ, **environment(engine)}
    async with Opened(partial(open_store, read_only=True, environ=env), allow=allow) as opened:
        audit = await opened.audit()
        tree = await audit.tree(await audit.event("order-1@2"))
    assert ("not_shown" in plain_tree(tree["state"])["order"]) == (not allow)


def test_who_may_answer_is_said_whole_or_not_at_all(tmp_path: Path) -> None:
    store, file = str(tmp_path / "events.db"), tmp_path / "token"
    file.write_text("short")
    app_of = ("--app", "tests.cli.test_answer:build")
    assert "add --allow-answers" in refused("--store", store, *app_of, code=2)
    assert "add --allow-answers" in refused("--store", store, "--token-file", str(file), code=2)
    assert "needs --app" in refused("--store", store, "--allow-answers", code=2)
    said = refused("--store", store, "--allow-answers", *app_of, "--token-file", str(file), code=2)
    assert "22 to 1,000 characters" in said
    assert "short" not in said
    assert "short" not in refused("--store", store, "--allow-answers", *app_of, code=2, EVENTCKPT_WEB_TOKEN="short")


async def test_it_answers_with_the_token_that_it_prints_once(engine: Engine) -> None:
    await asked(engine, "shoes")
    query = {"run": "order-1", "workflow": "refund", "request": "may-shoes"}
    words = ("--allow-answers", "--app", "tests.cli.test_answer:build")
    async with started(engine, *words) as program:
        token = program.address.removeprefix("Token for answering: ")
        assert len(token) >= 22
        assert program.process.stdout is not None
        address = httpx.URL((await program.process.stdout.readline()).decode().strip())
        assert re.fullmatch(r"eventckpt-web-[0-9a-f]{24}\.localhost", address.host)
        there, asked_by = f"http://127.0.0.1:{address.port}", {"host": f"{address.host}:{address.port}"}
        async with httpx.AsyncClient(base_url=there, timeout=PATIENCE) as client:
            eve = Browser(client)
            assert (await eve.page("/inbox")).table().rows
            assert (await eve.sign_in("eve", token)).status_code == 403
            said = await client.get("/sign-in")
            assert (said.status_code, address.host in said.text) == (403, False)
        async with httpx.AsyncClient(base_url=there, headers=asked_by, timeout=PATIENCE) as client:
            ann = Browser(client)
            assert (await ann.sign_in("ann", token)).status_code == 303
            form = (await ann.page("/inbox/question", **query)).form("/inbox/question")
            assert (await ann.post(form.action, response="true", **form.fields)).status_code == 303
        code, out, err = await program.ended()
    assert (code, token in out + err) == (0, False)
    assert [event.actor for event in await log(engine) if event.summary.answered_requests] == ["ann"]
