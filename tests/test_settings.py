"""Every setting of the wrong kind is told at once, in a sentence that names it, before anything is sent or written."""

from __future__ import annotations

import asyncio
import base64
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from agent_framework import SecretString
from agent_framework.exceptions import SettingNotFoundError
from azure.core.credentials import AccessToken
from azure.cosmos import CosmosClient as BlockingClient

from eventckpt import (
    CheckpointStoreError,
    CosmosCheckpointStorage,
    CosmosEventStore,
    EventCheckpointStorage,
    SqliteCheckpointStorage,
    SqliteEventStore,
    Upcaster,
)
from eventckpt.location import ENVIRONMENT
from projections import ChangeFeedProcessor, ProcessorOptions, open_engine

from .conftest import cosmos_account
from .engines import COSMOS_DATABASE, Engine

ENDPOINT = "https://account.example:443/"
KEY = base64.b64encode(b"key" * 21 + b"k").decode()
NAN, INFINITY = float("nan"), float("inf")


class Identity:
    """A token credential that must not be asked."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise AssertionError("the identity was asked")


class Wordless:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


NOT_TEXT: tuple[Any, ...] = (42, 1.5, True, b"text", ["text"], object(), Wordless())
NOT_A_NAME: tuple[Any, ...] = (*NOT_TEXT, "", "   ", "\ud800")
NOT_A_COSMOS_NAME: tuple[Any, ...] = (
    *NOT_A_NAME, "x" * 256, "a/b", "a\\b", "a?b", "a#b", "ends in a space ", ".", "..", "db\n", "a\t", "\ra", "a\x00b",
    "\x7f", "a\x85", "\x1b[2J", "a\u2028b",
)  # fmt: skip
NOT_A_WHOLE_NUMBER: tuple[Any, ...] = ("5", None, 1.5, True, NAN, [], Wordless())
NOT_SECONDS: tuple[Any, ...] = ("5", None, True, NAN, INFINITY, -1, -INFINITY, 1j, [], Wordless())
NOT_A_CHOICE: tuple[Any, ...] = ("other", "", None, 5, True, ["fork"], Wordless())
NOT_A_FLAG: tuple[Any, ...] = (None, "", "no", 0, 1, [], Wordless())
NOT_A_FUNCTION: tuple[Any, ...] = ("print", 5, [], Wordless(), asyncio.sleep)

STORAGE: dict[str, tuple[Any, ...]] = {
    "allowed_checkpoint_types": (
        "my_app:State",
        b"my_app:State",
        5,
        True,
        [5],
        [object],
        [["my_app:State"]],
        ["State"],
    ),
    "on_conflict": NOT_A_CHOICE,
    "on_save_error": NOT_A_FUNCTION,
    "actor": NOT_A_NAME,
    "cache_bytes": (*NOT_A_WHOLE_NUMBER, -1),
    "latest": NOT_A_CHOICE,
    "on_drift": NOT_A_CHOICE,
    "upcasters": (
        None,
        5,
        True,
        "my_app:Order",
        Upcaster("my_app:Order", to="my_app:New"),
        [5],
        [None],
        ["my_app:Order"],
        {"my_app:Order": None},
        Wordless(),
        [Wordless()],
    ),
}
SQLITE: dict[str, tuple[Any, ...]] = {
    "path": (None, 42, True, b"file.db", ["file.db"], "", " ", ":memory:", "a\x00b", object(), Wordless()),
    "synchronous": NOT_A_CHOICE,
    "busy_timeout": (*NOT_SECONDS, 1e9),
}
ENGINE: dict[str, tuple[Any, ...]] = {"read_only": NOT_A_FLAG}
COSMOS: dict[str, tuple[Any, ...]] = {
    "endpoint": (*NOT_A_NAME, "account", "ftp://account.example/", "https://", "https://:443/", "https://a:port/",
                 "https://[a/", "https://a b/", "https://account.example\n/", "AccountEndpoint=https://a/;",
                 "http://u:p@host/", "https://u@host/", "https://@host/", "https://host/path", "https://host//",
                 "https://host/?", "https://host/?a=b", "https://host/#", "https://host:443/.", "https://a\\b/"),
    "database_name": NOT_A_COSMOS_NAME,
    "container_name": NOT_A_COSMOS_NAME,
    "credential": ("", "  ", "no base64!", KEY[:-1], "é", SecretString("no base64!"), SecretString(""), b"key", 42,
                   True, [KEY], {"masterKey": KEY}, Identity, object(), Wordless()),
    "cosmos_client": ("client", 42, object(), Wordless(), BlockingClient),
    "container_client": ("container", 42, object(), Wordless()),
    "env_file_path": (42, True, "", "missing.env", ".", Path(), ["a.env"], object(), Wordless()),
    "env_file_encoding": (42, "", "no-such-encoding", object(), Wordless()),
    "timeout": (*NOT_SECONDS, 0),
    "priority": ("other", "", "low", 5, True, ["Low"], Wordless()),
    "throughput_bucket": ("5", 1.5, True, NAN, [], Wordless(), 0, 6, -1),
}  # fmt: skip
PERIODS = (
    "poll_interval", "acquire_interval", "renew_interval", "expiry", "backoff", "max_backoff", "fence_margin",
    "lag_interval",
)  # fmt: skip
PROCESSOR: dict[str, tuple[Any, ...]] = {
    "worker": NOT_A_NAME,
    "start": NOT_A_CHOICE,
    "on_error": NOT_A_CHOICE,
    **dict.fromkeys(("page_size", "batch_pages", "max_attempts"), (*NOT_A_WHOLE_NUMBER, 0)),
    **dict.fromkeys(("read_ahead", "requests_per_cycle"), (*NOT_A_WHOLE_NUMBER, -1)),
    **dict.fromkeys(PERIODS, (*NOT_SECONDS, 0, 10**400)),
    **dict.fromkeys(("checkpoint_interval", "stop_timeout"), NOT_SECONDS),
}


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "a.env").write_text("AZURE_COSMOS_KEY=\n")
    monkeypatch.chdir(tmp_path)


def on_cosmos(**options: Any) -> dict[str, Any]:
    named = {"endpoint": ENDPOINT, "database_name": "d", "container_name": "c", "credential": KEY}
    if "env_file_encoding" in options:
        named["env_file_path"] = "a.env"
    return named | options


def on_sqlite(**options: Any) -> dict[str, Any]:
    return {"path": "a.db"} | options


def over_sqlite(**options: Any) -> EventCheckpointStorage:
    return EventCheckpointStorage(**{"store": SqliteEventStore("a.db")} | options)


MAKERS: dict[str, tuple[Callable[..., Any], dict[str, tuple[Any, ...]]]] = {
    "SqliteEventStore": (lambda **options: SqliteEventStore(**on_sqlite(**options)), SQLITE | ENGINE),
    "SqliteCheckpointStorage": (lambda **options: SqliteCheckpointStorage(**on_sqlite(**options)), SQLITE | STORAGE),
    "EventCheckpointStorage": (over_sqlite, STORAGE | {"store": (None, "a.db", 42, SqliteEventStore, Wordless())}),
    "CosmosEventStore": (
        lambda **options: CosmosEventStore(**on_cosmos(**options)),
        COSMOS | ENGINE | {"must_exist": NOT_A_FLAG},
    ),
    "CosmosCheckpointStorage": (lambda **options: CosmosCheckpointStorage(**on_cosmos(**options)), COSMOS | STORAGE),
    "ProcessorOptions": (ProcessorOptions, PROCESSOR),
}


def files(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def wrong_settings() -> Iterator[Any]:
    for maker, (_, settings) in MAKERS.items():
        for name, values in settings.items():
            for number, value in enumerate(values):
                yield pytest.param(maker, name, value, id=f"{maker}-{name}-{number}")


@pytest.mark.parametrize(("maker", "name", "value"), list(wrong_settings()))
def test_a_setting_of_the_wrong_kind_is_refused_by_its_name(maker: str, name: str, value: Any, tmp_path: Path) -> None:
    before = files(tmp_path)
    with pytest.raises((ValueError, TypeError), match=name) as refusal:
        MAKERS[maker][0](**{name: value})
    assert type(refusal.value) in (ValueError, TypeError)
    assert str(refusal.value).isprintable()
    assert files(tmp_path) == before


@pytest.mark.parametrize("maker", MAKERS)
def test_every_setting_is_among_those_that_are_tried(maker: str) -> None:
    cls = {"ProcessorOptions": ProcessorOptions}.get(maker) or getattr(__import__("eventckpt"), maker)
    assert set(cls.__init__.__annotations__) - {"return", "self"} <= set(MAKERS[maker][1])


@pytest.mark.parametrize("maker", ["CosmosEventStore", "CosmosCheckpointStorage"])
def test_a_key_that_is_wrong_is_not_shown(maker: str) -> None:
    for key in ("my secret key", SecretString("my secret key")):
        with pytest.raises(ValueError, match="credential") as refusal:
            MAKERS[maker][0](credential=key)
        assert "secret key" not in repr(refusal.value)


def connection_strings() -> list[str]:
    return [
        f"AccountEndpoint=https://x.documents.azure.com:443/;AccountKey={KEY};",
        f"accountkey = {KEY}",
        f"Endpoint=sb://x/;SharedAccessKeyName=root;SharedAccessKey={KEY}",
        f"https://{quote(KEY)}@x.documents.azure.com:443/",
        f"https://user:{quote(KEY)}@x.documents.azure.com:443/",
        KEY,
    ]


@pytest.mark.parametrize("value", connection_strings())
@pytest.mark.parametrize("name", ["endpoint", "database_name", "container_name", "env_file_path", "env_file_encoding"])
@pytest.mark.parametrize("padding", ["", "x" * 100])
def test_a_connection_string_is_refused_and_nothing_of_its_key_is_shown(name: str, value: str, padding: str) -> None:
    if name.endswith("_name") and "/" not in value:
        value += "/"  # a name that is refused
    with pytest.raises(ValueError, match=name) as refusal:
        CosmosCheckpointStorage(**on_cosmos(**{name: padding + value}))
    said = "".join(traceback.format_exception_only(refusal.value)) + repr(refusal.value.__cause__)
    assert KEY[:6] not in said
    if name == "endpoint" and "=" in value.strip("=") and not padding:
        assert "connection string" in said
        assert "endpoint" in said
        assert "credential apart" in said


@pytest.mark.parametrize("value", [each for each in connection_strings() if each != KEY])
def test_a_connection_string_is_no_path_of_a_file(value: str, tmp_path: Path) -> None:
    before = files(tmp_path)
    with pytest.raises(ValueError, match="path is a connection string") as refusal:
        SqliteCheckpointStorage(value)
    assert KEY[:6] not in str(refusal.value)
    assert files(tmp_path) == before


def test_names_that_only_look_like_it_are_names(tmp_path: Path) -> None:
    for name in ("day=5/monkey=1.db", "user@host.db", "key=a.db"):
        SqliteCheckpointStorage(tmp_path / name)
    for name in ("a.b", "...", "a=b", "bücher", "東京", "a b", "x" * 255, "user@host"):
        CosmosEventStore(**on_cosmos(database_name=name, container_name=name))
    for endpoint in ("https://host", "https://host/", "http://127.0.0.1:8081/", "https://[::1]:8081"):
        CosmosEventStore(**on_cosmos(endpoint=endpoint))


@pytest.mark.parametrize("credential", [Identity(), "key in the environment"])
def test_an_identity_is_sent_over_https_only(credential: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isinstance(credential, Identity):  # a key may go over http: the emulator's does
        monkeypatch.setenv("AZURE_COSMOS_KEY", KEY)
        CosmosEventStore(endpoint="http://localhost:8081/", database_name="d", container_name="c")
        return
    with pytest.raises(ValueError, match=r"endpoint .* https"):
        CosmosEventStore(**on_cosmos(endpoint="http://localhost:8081/", credential=credential))
    CosmosEventStore(**on_cosmos(credential=credential))


@pytest.mark.parametrize("name", ["ENDPOINT", "DATABASE_NAME", "CONTAINER_NAME", "KEY"])
def test_a_setting_from_the_environment_is_checked_alike_and_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each, value in {"ENDPOINT": ENDPOINT, "DATABASE_NAME": "d", "CONTAINER_NAME": "c", "KEY": KEY}.items():
        monkeypatch.setenv(f"AZURE_COSMOS_{each}", value)
    CosmosEventStore()
    monkeypatch.setenv(f"AZURE_COSMOS_{name}", "  ")
    with pytest.raises(ValueError, match=f"AZURE_COSMOS_{name}"):
        CosmosEventStore()
    monkeypatch.delenv(f"AZURE_COSMOS_{name}")
    with pytest.raises(SettingNotFoundError, match=f"AZURE_COSMOS_{name}"):
        CosmosEventStore()


def test_a_key_with_white_space_around_it_is_the_key() -> None:
    CosmosEventStore(**on_cosmos(credential=f" {KEY}\n"))


@pytest.mark.parametrize("run_id", [*NOT_A_NAME, None, "x" * 256])
async def test_a_run_id_that_cannot_be_one_is_refused_by_name(run_id: Any) -> None:
    storage = SqliteCheckpointStorage("a.db")
    with pytest.raises((ValueError, TypeError), match="run id"):
        storage.for_run(run_id)
    if run_id is not None and run_id != "x" * 256:
        with pytest.raises((ValueError, TypeError), match="workflow_name"):
            storage.for_run("r", workflow_name=run_id)


async def test_a_path_that_is_no_files_is_told_on_first_use_and_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path, tmp_path / "file" / "a.db", tmp_path / ("x" * 300), Path("/dev/null")):
        async with SqliteCheckpointStorage(path) as storage:
            began = time.monotonic()
            with pytest.raises(CheckpointStoreError, match=str(path)[:100]):
                await storage.load("nothing")
            assert time.monotonic() - began < 20
    assert files(tmp_path) == ["a.env", "file"]


async def test_a_processor_of_the_wrong_parts_is_refused_by_their_names(engine: Engine) -> None:
    def handler(batch: object) -> None: ...

    parts = open_engine(engine.open())
    right: dict[str, Any] = {"feed": parts.feed, "leases": parts.leases("p"), "handler": handler}
    ChangeFeedProcessor(**right)
    for name, value in (("feed", "feed"), ("leases", None), ("handler", 5), ("options", {"page_size": 5})):
        with pytest.raises(TypeError, match=name):
            ChangeFeedProcessor(**right | {name: value})


async def test_a_cosmos_storage_says_where_it_writes() -> None:
    async with cosmos_account() as (endpoint, key):
        settings = {"database_name": COSMOS_DATABASE, "container_name": "named"}
        async with CosmosCheckpointStorage(endpoint=endpoint, credential=key, **settings) as storage:
            assert (storage.database_name, storage.container_name) == (COSMOS_DATABASE, "named")
            assert isinstance(storage.store, CosmosEventStore)
            given = CosmosCheckpointStorage(container_client=await storage.store.container())
            assert (given.database_name, given.container_name) == (COSMOS_DATABASE, "named")
