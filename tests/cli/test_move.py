"""Moving logs: export, import, import-from, fork; and going on from what was moved with the framework."""

# ruff: noqa: ASYNC240 - the files are small and local, and nothing else runs in the loop meanwhile

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Never
from uuid import uuid4

import pytest
from agent_framework import FileCheckpointStorage, WorkflowBuilder, WorkflowContext, executor

from eventckpt import CheckpointEvent, EventStore, StreamId
from eventckpt.audit.archive import event_line, run_line
from eventckpt.events import SCHEMA
from eventckpt.stores.conformance import make_event
from eventckpt.stores.cosmos.items import item_id, partition_key_of

from ..conftest import cosmos_account
from ..engines import CosmosEngine, Engine, SqliteEngine
from .conftest import ORDER, WORKFLOW, Cli, Order, checkpoint, order_run, stream


@executor(id="double")
async def double(number: int, ctx: WorkflowContext[int]) -> None:
    ctx.set_state("doubled", {number: 2 * number})
    await ctx.send_message(2 * number)


@executor(id="report")
async def report(number: int, ctx: WorkflowContext[Never, int]) -> None:
    await ctx.yield_output(number + ctx.get_state("bonus", 0))


def workflow(name: str = "doubling"):
    return WorkflowBuilder(start_executor=double, name=name, output_from=[report]).add_edge(double, report).build()


async def log(store: EventStore, of: StreamId) -> list[CheckpointEvent]:
    headers = [header async for header in store.headers(of)]
    return await store.read(of, *(header.seq for header in headers))


@asynccontextmanager
async def other_engine(engine: Engine, folder: Path) -> AsyncGenerator[Engine, None]:
    """An empty store of the other kind."""
    if isinstance(engine, CosmosEngine):
        other: Engine = SqliteEngine(folder / "other.db")
        yield other
        await other.close()
        return
    async with cosmos_account() as (endpoint, key):
        other = CosmosEngine(endpoint, key, f"other-{uuid4()}")
        yield other
        await other.close()


async def exported(cli: Cli, path: Path, *words: str) -> list[bytes]:
    await cli("export", *(words or ("--all",)), "-o", str(path))
    return path.read_bytes().splitlines(keepends=True)


# Export and import


