"""What names a store, or an application's code: where it leads, what is refused, and that no secret is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import subprocess
import sys
import traceback
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventckpt import (
    CheckpointStoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StreamId,
)
from eventckpt.location import ENVIRONMENT, LocationError, load_app, load_named, locate, open_store
from eventckpt.stores.conformance import make_event

from .conftest import cosmos_account
from .cosmos_emulator import CosmosEmulator
from .engines import CosmosEngine, Engine, SqliteEngine
from .snapshots import in_account, in_folder
from .stores.identities import DATABASE, EVENTS, IdentityAccount, identity_account, role

STREAM = StreamId("orders", "order-1")
OTHER = StreamId("orders", "order-2")
ENDPOINT = "https://account.example:443/"
KEY = base64.b64encode(b"\x1fkey\xff" * 12 + b"secr").decode()
SECRETS = {
    "a connection string": f"AccountEndpoint={ENDPOINT};AccountKey={KEY};",
    "a part of one": f"AccountKey={KEY}",
    "a URL with a password": f"https://me:{KEY[:20]}@account.example/",
    "a URL with a user": f"https://{KEY[:20]}@account.example/",
    "another database's URL": f"db://me:{KEY[:20]}@host/db",
    "the key by itself": KEY,
    "the key without what it ends in": KEY.rstrip("="),
    "a URL with a query": f"https://account.example/?code={KEY[:20]}",
    "a signed URL": f"https://account.example/?sig={KEY}",
    "a signed URL of another kind": f"blob://account.example/?sig={KEY}",
}
NO_PLACES = ["", "  ", "\t", "sqlite:///checkpoints.db", "file://checkpoints.db", "cosmos://account/db", "ftp://host/x"]
NAMES = ("AZURE_COSMOS_DATABASE_NAME", "AZURE_COSMOS_CONTAINER_NAME")
VARIABLES = ("EVENTCKPT_STORE", "AZURE_COSMOS_ENDPOINT")


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def environment(engine: Engine, **others: str) -> dict[str, str]:
    """The environment that says where the store of an engine is."""
    if isinstance(engine, CosmosEngine):
        settings = engine.settings
        return {
            "EVENTCKPT_STORE": settings["endpoint"],
            "AZURE_COSMOS_KEY": settings["credential"],
            "AZURE_COSMOS_DATABASE_NAME": settings["database_name"],
            "AZURE_COSMOS_CONTAINER_NAME": settings["container_name"],
        } | others
    assert isinstance(engine, SqliteEngine)
    return {"EVENTCKPT_STORE": str(engine.path)} | others


async def filled(engine: Engine) -> None:
    """One event is there, and nobody has it open."""
    await engine.open().append(make_event(STREAM, 1))
    await engine.close()


async def stored(engine: CosmosEngine) -> dict[str, list[str]]:
    return await in_account(engine.settings["endpoint"], engine.settings["credential"])


def said_of(failure: pytest.ExceptionInfo[Exception]) -> str:
    """All that is shown of an error, its causes among it."""
    return "".join(traceback.format_exception(failure.value))


# Where it is


def test_what_is_given_comes_before_the_environment_and_its_own_variable_before_azures() -> None:
    both = {"EVENTCKPT_STORE": "mine.db", "AZURE_COSMOS_ENDPOINT": ENDPOINT}
    assert locate("given.db", environ=both) == Path("given.db")
    assert locate(Path("given.db"), environ=both) == Path("given.db")
    assert locate(environ=both) == Path("mine.db")
    assert locate(environ=both | {"EVENTCKPT_STORE": ""}) == ENDPOINT
    assert locate(environ={"EVENTCKPT_STORE": ENDPOINT}) == ENDPOINT
    assert locate("HTTPS://account.example/") == "HTTPS://account.example/"


def test_nothing_given_and_nothing_set_asks_which_store() -> None:
    for environ in ({}, dict.fromkeys(VARIABLES, "")):
        with pytest.raises(LocationError, match="Give --store PATH or ENDPOINT, or set EVENTCKPT_STORE"):
            locate(environ=environ)


@pytest.mark.parametrize("text", NO_PLACES)
def test_what_is_neither_a_path_nor_an_endpoint_is_refused_and_not_replaced_by_the_environments(text: str) -> None:
    """A blank comes of a variable that is not set: another store than the one that was meant must not be taken."""
    with pytest.raises(LocationError, match="Give a PATH or an ENDPOINT" if not text.strip() else "SQLite file"):
        locate(text, environ={"EVENTCKPT_STORE": "another.db"})


def test_the_variable_for_an_endpoint_takes_no_path() -> None:
    with pytest.raises(LocationError, match=r"^AZURE_COSMOS_ENDPOINT is 'checkpoints\.db'"):
        locate(environ={"AZURE_COSMOS_ENDPOINT": "checkpoints.db"})


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("given_as", ["argument", *VARIABLES, *NAMES])
async def test_a_secret_in_place_of_a_name_is_refused_and_shown_nowhere(
    secret: str, given_as: str, tmp_path: Path
) -> None:
    named = {**dict.fromkeys(NAMES, "d"), "AZURE_COSMOS_KEY": KEY, "AZURE_COSMOS_ENDPOINT": ENDPOINT}
    given, environ = (secret, named) if given_as == "argument" else (None, named | {given_as: secret})
    for how in ({}, {"read_only": True}, {"must_exist": True}):
        with pytest.raises(LocationError) as failure:
            async with open_store(given, environ=environ, **how):
                pass
        assert KEY[:12] not in said_of(failure)
    assert in_folder(tmp_path) == {}


async def test_a_file_whose_name_looks_like_a_key_can_be_opened(tmp_path: Path) -> None:
    name = "password=x.db"
    with pytest.raises(LocationError):
        locate(name)
    async with open_store("plain.db") as store:
        await store.append(make_event(STREAM, 1))
    os.rename("plain.db", name)  # noqa: PTH104 - nothing else runs
    async with open_store(name, read_only=True) as store:
        assert len([each async for each in store.streams()]) == 1


@pytest.mark.parametrize(
    "name", ["a" * 86, "A1b" * 28, f"{'A1b' * 28}A1b", f"/srv/{'Data1/' * 14}.db", "who?.db", "orders-2026_v1" * 7]
)
def test_a_name_that_is_as_long_as_a_key_is_none(name: str) -> None:
    assert locate(name) == Path(name)


# Opening


async def test_a_store_is_opened_by_the_environment_that_is_given(engine: Engine) -> None:
    """Not by the process's own, which says nothing here."""
    async with open_store(environ=environment(engine)) as store:
        await store.append(make_event(STREAM, 1))
    engine.settle()
    for how in ({"read_only": True}, {"must_exist": True}, {"read_only": True, "must_exist": True}):
        async with open_store(environ=environment(engine), **how) as store:
            assert len([each async for each in store.streams()]) == 1
    with pytest.raises(CheckpointStoreError, match="closed"):
        [each async for each in store.streams()]


