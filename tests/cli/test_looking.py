"""Looking changes nothing: a command that reads makes no file, folder, database or container, and writes to none."""

from __future__ import annotations

from typing import Any

from ..engines import CosmosEngine, Engine, SqliteEngine
from ..snapshots import in_account, in_folder
from .conftest import environment, order_run
from .programs import CHANGING, LOOKING, PROGRAMS, called

MAKING = {"import", "import-from", "restore", "run"}
"""The commands that may begin a store."""
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
    named = {words[0] for _, words in LOOKING} | {words[0] for _, words in CHANGING} | MAKING | OF_FILES
    for app in PROGRAMS.values():
        for each in app.registered_commands:
            name = each.name or getattr(each.callback, "__name__", "")
            assert name in named, f"{name}: say in tests/cli whether it looks, changes or makes"


async def test_where_there_is_no_store_no_command_makes_one(engine: Engine) -> None:
    """Neither one that looks, nor one that changes what is there."""
    await order_run(engine, steps=2)
    await engine.close()
    before = await stored(engine)
    wrong: dict[str, Any] = {}
    for what, place in wrong_places(engine).items():
        for command in [*LOOKING, *CHANGING]:
            printed = await called(*command, place)
            said = printed.out + printed.err
            if printed.code != 4 or ("typo" not in said.replace(str(before), "") and what != "a folder"):
                wrong[f"{in_words(command)}, wrong {what}"] = (printed.code, said)
    assert wrong == {}
    assert await stored(engine) == before


async def test_a_store_that_commands_look_at_stays_as_it_is(engine: Engine) -> None:
    await order_run(engine, steps=2)
    await engine.close()
    place = environment(engine)
    if isinstance(engine, CosmosEngine):  # there, a projection has containers of its own
        assert (await called("eventckpt-projector", ["rebuild"], place)).code == 0
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
