"""Moving conversations: import-from file-history and cosmos-history, and going on with what was moved."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

import pytest
from agent_framework import FileHistoryProvider, Message

from eventckpt import EventHistoryProvider, StreamId

from ..engines import COSMOS_DATABASE, Engine
from ..old_histories import CALLED, Container, answer, question, said, upstreams_container
from .conftest import Cli, order_run

pytestmark = pytest.mark.filterwarnings("ignore:.*FileHistoryProvider is experimental")

Provider = Callable[..., EventHistoryProvider]


@pytest.fixture
def ours(engine: Engine) -> Provider:
    """Another provider over the engine, as another process has it."""

    def provider(source_id: str = "file_history", **options: Any) -> EventHistoryProvider:
        engine.settle()
        return EventHistoryProvider(engine.open(), source_id=source_id, **options)

    return provider


@pytest.fixture
def old(tmp_path: Path) -> FileHistoryProvider:
    return FileHistoryProvider(tmp_path / "old")


@pytest.fixture
async def container() -> AsyncGenerator[Container, None]:
    async with upstreams_container() as container:
        yield container


async def turns_of(engine: Engine, session_id: str, source_id: str = "file_history") -> list[dict[str, int]]:
    """The roles of each turn, as the headers count them."""
    engine.settle()
    async with aclosing(engine.open().sessions().headers(StreamId(source_id, session_id))) as headers:
        return [header.turn.roles async for header in headers if header.turn is not None]


# From files


@pytest.mark.parametrize("written", ["json", "msgpack"])
async def test_a_folder_becomes_sessions_turn_by_turn(
    engine: Engine, cli: Cli, ours: Provider, tmp_path: Path, written: Literal["json", "msgpack"]
) -> None:
    await order_run(engine, steps=1)
    old = FileHistoryProvider(tmp_path / "old", serialization_format=written)
    for session_id in ("plain", "A/b ü"):
        await old.save_messages(session_id, [*CALLED, question(session_id), answer()])
        await old.save_messages(session_id, [question("again"), answer("no")])
    printed = await cli("import-from", "file-history", str(old.storage_path), "--actor", "mover")
    assert printed.out == "16 messages of 2 sessions were read, and 16 were not here yet.\n"
    provider = ours()
    assert await provider.list_sessions() == ["A/b ü", "plain"]
    for session_id in ("plain", "A/b ü"):
        assert said(await provider.get_messages(session_id)) == said(await old.get_messages(session_id))
        assert await turns_of(engine, session_id) == [
            {"user": 1, "assistant": 2, "tool": 1},
            {"user": 1, "assistant": 1},
            {"user": 1, "assistant": 1},
        ]
    async with aclosing(engine.open().sessions().headers(StreamId("file_history", "plain"))) as headers:
        assert {header.actor async for header in headers} == {"mover"}
    assert [run["run_id"] for run in (await cli.json("runs")).of("run")] == ["order-1"]


async def test_importing_again_changes_nothing(
    engine: Engine, cli: Cli, ours: Provider, old: FileHistoryProvider
) -> None:
    await old.save_messages("s", [*CALLED, question("yes"), answer()])
    await cli("import-from", "file-history", str(old.storage_path))
    messages, turns = await ours().get_messages("s"), await turns_of(engine, "s")
    printed = await cli("import-from", "file-history", str(old.storage_path))
    assert printed.out == "6 messages of 1 sessions were read, and 0 were not here yet.\n"
    assert [message.to_dict() for message in await ours().get_messages("s")] == [each.to_dict() for each in messages]
    assert await turns_of(engine, "s") == turns


async def test_what_the_old_store_has_since_is_added_behind(cli: Cli, ours: Provider, old: FileHistoryProvider) -> None:
    await old.save_messages("s", [question("one"), answer()])
    await cli("import-from", "file-history", str(old.storage_path))
    await old.save_messages("s", [question("two"), answer("no")])
    printed = await cli("import-from", "file-history", str(old.storage_path))
    assert printed.out == "4 messages of 1 sessions were read, and 2 were not here yet.\n"
    assert said(await ours().get_messages("s")) == said(await old.get_messages("s"))


async def test_what_went_on_here_since_stays_as_it_is(cli: Cli, ours: Provider, old: FileHistoryProvider) -> None:
    await old.save_messages("s", [question("one"), answer()])
    await cli("import-from", "file-history", str(old.storage_path))
    await ours().save_messages("s", [question("two"), answer("here")])
    before = said(await ours().get_messages("s"))
    assert "and 0 were not here yet" in (await cli("import-from", "file-history", str(old.storage_path))).out
    assert said(await ours().get_messages("s")) == before
    await old.save_messages("s", [question("two"), answer("there")])
    printed = await cli("import-from", "file-history", str(old.storage_path), code=1)
    assert printed.out.startswith(
        "left out session 's' of 'file_history': it went on in both stores: this one has another message at line 3\n"
    )
    assert said(await ours().get_messages("s")) == before


async def test_a_session_that_was_begun_here_is_not_mixed_with_an_old_one_of_its_id(
    cli: Cli, ours: Provider, old: FileHistoryProvider
) -> None:
    await ours().save_messages("s", [question("new"), answer()])
    await old.save_messages("s", [question("old"), answer()])
    await old.save_messages("t", [question("old"), answer()])
    printed = await cli("import-from", "file-history", str(old.storage_path), code=1)
    assert "this one has another message at line 1" in printed.out
    assert [message.text for message in await ours().get_messages("s")] == ["new", "ok"]
    assert [message.text for message in await ours().get_messages("t")] == ["old", "ok"]


@pytest.mark.parametrize("let_go", ["clear", "erase"])
async def test_what_was_cleared_or_erased_does_not_come_back(
    cli: Cli, ours: Provider, old: FileHistoryProvider, let_go: str
) -> None:
    await old.save_messages("s", [question("one"), answer()])
    await cli("import-from", "file-history", str(old.storage_path))
    await getattr(ours(), let_go)("s")
    printed = await cli("import-from", "file-history", str(old.storage_path), code=1)
    assert "left out session 's' of 'file_history': it was cleared or erased here" in printed.out
    assert await ours().get_messages("s") == []


async def test_the_source_that_was_given_is_whose_sessions_they_are(
    cli: Cli, ours: Provider, old: FileHistoryProvider
) -> None:
    await old.save_messages("s", [question()])
    await cli("import-from", "file-history", str(old.storage_path), "--source-id", "mine")
    assert await ours("mine").list_sessions() == ["s"]
    assert await ours().list_sessions() == []


async def test_what_cannot_be_read_is_left_out_and_the_reason_given(
    cli: Cli, ours: Provider, old: FileHistoryProvider
) -> None:
    await old.save_messages("s", [question("one")])
    lines = (old.storage_path / "s.jsonl").read_text(encoding="utf-8") + "{\n" + json.dumps(answer("two").to_dict())
    (old.storage_path / "s.jsonl").write_text(lines, encoding="utf-8")
    os.mkfifo(old.storage_path / "pipe.jsonl")
    (old.storage_path / "empty.jsonl").write_text("", encoding="utf-8")
    (old.storage_path / "~session-sha256-x.jsonl").write_text("", encoding="utf-8")
    printed = await cli("import-from", "file-history", str(old.storage_path), code=1)
    assert "left out line 2 of session 's' of 'file_history': it is not valid JSON" in printed.out
    assert "left out session 'pipe' of 'file_history': the file cannot be read: it is not a regular file" in printed.out
    assert "left out ~session-sha256-x.jsonl: its name tells no session" in printed.out
    records = await cli.json("import-from", "file-history", str(old.storage_path), code=1)
    keys = ["checkpoint_id", "kind", "name", "session_id", "source_id", "type_key", "why"]
    assert [sorted(left) for left in records.of("left_out")] == [keys] * 3
    assert records.of("summary") == [
        {
            "kind": "summary",
            "found": None,
            "saved": None,
            "runs": [],
            "sessions": 3,
            "messages": 2,
            "added": 0,
            "left_out": 3,
        }
    ]
    assert [message.text for message in await ours().get_messages("s")] == ["one", "two"]


async def test_all_that_is_left_out_is_counted_and_the_first_hundred_are_told(
    cli: Cli, old: FileHistoryProvider
) -> None:
    (old.storage_path / "s.jsonl").write_text("{\n" * 250, encoding="utf-8")
    printed = await cli("import-from", "file-history", str(old.storage_path), code=1)
    assert printed.out.count("\n") == 102
    assert "\nleft out 150 more\n" in printed.out


async def test_an_id_that_no_session_here_can_have_is_left_out(cli: Cli, ours: Provider, container: Container) -> None:
    async with container.provider() as theirs:
        await theirs.save_messages("x" * 256, [question()])
        await theirs.save_messages("s", [question()])
    printed = await cli(*words(cli, container), code=1)
    assert "1 to 255 characters" in printed.out
    assert await ours("azure_cosmos_history").list_sessions() == ["s"]


async def test_what_import_from_needs_is_said(cli: Cli, tmp_path: Path) -> None:
    needs = "import-from file-history needs the folder of a FileHistoryProvider."
    assert needs in (await cli("import-from", "file-history", code=2)).err
    assert needs in (await cli("import-from", "file-history", str(tmp_path / "none"), code=2)).err
    twice = ["--source-id", "a", "--source-id", "b"]
    assert "takes one --source-id" in (await cli("import-from", "file-history", str(tmp_path), *twice, code=2)).err
    assert "needs --container" in (await cli("import-from", "cosmos-history", code=2)).err


# From a container


def words(cli: Cli, container: Container, *more: str) -> list[str]:
    """The command for a container, on the account whose key the environment has."""
    cli.env["AZURE_COSMOS_KEY"] = container.key
    where = ["--endpoint", container.endpoint, "--database", COSMOS_DATABASE, "--container", container.name]
    return ["import-from", "cosmos-history", *where, *more]


async def test_a_container_becomes_sessions_each_under_its_own_source(
    cli: Cli, ours: Provider, container: Container
) -> None:
    written: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for source_id in ("azure_cosmos_history", "other"):
        async with container.provider(source_id) as theirs:
            for session_id in ("s", "a/b ü"):
                await theirs.save_messages(session_id, [*CALLED, question(source_id), answer(session_id)])
                written[source_id, session_id] = said(await theirs.get_messages(session_id))
    printed = await cli(*words(cli, container, "--source-id", "other"))
    assert printed.out == "12 messages of 2 sessions were read, and 12 were not here yet.\n"
    assert await ours("azure_cosmos_history").list_sessions() == []
    printed = await cli(*words(cli, container))
    assert printed.out == "24 messages of 4 sessions were read, and 12 were not here yet.\n"
    for (source_id, session_id), messages in written.items():
        assert said(await ours(source_id).get_messages(session_id)) == messages
    assert "and 0 were not here yet" in (await cli(*words(cli, container))).out


async def test_an_item_that_is_in_no_session_is_left_out_and_named(
    cli: Cli, ours: Provider, container: Container
) -> None:
    async with container.provider("a") as theirs:
        await theirs.save_messages("s", [question("one")])
    await container.put({"id": "stray", "session_id": "s", "message": question().to_dict()})
    printed = await cli(*words(cli, container), code=1)
    assert "left out item 'stray': it lacks a session_id, source_id or sort_key" in printed.out
    assert [message.text for message in await ours("a").get_messages("s")] == ["one"]


async def test_a_container_that_is_not_there_is_said_to_be_missing(cli: Cli, container: Container) -> None:
    missing = await cli(*words(cli, container), code=4)
    assert f"There is no container '{container.name}' of database '{COSMOS_DATABASE}'" in missing.err


async def test_a_session_that_was_moved_goes_on_with_the_ids_that_it_was_given(
    ours: Provider, cli: Cli, container: Container
) -> None:
    async with container.provider() as theirs:
        await theirs.save_messages("s", [question("one"), answer()])
    await cli(*words(cli, container))
    state: dict[str, Any] = {}
    provider = ours("azure_cosmos_history")
    moved = await provider.get_messages("s", state=state)
    await provider.save_messages("s", [*moved, Message("user", ["two"])], state=state)
    assert [message.text for message in await ours("azure_cosmos_history").get_messages("s")] == ["one", "ok", "two"]
