"""What shells offer, and which version it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from eventckpt.cli import app
from eventckpt.cli.completion import _IN_TIME, _OFFERED  # pyright: ignore[reportPrivateUsage]
from eventckpt.location import ENVIRONMENT

from ..conversations import session, talked
from ..engines import Engine
from ..snapshots import in_folder
from .conftest import Cli, checkpoint, order_run
from .programs import PROGRAMS, called

SHELLS = ("bash", "zsh", "fish", "powershell")


async def offered(line: str, where: dict[str, str], shell: str = "bash") -> list[str]:
    """What a shell would offer for the last word of a line, which may be empty; no word of it has a space."""
    words = line.split(" ")
    asked = {
        "_EVENTCKPT_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    env: dict[str, Any] = dict.fromkeys(ENVIRONMENT) | where | asked
    printed = await asyncio.to_thread(CliRunner().invoke, app, [], None, env)
    assert (printed.exit_code, printed.stderr) == (0, ""), printed.exception
    return [each for each in printed.stdout.splitlines() if each and each != "_files"]


@pytest.mark.parametrize("command", ["info", "history", "at", "lineage", "changes", "verify", "export", "migrate"])
async def test_runs_are_offered_by_the_beginning_of_their_ids(engine: Engine, cli: Cli, command: str) -> None:
    for run_id in ("order-1", "order-2", "refund-1"):
        await order_run(engine, run_id, steps=1)
    assert await offered(f"eventckpt {command} ord", cli.env) == ["order-2", "order-1"]
    assert await offered(f"eventckpt {command} x", cli.env) == []
    assert set(await offered(f"eventckpt {command} ", cli.env)) == {"order-1", "order-2", "refund-1"}


async def test_checkpoints_workflows_and_sessions_are_offered_too(engine: Engine, cli: Cli) -> None:
    await order_run(engine, "order-1", steps=2)
    await engine.storage().for_run("other").save(checkpoint(workflow_name="refunds"))
    store = engine.open()
    await talked(store.sessions(), session("talk"), "one")
    engine.settle()
    assert await offered("eventckpt show order", cli.env) == ["order-1", "order-1-cp0", "order-1-cp1"]
    assert await offered("eventckpt diff order-1-", cli.env) == ["order-1-cp0", "order-1-cp1"]
    assert await offered("eventckpt runs --workflow r", cli.env) == ["refunds"]
    assert await offered("eventckpt history --workflow refunds o", cli.env) == ["other"]
    assert await offered("eventckpt history --turns t", cli.env) == ["talk"]


def completed() -> Iterator[tuple[str, str]]:
    """Each command, and each of its options that names are offered for; an argument's is empty."""
    group = cast(Any, typer.main.get_command(app))
    for name, command in group.commands.items():
        for parameter in command.params:
            if parameter._custom_shell_complete is not None:
                yield name, "" if parameter.param_type_name == "argument" else parameter.opts[0]


@pytest.mark.parametrize(("command", "option"), list(completed()))
async def test_every_option_that_names_are_offered_for_is_offered_some(
    engine: Engine, cli: Cli, command: str, option: str
) -> None:
    await order_run(engine, steps=1)
    words = " ".join(filter(None, ["eventckpt", command, option]))
    assert await offered(f"{words} o", cli.env)


def test_commands_with_names_to_offer_are_among_those_that_are_tried() -> None:
    assert {("info", ""), ("tail", "--run"), ("tail", "--workflow"), ("runs", "--workflow"), ("diff", "")} <= {
        *completed()
    }


@pytest.mark.parametrize("shell", SHELLS)
async def test_every_shell_is_offered_names(engine: Engine, cli: Cli, shell: str) -> None:
    await order_run(engine, steps=1)
    assert "order-1" in "".join(await offered("eventckpt info order", cli.env, shell))


@pytest.mark.parametrize(
    "run_id",
    ["a $(touch here)", "a`id`", "a;id", "a*", "a\x1b[2J", "a'b", 'a"b', "a|b", "a\nb", "-a", "a:b", "aö", "a~", "a#b"],
)
async def test_a_name_that_means_something_to_a_shell_is_not_offered(engine: Engine, cli: Cli, run_id: str) -> None:
    await engine.storage().for_run(run_id).save(checkpoint())
    await order_run(engine, "all-plain", steps=1)
    for shell in SHELLS:
        assert "".join(await offered("eventckpt info ", cli.env, shell)).count("all-plain") in (1, 2)
        assert "touch" not in "".join(await offered("eventckpt info a", cli.env, shell))
    assert await offered("eventckpt info ", cli.env) == ["all-plain"]


async def test_no_more_names_are_offered_than_are_a_choice(engine: Engine, cli: Cli) -> None:
    for number in range(_OFFERED + 5):
        await engine.storage().for_run(f"run-{number}").save(checkpoint())
    assert len(await offered("eventckpt info run", cli.env)) == _OFFERED


@pytest.mark.parametrize(
    "where", ["typo.db", "typo/typo.db", ".", "no.db", "AccountEndpoint=x;AccountKey=c2VjcmV0", "http://127.0.0.1:1/"]
)
async def test_where_there_is_no_store_nothing_is_offered_said_or_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.db").write_text("no database")
    before = in_folder(tmp_path)
    settings = {"EVENTCKPT_STORE": where, "AZURE_COSMOS_KEY": "c2VjcmV0", "AZURE_COSMOS_DATABASE_NAME": "d"}
    for words in ("info o", "show o", "runs --workflow o", f"info --store {where} o"):
        assert await offered(f"eventckpt {words}", settings) == []
    assert in_folder(tmp_path) == before


async def test_what_takes_too_long_offers_what_was_found(
    engine: Engine, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    await order_run(engine, steps=1)
    assert _IN_TIME <= 5
    monkeypatch.setattr("eventckpt.cli.completion._IN_TIME", 1e-9)
    assert await offered("eventckpt info o", cli.env) == []


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_program_says_its_version_and_asks_no_store(program: str) -> None:
    printed = await called(program, ["--version"], {})
    assert (printed.code, printed.out) == (0, f"{program} {metadata.version('eventckpt')}\n")


async def test_a_copy_of_the_files_is_of_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    assert "of no version" in (await called("eventckpt", ["--version"], {})).out


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", SHELLS)
async def test_a_program_shows_how_a_shell_completes_its_commands(
    program: str, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    printed = await called(program, ["--show-completion", shell], {})
    assert printed.code == 0
    assert f"complete_{shell}" in printed.out.replace("complete_pwsh", "")
