"""What reaches a terminal or a pipe: stored text is never obeyed, output is plain, exit codes are as documented."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from eventckpt.cli.output import safe

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


async def test_a_state_that_cannot_be_read_has_its_own_exit_code(engine: Engine, cli: Cli) -> None:
    from eventckpt.stores.conformance import make_event

    from .conftest import stream

    await engine.open().append(make_event(stream("r"), 1))
    assert "cannot be read" in (await cli("show", "r@1", code=5)).err


async def test_the_commands_explain_themselves(cli: Cli) -> None:
    listed = (await cli("--help")).out
    for name in ("runs", "history", "show", "at", "lineage", "diff", "changes", "replay", "verify", "doctor", "fork",
                 "export", "import", "import-from", "prune", "tail"):  # fmt: skip
        assert name in listed
        assert "--json" in (await cli(name, "--help")).out
    assert "Exit codes: 0 all is well" in " ".join(listed.split())
