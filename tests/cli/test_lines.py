"""The JSON lines: of each command, all keys that its kind of line has, and no other; and the schema that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import FileCheckpointStorage, FileHistoryProvider, Message

from eventckpt.cli import app
from eventckpt.cli.lines import LINES, type_of
from eventckpt.events import Annotation

from ..conversations import branched, session, talked
from ..engines import CosmosEngine, Engine, SqliteEngine
from .conftest import Cli, Printed, checkpoint, order_run
from .programs import CHANGING, LOOKING, called

ORDINARY = [words for program, words in (*LOOKING, *CHANGING) if program == "eventckpt"]
BEYOND = [
    ["runs", "--limit", "1"],
    ["runs", "--turns"],
    ["inbox", "--limit", "1"],
    ["show", "order-1@3"],
    ["show", "s1-t1", "--turns"],
    ["at", "s1", "--turns"],
    ["diff", "s1", "--turns", "--seq", "1..2"],
    ["history", "s1", "--turns"],
    ["info", "s1", "--turns"],
    ["lineage", "s1", "--turns"],
    ["tail", "--turns", "--limit", "1"],
    ["replay", "s1", "--turns"],
    ["compact"],
    ["history", "nothing"],
    ["history", "order-1", "--limit", "1"],
    ["sessions", "--limit", "1"],
    ["history", "order"],
    ["answer", "order-1", "none", "--json", "true", "--app", "tests.cli.programs:build"],
]

LAST = [
    ["prune", "--all", "--keep", "0", "--force", "--execute", "--yes"],
    ["info", "order-1"],  # which was deleted by then
]


def read(command: str, printed: Printed) -> list[Any]:
    """The lines of a command, by the types that they are said to be of."""
    return [msgspec.json.decode(line, type=type_of(command)) for line in printed.out.splitlines()]


async def fill(engine: Engine) -> None:
    made = await order_run(engine, "order-1")
    await order_run(engine, "order-2")
    storage = engine.storage()
    await storage.for_run("order-2", workflow_name="orders").annotate(outcome="failed", tags={"a": "b"}, hold=True)
    await storage.for_run("trial").save(checkpoint(made[1], checkpoint_id="elsewhere"))
    turns = await talked(engine.open().sessions(), session("s1"), "hello", "again")
    await talked(engine.open().sessions(), session("s2"), "hello")
    await branched(engine.open().sessions(), turns[0], "another way")
    engine.settle()


async def test_each_line_is_of_a_kind_of_its_command_with_all_its_keys(engine: Engine, cli: Cli) -> None:
    await fill(engine)
    kinds: set[tuple[str, str]] = set()
    for words in [*BEYOND, *ORDINARY, *LAST]:
        if words[0] in ("export", "schema"):  # an export is of its own format
            continue
        printed = await asked(cli, words)
        read(words[0], printed)
        kinds |= {(words[0], record["kind"]) for record in printed.records}
    said = {(name, line.__struct_config__.tag) for name, lines in LINES.items() for line in lines}
    met_elsewhere = {"backup", "restore", "import", "import-from", "export"}
    seldom = {("answer", "answered"), ("info", "claim"), ("show", "state"), ("at", "state"), ("migrate", "left_out")}
    if isinstance(engine, CosmosEngine):
        seldom |= {("prune", "space"), ("delete", "space")}
    assert {each for each in said - kinds if each[0] not in met_elsewhere} <= seldom


async def asked(cli: Cli, words: list[str]) -> Printed:
    """What a command prints as JSON, whatever its exit code is."""
    as_json = "--json-output" if words[0] == "answer" else "--json"
    return await called("eventckpt", [*words, as_json], cli.env)


async def test_lines_about_files_have_all_their_keys(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    await order_run(engine)
    written = await cli.json("export", "--all", "-o", str(tmp_path / "runs.jsonl"))
    assert written.of("exported")
    read("export", written)
    other = str(tmp_path / "other.db")
    imported = await cli.json("import", str(tmp_path / "runs.jsonl"), store=other)
    assert imported.of("imported")[0]["notes"] == []
    read("import", imported)
    if isinstance(engine, SqliteEngine):
        copy = await cli.json("backup", str(tmp_path / "copy.db"))
        restored = await cli.json("restore", str(tmp_path / "copy.db"), "--yes", store=other)
        assert (read("backup", copy), read("restore", restored)) != ([], [])


@pytest.mark.filterwarnings("ignore:.*FileHistoryProvider is experimental")
async def test_lines_about_what_is_taken_over_have_all_their_keys(engine: Engine, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    await FileCheckpointStorage(folder).save(checkpoint(checkpoint_id="one"))
    (folder / "two.json").write_text("{}")
    taken = await cli.json("import-from", "file", str(folder), "--trust-source", code=1)
    assert {record["kind"] for record in taken.records} == {"left_out", "summary"}
    read("import-from", taken)
    history = tmp_path / "history"
    await FileHistoryProvider(history).save_messages("s1", [Message("user", ["hello"])])
    told = await cli.json("import-from", "file-history", str(history))
    [summary] = told.of("summary")
    assert (summary["sessions"], summary["found"]) == (1, None)
    read("import-from", told)


async def test_a_run_of_which_nothing_was_said_has_the_keys_of_one_of_which_much_was(engine: Engine, cli: Cli) -> None:
    await fill(engine)
    one, another = [run for run in (await cli.json("runs")).of("run") if run["run_id"].startswith("order")]
    assert one.keys() == another.keys()
    assert [type(each["pending_requests"]) for each in (one, another)] == [list, list]
    [first, *_] = (await cli.json("history", "order-1")).of("event")
    [*_, last] = (await cli.json("history", "order-2")).of("event")
    assert first.keys() == last.keys()
    assert first["annotation"] is None
    assert last["annotation"].keys() == set(Annotation.__struct_fields__)
    assert "data" not in first["payload"]


def test_every_command_says_which_lines_it_prints() -> None:
    assert {each.name for each in app.registered_commands} == LINES.keys()


async def test_the_schema_asks_for_every_key_and_admits_no_other(cli: Cli) -> None:
    schema = json.loads((await cli("schema")).out)
    assert LINES.keys() <= schema["$defs"].keys()
    structs = {name: each for name, each in schema["$defs"].items() if each.get("type") == "object"}
    assert len(structs) > 40
    for name, each in structs.items():
        assert set(each["required"]) == set(each["properties"]), name
    assert schema["$defs"]["RunLine"]["properties"]["kind"] == {"enum": ["run"]}
    [one] = json.loads((await cli("schema", "runs")).out)["anyOf"]
    assert one == {"$ref": "#/$defs/runs"}
    assert "No command is called 'nothing'" in (await cli("schema", "nothing", code=2)).err


@pytest.mark.parametrize("words", [["runs"], ["inbox"], ["runs", "--tag", "a=b"]])
async def test_where_there_is_nothing_text_says_so_and_json_has_no_line(
    engine: Engine, cli: Cli, words: list[str]
) -> None:
    await engine.storage().for_run("done").save(checkpoint(checkpoint_id="done"))
    nothing = [*words, "--workflow", "nothing"]
    as_text = await cli(*nothing)
    assert (as_text.out, as_text.err.count("\n")) == ("", 1)
    assert (await cli.json(*nothing)).records == []


async def test_o_json_is_json_and_o_table_is_what_there_is_without(engine: Engine, cli: Cli) -> None:
    await order_run(engine)
    for words in (["runs"], ["history", "order-1"], ["show", "order-1@1"], ["verify", "--all"]):
        assert (await cli(*words, "-o", "json")).out == (await cli.json(*words)).out
        assert (await cli(*words, "-o", "table")).out == (await cli(*words)).out
