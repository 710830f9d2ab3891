"""What reaches a terminal or a pipe: stored text is never obeyed, output is plain, exit codes are as documented."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from eventckpt.text import safe

from ..engines import Engine, SqliteEngine
from .conftest import Cli, checkpoint, environment, message, order_run

HOSTILE = "\x1b]0;owned\x07\x1b[2J[bold red]x[/]\u202e\x9b31m\r\n:smile:"

COMMANDS = (
    ["runs"],
    ["history", "evil"],
    ["show", "evil@2", "--full"],
    ["at", "evil"],
    ["lineage", "evil"],
    ["diff", "evil", "--seq", "1..2", "--full"],
    ["changes", "evil", "--path", "state.text"],
    ["verify", "--all"],
    ["verify", "evil"],
    ["replay", "evil"],
    ["doctor"],
    ["tail", "--limit", "2"],
    ["prune", "--all", "--keep", "1"],
)


async def evil_run(engine: Engine) -> None:
    run = engine.storage(actor=HOSTILE).for_run(f"evil{HOSTILE}")
    first = checkpoint(checkpoint_id=f"a{HOSTILE}", workflow_name=HOSTILE, messages=message(HOSTILE, HOSTILE))
    await run.save(first)
    state = {"text": HOSTILE, HOSTILE: [HOSTILE] * 30, "raw": HOSTILE.encode(), "_executor_state": {HOSTILE: {}}}
    await run.save(checkpoint(first, checkpoint_id=f"b{HOSTILE}", workflow_name=HOSTILE, state=state))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_stored_text_never_reaches_a_terminal_raw(engine: Engine, cli: Cli, words: list[str]) -> None:
    await evil_run(engine)
    for printed in (await cli(*words), await cli.json(*words)):
        for line in (printed.out + printed.err).splitlines():
            assert line.isprintable(), repr(line)


async def test_errors_show_hostile_names_harmlessly(engine: Engine, cli: Cli) -> None:
    await evil_run(engine)
    for words in (["history", HOSTILE], ["show", HOSTILE], ["history", "evli"]):
        assert (await cli(*words, code=3)).err.strip().isprintable()


def on_a_terminal(words: list[str], env: dict[str, str]) -> tuple[int, str]:
    """What a command prints where its output is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "eventckpt.cli", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **env, "TERM": "xterm-256color", "COLUMNS": "120"},
    )
    os.close(theirs)
    chunks: list[bytes] = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    return process.wait(), b"".join(chunks).decode()


async def test_on_a_real_terminal_the_only_control_sequences_are_our_own(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await evil_run(engine)
    for words in (["runs"], ["show", "evil@2"], ["verify", "--all"]):
        code, text = await asyncio.to_thread(on_a_terminal, words, environment(engine))
        assert code == 0
        assert "]0;owned\\x07" in text or words[0] == "verify"
        for hostile in ("\x1b]0;", "\x1b[2J", "\x07", "\u202e", "\x9b", "😄"):
            assert hostile not in text
    await engine.close()


async def test_into_a_pipe_goes_plain_text_without_wrapping(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "events.db")
    await order_run(engine, "a-run-with-a-long-name-" * 5, steps=2)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "eventckpt.cli", "history", "a-run",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment(engine), "COLUMNS": "40"},
    )  # fmt: skip
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    assert len(lines) == 3
    assert "\x1b" not in out.decode()
    assert lines[1].endswith("shop")
    await engine.close()


def test_text_that_is_printable_stays_as_it_is() -> None:
    assert safe("Größe 工作流 🚀 [bold]") == "Größe 工作流 🚀 [bold]"
    assert safe("a\tb\x1b\u202e\ud800") == "a\\tb\\x1b\\u202e\\ud800"


# Exit codes


async def test_a_missing_store_or_setting_says_what_to_do(cli: Cli, tmp_path: Path) -> None:
    assert "There is no store at" in (await cli("runs", code=4, store=str(tmp_path / "nowhere.db"))).err
    assert not (tmp_path / "nowhere.db").exists()
    cli.env = {"EVENTCKPT_STORE": "", "AZURE_COSMOS_ENDPOINT": ""}
    assert "Give --store PATH or ENDPOINT, or set EVENTCKPT_STORE" in (await cli("runs", code=2)).err
    (tmp_path / "text.db").write_text("no database at all, but some text that is long enough")
    failed = await cli.json("runs", code=4, store=str(tmp_path / "text.db"))
    assert failed.of("error")[0]["code"] == 4


