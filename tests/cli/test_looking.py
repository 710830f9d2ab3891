"""Looking changes nothing: a command that reads makes no file, folder, database or container, and writes to none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eventckpt.stores import AuditStore

from ..conversations import session, talked
from ..engines import CosmosEngine, Engine, SqliteEngine
from ..snapshots import in_account, in_folder
from .conftest import environment, order_run
from .programs import CHANGING, LOOKING, PROGRAMS, called

pytestmark = pytest.mark.slow  # every command, each in a process

MAKING = {"import", "import-from", "restore", "run"}
"""The commands that may begin a store."""
OF_NO_STORE = {"schema"}
"""The commands that ask no store."""
OF_FILES = {"backup"}
"""The commands that look at a SQLite file only."""


def in_words(command: tuple[str, list[str]]) -> str:
    program, words = command
    return " ".join([program, *words])


async def stored(engine: Engine) -> Any:
    """All that is stored beside the engine's store, and in it."""
    if isinstance(engine, CosmosEngine):
        engine.settle()
        return await in_account(engine.settings["endpoint"], engine.settings["credential"])
    assert isinstance(engine, SqliteEngine)
    return in_folder(engine.path.parent)


def wrong_places(engine: Engine) -> dict[str, dict[str, str]]:
    """Environments that lead to no store, by what of them is wrong."""
    right = environment(engine)
    if isinstance(engine, CosmosEngine):
        return {
            "container": right | {"AZURE_COSMOS_CONTAINER_NAME": "typo"},
            "database": right | {"AZURE_COSMOS_DATABASE_NAME": "typo"},
        }
    assert isinstance(engine, SqliteEngine)
    folder = engine.path.parent
    return {
        "name": {"EVENTCKPT_STORE": str(folder / "typo.db")},
        "folder": {"EVENTCKPT_STORE": str(folder / "typo" / "checkpoints.db")},
        "a folder": {"EVENTCKPT_STORE": str(folder)},
    }


def test_every_command_is_known_to_look_to_change_or_to_make() -> None:
    """So that a new one cannot be left out of what follows."""
    named = {words[0] for _, words in LOOKING} | {words[0] for _, words in CHANGING} | MAKING | OF_FILES | OF_NO_STORE
    for app in PROGRAMS.values():
        for each in app.registered_commands:
            name = each.name or getattr(each.callback, "__name__", "")
            assert name in named, f"{name}: say in tests/cli whether it looks, changes or makes"


async def test_where_there_is_no_store_no_command_makes_one(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that looks, nor one that changes what is there."""
    for wait in ("GIVEN", "LOOKED_AT"):  # seconds for which a container that was just made may not be known yet
        monkeypatch.setattr(f"eventckpt.stores.cosmos.opening.{wait}", 0.05)
    await order_run(engine, steps=2)
    await engine.close()
    before = await stored(engine)
    wrong: dict[str, Any] = {}
    for what, place in wrong_places(engine).items():
        named = "typo" if "typo" in str(place) else place["EVENTCKPT_STORE"]
        for command in [*LOOKING, *CHANGING]:
            printed = await called(*command, place)
            if printed.code != 4 or named not in printed.out + printed.err:
                wrong[f"{in_words(command)}, wrong {what}"] = (printed.code, printed.out, printed.err)
    assert wrong == {}
    assert await stored(engine) == before


async def test_a_store_that_commands_look_at_stays_as_it_is(engine: Engine) -> None:
    await order_run(engine, steps=2)
    store = engine.open()
    assert isinstance(store, AuditStore)
    await talked(store.sessions(), session(), "one", "two")
    await engine.close()
    place = environment(engine)
    for words in (["rebuild"], ["rebuild", "--turns"]):  # so that there are projections
        assert (await called("eventckpt-projector", words, place)).code == 0
    before = await stored(engine)
    wrong: dict[str, Any] = {}
    for command in LOOKING:
        printed = await called(*command, place)
        now = await stored(engine)
        if printed.code not in (0, 1) or now != before:
            wrong[in_words(command)] = (printed.code, printed.err, now)
    assert wrong == {}


async def test_doctor_writes_its_probe_only_when_it_is_told_to(engine: Engine) -> None:
    await order_run(engine, steps=2)
    for words, tried in ((["doctor"], False), (["doctor", "--write"], True)):
        printed = await called("eventckpt", [*words, "--json"], environment(engine))
        writing = [each for each in printed.of("check") if each["name"] == "writing"]
        assert all(each["ok"] for each in writing)
        assert [each for each in writing if "not tried" not in each["detail"]] == (writing if tried else [])
        assert not tried or writing


LOOK_WITHOUT_ROOTS_RIGHTS = """
import ctypes, os, sys
if os.getuid() == 0:  # permissions are looked at for root, too
    for right in (1, 2):  # to write, and to read, whatever the permissions say
        ctypes.CDLL(None).prctl(24, right, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], sys.argv[1]])
"""
LOOK = """
import asyncio, json, sys
from tests.cli.programs import LOOKING, called

async def main(store, *others):
    ended = {}
    for program, words in [*LOOKING, *others]:
        printed = await called(program, words, {"EVENTCKPT_STORE": store})
        ended[" ".join([program, *words])] = [printed.code, printed.out, printed.err]
    print(json.dumps(ended))

asyncio.run(main(sys.argv[1], ("eventckpt", ["backup", "copy.db"]), ("eventckpt", ["doctor", "--write"])))
"""


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "left open"])
async def test_a_store_where_nothing_can_be_written_is_read_by_every_command_that_looks(
    tmp_path: Path, is_open: bool
) -> None:
    """By the permissions of file and folder. A file system that is mounted to be read is the engine's to test."""
    folder, elsewhere = tmp_path / "media", tmp_path / "elsewhere"
    for each in (folder, elsewhere):
        each.mkdir()
    engine = SqliteEngine(folder / "checkpoints.db")
    await order_run(engine, steps=2)
    assert (await called("eventckpt-projector", ["rebuild"], environment(engine))).code == 0
    if not is_open:
        await engine.close()
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    before = in_folder(folder)
    looked = subprocess.run(  # noqa: ASYNC221 - likewise
        [sys.executable, "-c", LOOK_WITHOUT_ROOTS_RIGHTS, str(engine.path), LOOK],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    folder.chmod(0o755)
    ended: dict[str, Any] = json.loads(looked.stdout)
    code, out, _ = ended.pop("eventckpt doctor --write")
    assert (code in (1, 4), "WRONG    writing" in out) == (True, True), out
    assert {name: said for name, said in ended.items() if said[0] != 0} == {}
    assert in_folder(folder) == before
    assert [*in_folder(elsewhere)] == ["copy.db"]
    for file in folder.iterdir():
        file.chmod(0o644)
    await engine.close()


async def test_an_export_and_a_backup_can_be_read_by_their_owner_alone(tmp_path: Path) -> None:
    """Whatever the permissions of the store are, and whatever the umask leaves."""
    engine = SqliteEngine(tmp_path / "checkpoints.db")
    await order_run(engine, steps=2)
    engine.path.chmod(0o666)
    before = os.umask(0)
    try:
        for words in (["export", "--all", "-o"], ["backup"]):
            file = tmp_path / words[0]
            assert (await called("eventckpt", [*words, str(file)], environment(engine))).code == 0
            assert file.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    await engine.close()