async def test_an_export_goes_into_the_other_engine_is_verified_there_and_resumed(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    storage = engine.storage()
    await workflow().run(21, checkpoint_storage=storage.for_run("r"))
    file = tmp_path / "events.jsonl"
    lines = await exported(cli, file)
    assert len(lines) == 3 + 3
    async with other_engine(engine, tmp_path) as other:
        there = Cli(other)
        printed = await there("import", str(file))
        assert printed.out == "3 events of 1 runs read, 3 of them new. The export was whole.\n"
        assert "3 events of 1 runs verified: all is as it was written." in (await there("verify", "--all")).out
        assert await log(other.open(), StreamId("doubling", "r")) == await log(engine.open(), StreamId("doubling", "r"))
        run = other.storage().for_run("r", workflow_name="doubling")
        middle = (await run.list_checkpoint_ids(workflow_name="doubling"))[1]
        result = await workflow().run(checkpoint_id=middle, checkpoint_storage=run)
        assert result.get_outputs() == [42]
        await there("verify", "--all", "--decode")
        assert await exported(there, tmp_path / "again.jsonl")  # and out again


async def test_an_export_holds_chosen_runs_or_all_and_replaces_no_file(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    await order_run(engine, "order-1", steps=2)
    await order_run(engine, "order-2", steps=1)
    one = await exported(cli, tmp_path / "one", "order-1")
    assert json.loads(one[0]) == {"format": "eventckpt-export", "version": 2}
    assert json.loads(one[-1]) == {"end": True, "runs": 1, "events": 2}
    assert len(await exported(cli, tmp_path / "both", "order-1", "order-2")) == 7
    assert len(await exported(cli, tmp_path / "all")) == 7
    assert "An export never replaces a file" in (await cli("export", "--all", "-o", str(tmp_path / "all"), code=4)).err
    assert (await cli("export", "order-1")).out.encode() == b"".join(one)
    assert "Give runs, or --all" in (await cli("export", code=2)).err


async def test_importing_again_changes_nothing(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine, steps=3)
    file = tmp_path / "events.jsonl"
    content = b"".join(await exported(cli, file))
    assert "3 events of 1 runs read, 0 of them new" in (await cli("import", str(file))).out
    other = str(tmp_path / "new.db")
    assert "3 of them new" in (await cli("import", "-", stdin=content, store=other)).out
    assert "0 of them new" in (await cli("import", "-", stdin=content, store=other)).out


async def test_of_a_cut_export_what_is_whole_is_imported_and_it_says_so(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    await order_run(engine, steps=4)
    lines = await exported(cli, tmp_path / "events.jsonl")
    cut, other = tmp_path / "cut.jsonl", str(tmp_path / "new.db")
    cut.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    printed = await cli("import", str(cut), code=1, store=other)
    assert "line 4 is not a whole event; it was left out." in printed.out
    assert "2 events of 1 runs read, 2 of them new. The export ENDS EARLY" in printed.out
    await cli("verify", "--all", store=other)
    cut.write_bytes(b"".join(lines[:4]))
    assert "The export ENDS EARLY" in (await cli("import", str(cut), code=1, store=other)).out
    resumed = await cli.json("import", str(tmp_path / "events.jsonl"), store=other)
    assert (resumed.records[0]["added"], resumed.records[0]["complete"]) == (1, True)
    await cli("verify", "--all", "--decode", store=other)


async def test_an_export_of_the_other_kind_is_refused_and_not_said_to_be_cut(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    await order_run(engine, steps=1)
    file = tmp_path / "events.jsonl"
    await exported(cli, file)
    printed = await cli("import", str(file), "--turns", code=1, store=str(tmp_path / "new.db"))
    assert "import it without --turns" in " ".join(printed.out.split())
    assert "NOTHING of it was read" in printed.out
    assert "ENDS EARLY" not in printed.out


async def test_a_changed_line_of_an_export_is_left_out_and_named(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine, steps=2, actor="shop")
    lines = await exported(cli, tmp_path / "events.jsonl")
    lines[2] = lines[2].replace(b'"actor":"shop"', b'"actor":"thief"')
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"".join(lines))
    printed = await cli("import", str(bad), code=1, store=str(tmp_path / "new.db"))
    assert "line 3: seq 2 of run 'order-1' was changed" in printed.out
    assert "1 events of 1 runs read, 1 of them new" in printed.out


async def test_lines_of_another_version_or_with_ints_beyond_the_format_are_named(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    await order_run(engine, steps=2)
    lines = await exported(cli, tmp_path / "events.jsonl")
    newer = json.loads(lines[1]) | {"schema": SCHEMA + 1}
    wide = json.loads(lines[2]) | {"iteration_count": 10**30}
    odd = b"".join(json.dumps(line).encode() + b"\n" for line in (newer, wide)) + b'{"seq": ' + b"[" * 100_000 + b"\n"
    printed = await cli("import", "-", stdin=lines[0] + odd, code=1, store=str(tmp_path / "new.db"))
    assert "line 2: seq 1 of run 'order-1' was written by a newer version of eventckpt" in printed.out
    assert "line 3: seq 2 of run 'order-1' was changed" in printed.out
    assert "line 4 is not a whole event" in printed.out


async def test_an_export_is_printable_and_imports_as_it_was(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine, steps=2, actor="\x7f\x9b\u202e\U000e0001\n")
    printed = await cli("export", "--all")
    assert all(line.isprintable() for line in printed.out.splitlines())
    there = await cli("import", "-", stdin=printed.out, store=str(tmp_path / "new.db"))
    assert "2 of them new. The export was whole." in there.out
    await cli("verify", "--all", store=str(tmp_path / "new.db"))


async def test_a_log_that_diverged_is_left_alone_and_named(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine, steps=2)
    file = tmp_path / "events.jsonl"
    await exported(cli, file)
    async with other_engine(engine, tmp_path) as other:
        await order_run(other, steps=1, text="another")
        before = await log(other.open(), stream())
        printed = await Cli(other)("import", str(file), code=1)
        assert "the store has another event at seq 1. The two logs have diverged" in printed.out
        assert (await log(other.open(), stream()))[:1] == before


async def test_what_is_no_export_is_refused(cli: Cli, tmp_path: Path) -> None:
    for content in (b"", b"hello\n", b'{"a": 1}\n', b"\xff\xfe\n"):
        printed = await cli("import", "-", stdin=content, code=1, store=str(tmp_path / "new.db"))
        assert "This is no export of eventckpt" in printed.out
    assert "cannot be read" in (await cli("import", str(tmp_path / "nowhere"), code=4)).err


@pytest.mark.parametrize("what", ["a folder", "nothing"])
async def test_a_file_that_cannot_be_read_is_named(cli: Cli, tmp_path: Path, what: str) -> None:
    path = tmp_path if what == "a folder" else tmp_path / "nowhere"
    failed = await cli("import", str(path), code=4, store=str(tmp_path / "new.db"))
    assert f"{path} cannot be read" in failed.err
    assert not (tmp_path / "new.db").exists()


async def test_a_compressed_export_is_said_to_be_one(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine, steps=2)
    packed = gzip.compress(b"".join(await exported(cli, tmp_path / "events.jsonl")))
    printed = await cli("import", "-", stdin=packed, code=1, store=str(tmp_path / "new.db"))
    assert "This is no export of eventckpt: its first line does not say so; it is compressed" in printed.out


async def test_a_store_that_fails_in_the_middle_ends_the_import_and_what_was_done_is_told(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    """The file of the new store may not grow as large as it would have to."""
    await order_run(engine, steps=2)
    lines = await exported(cli, tmp_path / "events.jsonl")
    events = [make_event(StreamId("w", f"r{n}"), 1, data=os.urandom(20_000)) for n in range(200)]
    ends = [run_line(event.stream, 1, 1, event.digest) for event in events]
    many = [line for event, end in zip(events, ends, strict=True) for line in (event_line(event), end)]
    file, store = tmp_path / "many.jsonl", str(tmp_path / "new.db")
    file.write_bytes(b"\n".join([lines[0].strip(), *many]))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "
        "from eventckpt.cli import app; app()"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "ignore", "-c", code, "import", str(file), "--store", store, "--json"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, [record["kind"] for record in records]) == (4, ["imported", "error"]), done.stderr
    assert 0 < records[0]["added"] < 200
    assert "200 events of 200 runs read" in (await cli("import", str(file), code=1, store=store)).out


async def test_an_interrupt_ends_an_import_from_a_pipe_that_gives_nothing(cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-W", "ignore", "-m", "eventckpt.cli", "import", str(pipe)]
    process = await asyncio.create_subprocess_exec(
        *command, "--store", str(tmp_path / "new.db"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writer = await asyncio.to_thread(pipe.open, "wb")  # waits until it is opened for reading
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    writer.close()
    assert process.returncode == 130, err
    assert b"The import STOPPED before the end" in out
    assert b"Traceback" not in err


async def test_a_damaged_run_is_exported_as_it_is_and_named(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine, steps=4)
    if isinstance(engine, SqliteEngine):
        with closing(sqlite3.connect(engine.path)) as database, database:
            database.execute("DELETE FROM events WHERE seq = 2")
    else:
        assert isinstance(engine, CosmosEngine)
        container = await engine.open().container()
        await container.delete_item(item_id(2), partition_key_of(stream()))
    failed = await cli("export", "--all", "-o", str(tmp_path / "events.jsonl"), code=1)
    assert "run 'order-1' of workflow 'orders' is damaged: seqs 2 to 2 are gone" in failed.err
    printed = await cli("import", str(tmp_path / "events.jsonl"), code=1, store=str(tmp_path / "new.db"))
    assert "seq 2 is missing" in printed.out
    assert len((await cli("export", "--all", code=1)).out.splitlines()) == 3 + 3


# Fork


async def test_a_fork_begins_at_a_checkpoint_and_is_resumed_with_the_framework(engine: Engine, cli: Cli) -> None:
    run = engine.storage().for_run("r")
    await workflow().run(21, checkpoint_storage=run)
    before = await log(engine.open(), StreamId("doubling", "r"))
    printed = await cli("fork", "r@2", "--as", "trial", "--actor", "auditor")
    assert "run trial of doubling begins at seq 2 of run r; resume it from checkpoint " in printed.out

    trial = engine.storage().for_run("trial")
    latest = await trial.get_latest(workflow_name="doubling")
    assert latest is not None
    assert latest.previous_checkpoint_id == before[1].checkpoint_id
    result = await workflow().run(checkpoint_id=latest.checkpoint_id, checkpoint_storage=trial)
    assert result.get_outputs() == [42]
    events = await log(engine.open(), StreamId("doubling", "trial"))
    assert [event.seq for event in events] == [1, 2]
    assert events[0].forked_from is not None
    assert (events[0].forked_from.run_id, events[0].forked_from.seq, events[0].actor) == ("r", 2, "auditor")
    assert await log(engine.open(), StreamId("doubling", "r")) == before
    await cli("verify", "--all", "--decode")


async def test_a_fork_needs_a_name_of_its_own(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-1", steps=2)
    await order_run(engine, "order-2", steps=1)
    assert "There is a run 'order-2'" in (await cli("fork", "order-1@1", "--as", "order-2", code=1)).err
    assert "1 to 255 characters" in (await cli("fork", "order-1@1", "--as", "x" * 256, code=2)).err


# From the framework's own stores


@pytest.fixture
def old(tmp_path: Path) -> FileCheckpointStorage:
    return FileCheckpointStorage(tmp_path / "old", allowed_checkpoint_types=[ORDER])


async def test_a_folder_of_the_framework_becomes_runs_by_lineage(
    engine: Engine, cli: Cli, old: FileCheckpointStorage
) -> None:
    first = checkpoint(checkpoint_id="first", timestamp="2026-01-01T00:00:03+00:00")
    second = checkpoint(first, checkpoint_id="second", timestamp="2026-01-01T00:00:02+00:00", state={"pair": (1, 2)})
    branch = checkpoint(first, checkpoint_id="branch", timestamp="2026-01-01T00:00:09+00:00")
    third = checkpoint(second, checkpoint_id="third", timestamp="2026-01-01T00:00:05+00:00")
    stranger = checkpoint(checkpoint_id="stranger", workflow_name="refunds")
    for each in (branch, third, second, first, stranger):
        await old.save(each)
    printed = await cli("import-from", "file", str(old.storage_path), "--trust-source", "--actor", "mover")
    assert "5 of 5 checkpoints are in 2 runs now:" in printed.out
    store = engine.open()
    assert [event.checkpoint_id for event in await log(store, StreamId(WORKFLOW, "first"))] == [
        "first",
        "second",
        "third",
        "branch",
    ]
    runs = {run["run_id"]: run for run in (await cli.json("runs")).of("run")}
    assert set(runs) == {"first", "stranger"}
    nodes = {node["checkpoint_id"]: node["children"] for node in (await cli.json("lineage", "first")).of("node")}
    assert nodes == {"first": ["second", "branch"], "second": ["third"], "third": [], "branch": []}
    assert runs["first"]["actor"] == "mover"
    assert await engine.storage().load("second") == second
    await cli("verify", "--all", "--decode")
    assert (
        "5 of 5 checkpoints are in 2 runs now"
        in (await cli("import-from", "file", str(old.storage_path), "--trust-source")).out
    )
    assert {run["seq"] for run in (await cli.json("runs")).of("run")} == {4, 1}


async def test_what_cannot_be_decoded_is_left_out_and_the_reason_given(
    engine: Engine, cli: Cli, old: FileCheckpointStorage
) -> None:
    await old.save(checkpoint(checkpoint_id="plain"))
    await old.save(checkpoint(checkpoint_id="typed", state={"order": Order({1: "tea"}, 4.5)}))
    Path(old.storage_path, "cut.json").write_text('{"workflow_name": ', encoding="utf-8")
    printed = await cli("import-from", "file", str(old.storage_path), "--trust-source", code=1)
    assert "left out cut: cut.json is not valid JSON" in printed.out
    assert f"left out typed: it holds the type {ORDER!r}; if you trust it, --allow {ORDER}\n" in printed.out
    assert "1 of 3 checkpoints are in 1 runs now" in printed.out
    records = await cli.json("import-from", "file", str(old.storage_path), "--trust-source", "--allow", ORDER, code=1)
    assert [left["checkpoint_id"] for left in records.of("left_out")] == ["cut"]
    loaded = await engine.storage(allowed_checkpoint_types=[ORDER]).load("typed")
    assert loaded.state["order"].total == 4.5
    assert "needs the folder" in (await cli("import-from", "file", code=2)).err
    assert "takes file or cosmos" in (await cli("import-from", "redis", code=2)).err


async def test_upstreams_cosmos_storage_is_taken_over(cli: Cli, tmp_path: Path) -> None:
    import agent_framework_azure_cosmos as upstream

    async with cosmos_account() as (endpoint, key):
        settings = {"endpoint": endpoint, "database_name": "old", "container_name": f"old-{uuid4()}"}
        async with upstream.CosmosCheckpointStorage(credential=key, **settings) as storage:
            first = checkpoint(checkpoint_id="first")
            await storage.save(first)
            await storage.save(checkpoint(first, checkpoint_id="second", state={"pair": (1, 2)}))
        words = [
            "cosmos",
            "--trust-source",
            "--endpoint",
            endpoint,
            "--database",
            "old",
            "--container",
            settings["container_name"],
        ]
        cli.env["AZURE_COSMOS_KEY"] = key
        printed = await cli("import-from", *words, "-w", WORKFLOW, store=str(tmp_path / "new.db"))
        assert "2 of 2 checkpoints are in 1 runs now" in printed.out
        without = await cli("import-from", *words, code=2, store=str(tmp_path / "other.db"))
        assert "a --workflow for each to take" in without.err
        words[-1] = "no-such"
        missing = await cli("import-from", *words, "-w", WORKFLOW, code=4, store=str(tmp_path / "other.db"))
        assert "There is no container 'no-such' of database 'old'" in missing.err
    await cli("verify", "--all", "--decode", store=str(tmp_path / "new.db"))


async def test_without_the_sdk_it_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "eventckpt.stores.cosmos.other_container", None)
    words = ["cosmos", "--trust-source", "--endpoint", "https://x", "--database", "d", "--container", "c", "-w", "w"]
    failed = await cli("import-from", *words, code=2, store=str(tmp_path / "new.db"))
    assert "pip install '.[cosmos]'" in failed.err


@pytest.mark.parametrize("words", [["file", "."], ["cosmos", "--container", "c", "-w", "w"]])
async def test_a_source_that_nobody_vouches_for_is_not_read(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    failed = await cli("import-from", *words, code=2, store=str(tmp_path / "new.db"))
    assert "give --trust-source if nobody but you can" in failed.err
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("checkpoint_id", ["x"], "its checkpoint_id is ['x'], which is no text"),
        ("timestamp", 5, "its timestamp is 5, which is no text"),
        ("previous_checkpoint_id", ["x"], "its previous_checkpoint_id is ['x'], which is no text"),
        ("workflow_name", None, "its workflow_name is None, which is no text"),
        ("iteration_count", "many", "iteration_count"),
        ("state", 5, "state"),
    ],
)
async def test_a_document_with_a_header_of_another_kind_is_left_out_by_itself(
    engine: Engine, cli: Cli, old: FileCheckpointStorage, field: str, value: object, said: str
) -> None:
    await old.save(checkpoint(checkpoint_id="good"))
    fields = checkpoint(checkpoint_id="bad").to_dict() | {field: value}
    Path(old.storage_path, "bad.json").write_text(json.dumps(fields), encoding="utf-8")
    printed = await cli("import-from", "file", str(old.storage_path), "--trust-source", code=1)
    [line] = [line for line in printed.out.splitlines() if line.startswith("left out")]
    assert line.startswith("left out bad: ")
    assert said in line
    assert "1 of 2 checkpoints are in 1 runs now" in printed.out


async def test_of_two_documents_with_one_id_the_second_is_left_out(cli: Cli, old: FileCheckpointStorage) -> None:
    for name in ("one", "two", "three"):
        fields = checkpoint(checkpoint_id="same", state={"name": name}).to_dict()
        Path(old.storage_path, f"{name}.json").write_text(json.dumps(fields), encoding="utf-8")
    printed = await cli("import-from", "file", str(old.storage_path), "--trust-source", code=1)
    for name in ("three", "two"):
        assert f"left out {name}: another checkpoint before it has the same id, 'same'" in printed.out
    assert "1 of 3 checkpoints are in 1 runs now" in printed.out


async def test_only_regular_files_are_read(cli: Cli, old: FileCheckpointStorage) -> None:
    await old.save(checkpoint(checkpoint_id="good"))
    os.mkfifo(Path(old.storage_path, "pipe.json"))
    Path(old.storage_path, "device.json").symlink_to("/dev/zero")
    Path(old.storage_path, "folder.json").mkdir()
    printed = await cli("import-from", "file", str(old.storage_path), "--trust-source", code=1)
    for name in ("device", "folder", "pipe"):
        assert f"left out {name}: {name}.json is not a regular file." in printed.out
    assert "1 of 4 checkpoints are in 1 runs now" in printed.out


async def test_a_function_is_not_advised_to_be_allowed(cli: Cli, old: FileCheckpointStorage) -> None:
    value = {"__pickled__": base64.b64encode(b"\x80\x02cposix\nsystem\n)R.").decode(), "__type__": "a:b"}
    fields = checkpoint(checkpoint_id="bad").to_dict() | {"state": {"value": value}}
    Path(old.storage_path, "bad.json").write_text(json.dumps(fields), encoding="utf-8")
    printed = await cli("import-from", "file", str(old.storage_path), "--trust-source", code=1)
    assert "left out bad: it names 'posix:system', which is no type that could be allowed\n" in printed.out


async def test_a_line_that_no_store_can_keep_is_left_out_and_the_rest_is_imported(
    engine: Engine, cli: Cli, tmp_path: Path
) -> None:
    await order_run(engine, steps=2)
    lines = await exported(cli, tmp_path / "events.jsonl")
    event = json.loads(lines[1])
    odd = [{"seq": 2**63}, {"seq": 0}, {"seq": -(2**63)}, {"run_id": ""}, {"run_id": "x" * 5000}]
    odd += [{"run_id": "\ud800"}, {"workflow_name": "\ud800"}, {"checkpoint_id": "\ud800"}, {"actor": "\ud800"}]
    forged = [json.dumps(event | change).encode() + b"\n" for change in odd]
    file = tmp_path / "odd.jsonl"
    file.write_bytes(b"".join([lines[0], *forged, *lines[1:]]))
    printed = await cli.json("import", str(file), code=1, store=str(tmp_path / "new.db"))
    [imported] = printed.of("imported")
    assert (imported["events"], imported["added"], imported["complete"]) == (2, 2, True)
    assert [re.findall(r"^line \d+", problem)[0] for problem in imported["problems"]] == [
        f"line {n}" for n in range(2, 2 + len(odd))
    ]
    assert max(map(len, imported["problems"])) < 300