async def test_a_store_that_is_read_only_takes_no_event(engine: Engine) -> None:
    await engine.open().append(make_event(STREAM, 1))
    engine.settle()
    async with open_store(environ=environment(engine), read_only=True) as store:
        with pytest.raises(StoreReadOnlyError):
            await store.append(make_event(STREAM, 2))


@pytest.mark.parametrize("how", [{"read_only": True}, {"must_exist": True}], ids=str)
@pytest.mark.parametrize("path", ["nowhere.db", "no/such/folder/nowhere.db", "file/nowhere.db", "folder", "pipe"])
async def test_where_there_is_no_file_none_is_made_for_who_looks_or_changes_what_is_there(
    path: str, how: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no folder")
    os.mkfifo(tmp_path / "pipe")
    before = in_folder(tmp_path)
    with pytest.raises(StoreNotFoundError, match=f"{path}.*EVENTCKPT_STORE"):
        async with open_store(path, **how):
            pass
    assert in_folder(tmp_path) == before


@pytest.fixture
async def account() -> AsyncGenerator[CosmosEngine, None]:
    """An account with one container, and an event in it."""
    async with cosmos_account() as (endpoint, key):
        engine = CosmosEngine(endpoint, key, f"test-{uuid.uuid4()}")
        await engine.open().append(make_event(STREAM, 1))
        engine.settle()
        yield engine
        await engine.close()


@pytest.mark.parametrize("how", [{"read_only": True}, {"must_exist": True}], ids=str)
@pytest.mark.parametrize("wrong", ["AZURE_COSMOS_DATABASE_NAME", "AZURE_COSMOS_CONTAINER_NAME"])
async def test_a_container_that_is_not_there_is_not_made_either(
    account: CosmosEngine, wrong: str, how: dict[str, Any]
) -> None:
    environ = environment(account, **{wrong: "no-such"})
    before = await stored(account)
    with pytest.raises(CheckpointStoreError, match=r"'no-such'.*does not exist"):
        async with open_store(environ=environ, **how) as store:
            await store.checkpoint_ids("", limit=1)
    assert await stored(account) == before


@pytest.mark.parametrize("missing", ["AZURE_COSMOS_DATABASE_NAME", "AZURE_COSMOS_CONTAINER_NAME"])
async def test_a_setting_that_is_missing_is_named(missing: str) -> None:
    environ = {
        name: value
        for name, value in {
            "EVENTCKPT_STORE": ENDPOINT,
            "AZURE_COSMOS_DATABASE_NAME": "d",
            "AZURE_COSMOS_CONTAINER_NAME": "c",
            "AZURE_COSMOS_KEY": KEY,
        }.items()
        if name != missing
    }
    with pytest.raises(LocationError, match=f"Set {missing}"):
        async with open_store(environ=environ):
            pass


@pytest.mark.parametrize("how", [{}, {"must_exist": True}], ids=str)
async def test_an_operation_waits_for_a_locked_file_as_long_as_is_said(how: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await filled(SqliteEngine(path))
    async with open_store(path, patience=0.1, **how) as hasty, open_store(path, **how) as patient:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waits = asyncio.ensure_future(patient.append(make_event(OTHER, 1)))
            with pytest.raises(StoreLockedError):
                await hasty.append(make_event(OTHER, 1))
            assert not waits.done()
            other.execute("ROLLBACK")
            await waits


@pytest.mark.parametrize("how", [{}, {"must_exist": True}, {"read_only": True}], ids=str)
async def test_an_operation_waits_for_the_service_as_long_as_is_said(how: dict[str, Any]) -> None:
    """The same fault goes unnoticed with the time for it, and is told with less."""
    async with CosmosEmulator() as emulator:
        engine = CosmosEngine(emulator.endpoint, emulator.key, "events")
        await filled(engine)
        environ, pause = environment(engine), {"x-ms-retry-after-ms": "800"}
        async with (
            open_store(environ=environ, patience=1.5, **how) as hasty,
            open_store(environ=environ, **how) as patient,
        ):
            for store in (hasty, patient):
                await store.read(STREAM, 1)
            with (
                emulator.faults.respond(449, headers=pause, kind="read_item", times=2),
                pytest.raises(StoreUnavailableError, match="449"),
            ):
                await hasty.read(STREAM, 1)
            with emulator.faults.respond(449, headers=pause, kind="read_item", times=2) as rule:
                assert len(await patient.read(STREAM, 1)) == 1
                assert rule.hits == 2


@pytest.mark.parametrize("where", ["events.db", ENDPOINT])
@pytest.mark.parametrize("how", [{}, {"must_exist": True}, {"read_only": True}], ids=str)
@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), "30", None, True])
async def test_a_patience_that_is_no_time_is_refused(
    where: str, how: dict[str, Any], patience: Any, tmp_path: Path
) -> None:
    names = {"AZURE_COSMOS_DATABASE_NAME": "d", "AZURE_COSMOS_CONTAINER_NAME": "c", "AZURE_COSMOS_KEY": KEY}
    with pytest.raises(LocationError, match="timeout is a number of seconds"):
        async with open_store(where, patience=patience, environ=names, **how):
            pass
    assert in_folder(tmp_path) == {}