SECRET = "C2y6yDjf5R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
CONNECTION = f"AccountEndpoint=https://x.documents.azure.com:443/;AccountKey={SECRET};"


@pytest.mark.parametrize("where", ["--store", "EVENTCKPT_STORE", "AZURE_COSMOS_ENDPOINT"])
@pytest.mark.parametrize(
    "location", [CONNECTION, "https://me:secret-C2y6@x.documents.azure.com/", "db://me:C2y6@host/db"]
)
async def test_a_connection_string_as_store_is_refused_and_not_shown(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, location: str
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.env = {"EVENTCKPT_STORE": "", "AZURE_COSMOS_ENDPOINT": ""} | ({} if where == "--store" else {where: location})
    for words in (["runs"], ["doctor"], ["import-from", "file", ".", "--trust-source"]):
        option = ["--store", location] if where == "--store" else []
        failed = await cli(*words, *option, code=2)
        assert "is a connection string" in failed.err
        assert "AZURE_COSMOS_KEY" in failed.err
        assert "C2y6" not in failed.out + failed.err
    assert not [name for name in os.listdir(tmp_path) if "Account" in name]  # noqa: PTH208 - names only


async def test_the_doctor_lists_no_setting_that_may_hold_a_key(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    store = cli.env["EVENTCKPT_STORE"]
    for name in ("AZURE_COSMOS_ENDPOINT", "EVENTCKPT_STORE"):
        cli.env |= {name: CONNECTION}
        printed = await cli("doctor", "--store", store)
        assert f"setting  {name}: set\n" in printed.out
        assert "C2y6" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"AZURE_COSMOS_DATABASE_NAME": "db\n"}, "database_name"),
        ({"AZURE_COSMOS_CONTAINER_NAME": ".."}, "container_name"),
        ({"AZURE_COSMOS_KEY": "no base64!"}, "credential"),
        ({"EVENTCKPT_STORE": "https://host/path"}, "endpoint"),
    ],
)
async def test_a_setting_of_the_wrong_form_is_one_line_and_not_a_traceback(
    cli: Cli, settings: dict[str, str], said: str
) -> None:
    cosmos = {"DATABASE_NAME": "d", "CONTAINER_NAME": "c", "KEY": SECRET}
    cli.env = (
        {"EVENTCKPT_STORE": "https://host/"} | {f"AZURE_COSMOS_{name}": cosmos[name] for name in cosmos} | settings
    )
    failed = await cli("runs", code=2)
    assert failed.err.startswith("eventckpt: ")
    assert said in failed.err
    assert failed.err.count("\n") == 1


async def test_an_allow_list_or_an_actor_of_the_wrong_form_is_one_line(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    assert "module:qualname" in (await cli("show", "order-1@1", "--allow", "Order", code=2)).err
    assert "actor is blank" in (await cli("fork", "order-1@1", "--as", "new", "--actor", " ", code=2)).err


@pytest.mark.parametrize("endpoint", [CONNECTION, "https://me:C2y6@x.documents.azure.com/", "https://host/C2y6/?a"])
async def test_the_endpoint_of_another_store_is_checked_likewise(cli: Cli, tmp_path: Path, endpoint: str) -> None:
    cli.env |= {"AZURE_COSMOS_KEY": SECRET}
    words = ["cosmos", "--trust-source", "--endpoint", endpoint, "--database", "d", "--container", "c", "-w", "w"]
    failed = await cli("import-from", *words, code=2, store=str(tmp_path / "new.db"))
    assert failed.err.startswith("eventckpt: endpoint")
    assert SECRET[:8] not in failed.err


async def test_a_state_that_cannot_be_read_has_its_own_exit_code(engine: Engine, cli: Cli) -> None:
    from eventckpt.stores.conformance import make_event

    from .conftest import stream

    await engine.open().append(make_event(stream("r"), 1))
    assert "cannot be read" in (await cli("show", "r@1", code=5)).err


async def test_the_commands_explain_themselves(cli: Cli) -> None:
    listed = (await cli("--help")).out
    for name in ("runs", "history", "show", "at", "lineage", "diff", "changes", "replay", "verify", "doctor", "fork",
                 "export", "import", "import-from", "prune", "backup", "restore", "tail"):  # fmt: skip
        assert name in listed
        assert "--json" in (await cli(name, "--help")).out
    assert "Exit codes: 0 all is well" in " ".join(listed.split())