class Identities:
    """In the place of `DefaultAzureCredential`: somebody with a right to the container, who is let go of at the end."""

    def __init__(self, account: IdentityAccount) -> None:
        self.account = account
        self.somebody = account.principal({EVENTS: role("workflows")})
        self.opened = 0

    def __call__(self) -> Any:
        identities, credential = self, self.account.identity.async_credential(self.somebody)

        class Somebody:
            async def get_token(self, *scopes: str, **options: Any) -> Any:
                return await credential.get_token(*scopes, **options)

            async def __aenter__(self) -> Any:
                identities.opened += 1
                return self

            async def __aexit__(self, *error: object) -> None:
                identities.opened -= 1

        return Somebody()


async def test_without_a_key_it_is_the_identity_that_is_asked_and_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async with identity_account() as account:
        identities = Identities(account)
        monkeypatch.setattr("azure.identity.aio.DefaultAzureCredential", identities)
        environ = {
            "AZURE_COSMOS_ENDPOINT": account.emulator.endpoint,
            "AZURE_COSMOS_DATABASE_NAME": DATABASE,
            "AZURE_COSMOS_CONTAINER_NAME": EVENTS,
        }
        async with open_store(environ=environ) as store:
            await store.append(make_event(STREAM, 1))
            assert identities.opened == 1
        assert identities.opened == 0
        with pytest.raises(RuntimeError, match="of the body"):
            async with open_store(environ=environ, must_exist=True):
                raise RuntimeError("of the body")
        with pytest.raises(LocationError):
            async with open_store(environ=environ | {"AZURE_COSMOS_CONTAINER_NAME": "a/b"}):
                pass
        assert identities.opened == 0


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['azure'] = None\n"
        "import asyncio\n"
        "from eventckpt.location import LocationError, open_store\n"
        "async def main(key):\n"
        f"    environ = {{'EVENTCKPT_STORE': {ENDPOINT!r}, 'AZURE_COSMOS_DATABASE_NAME': 'd',"
        " 'AZURE_COSMOS_CONTAINER_NAME': 'c', 'AZURE_COSMOS_KEY': key}\n"
        "    async with open_store(environ=environ): pass\n"
        "for key in ('', 'a2V5'):\n"
        "    try: asyncio.run(main(key))\n"
        "    except LocationError as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.count("pip install '.[cosmos]'") == 2


# An application's code

MODULES = {
    "whole.py": "def build(): return 'built'\nclass Builder:\n    build = staticmethod(lambda: 'of a class')\n",
    "broken.py": "raise RuntimeError('no database\x1b[2J\\nat all')\n",
    "mistyped.py": "def build(:\n",
    "leaving.py": "raise SystemExit(3)\n",
    "needy.py": "import no_such_thing\n",
    "lazy.py": "def __getattr__(name): raise KeyError(name)\n",
    "package/__init__.py": "number = 5\n",
    "package/inner.py": "build = str\n",
    "package/needy.py": "from package import missing\n",
}


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The current folder holds an application; and how modules are found is put back afterwards."""
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_callable_of_the_current_folder_is_found_by_its_name(application: Path) -> None:
    path = [*sys.path]
    assert load_app("whole:build")() == "built"
    assert load_app("whole:Builder.build")() == "of a class"
    assert load_app("package.inner:build") is str
    assert load_app("json:dumps") is json.dumps
    assert sys.path == [str(application), *path], "the folder is put before the others, once, and stays there"


def test_what_cannot_be_called_is_found_where_that_is_not_asked(application: Path) -> None:
    assert load_named("package:number") == 5
    assert load_named("whole:build") is load_app("whole:build")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_app:build", "There is no module no_such_app"),
        ("package.no_such:build", "There is no module package.no_such"),
        ("no_such_app.inner:build", "There is no module no_such_app"),
        ("json.decoder.deeper:build", "There is no module json.decoder.deeper"),
        ("whole.py:build", "There is no module whole.py"),
        ("whole:destroy", "whole has no destroy"),
        ("whole:build.deeper", "whole has no build.deeper"),
        ("package:number", "package:number is a int, and cannot be called"),
        ("broken:build", "broken cannot be imported: RuntimeError: no database"),
        ("mistyped:build", "mistyped cannot be imported: SyntaxError"),
        ("leaving:build", "leaving cannot be imported: SystemExit: 3"),
        ("needy:build", "needy cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("package.needy:build", "package.needy cannot be imported: ImportError: cannot import name 'missing'"),
        ("lazy:build", "lazy does not give its build: KeyError"),
        *[(name, "module:callable") for name in (
            "", ":", "whole", "whole:", ":build", "whole:build:again", "./whole:build", ".whole:build",
            "whole build:x", "whole:build()", "whole:a..b", "..:x", "whole:\x1b[2J", "\ud800:x", "a" * 100_000, "1a:b",
        )],
    ],
)  # fmt: skip
def test_what_cannot_be_found_or_imported_is_said_in_one_line(application: Path, name: str, said: str) -> None:
    with pytest.raises(LocationError) as failure:
        load_app(name)
    text = str(failure.value)
    assert said in text
    assert text.isprintable()
    assert len(text) < 500


def test_a_secret_in_place_of_a_name_of_code_is_not_shown(application: Path) -> None:
    for secret in SECRETS.values():
        with pytest.raises(LocationError) as failure:
            load_app(secret)
        assert KEY[:12] not in said_of(failure)
