"""What a public function is given in place of what it asks for is told at the call, in one sentence that names it."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import (
    CheckpointAudit,
    CosmosCheckpointStorage,
    EventCheckpointStorage,
    EventSessionStore,
    SqliteCheckpointStorage,
    SqliteEventStore,
)
from eventckpt.location import LocationError, load_app, locate
from eventckpt.stores import AuditStore, RunFilter
from projections import LatestProjection, ProcessorOptions, compare, open_engine

LONGEST_SENTENCE = 400


@pytest.fixture
def storage(tmp_path: Path) -> SqliteCheckpointStorage:
    return SqliteCheckpointStorage(tmp_path / "store.db")


def told(call: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < LONGEST_SENTENCE


@pytest.mark.parametrize(
    "takes_a_store", [open_engine, LatestProjection, CheckpointAudit, EventSessionStore], ids=lambda each: each.__name__
)
def test_a_storage_in_place_of_its_store_is_told_which_one_is_meant(
    storage: SqliteCheckpointStorage, takes_a_store: Callable[[Any], object]
) -> None:
    told(lambda: takes_a_store(storage), TypeError, r"^store is an \w*Store, such as the \.store of what was given")
    for other in (None, "checkpoints.db", object(), storage.for_run("a"), b"x"):
        told(lambda other=other: takes_a_store(other), TypeError, r"^store is an \w*Store, not")
    assert takes_a_store(storage.store) is not None


@pytest.mark.parametrize("kind", [SqliteCheckpointStorage, CosmosCheckpointStorage], ids=lambda kind: kind.__name__)
def test_the_store_of_a_ready_made_storage_has_a_type_that_can_be_audited(kind: type[EventCheckpointStorage]) -> None:
    store = inspect.getattr_static(kind, "store")
    assert issubclass(get_type_hints(store.fget)["return"], AuditStore)


async def test_a_comparison_says_which_argument_is_none_of_its_kind(storage: SqliteCheckpointStorage) -> None:
    engine = open_engine(storage.store)
    runs = storage.store.run_store()
    for store, feed, documents, says in (
        (storage, engine.feed, runs, "such as the .store of"),
        (storage.store, engine, runs, "feed is a ChangeFeed"),
        (storage.store, engine.feed, storage.store, "runs is a RunStore"),
    ):
        with pytest.raises(TypeError, match=says):
            [each async for each in compare(store, feed, documents)]  # pyright: ignore[reportArgumentType]
    await storage.close()


def _wrong_filters() -> Iterator[tuple[str, Any, type[Exception]]]:
    for value in (5, b"w", ["w"], 0, False):
        yield "workflow_name", value, TypeError
        yield "prefix", value, TypeError
    for value in ("open", 5, None, [5], b"open"):
        yield "statuses", value, TypeError
    for value in (["opened"], ("open", ""), {"OPEN"}):
        yield "statuses", value, ValueError
    for value in ("2026-01-01", date(2026, 1, 1), 0, 1.5, b"x"):
        yield "since", value, TypeError
        yield "until", value, TypeError


@pytest.mark.parametrize(("field", "value", "error"), list(_wrong_filters()), ids=lambda value: ascii(value)[:30])
def test_a_filter_of_runs_takes_what_its_fields_say_alone(field: str, value: Any, error: type[Exception]) -> None:
    told(lambda: RunFilter(**{field: value}), error, "status" if field == "statuses" else f"^{field} is")


async def test_a_page_takes_a_filter_alone(storage: SqliteCheckpointStorage) -> None:
    runs = storage.store.run_store()
    for which in ("w", 5, {}, ("w",), False):
        with pytest.raises(TypeError, match="which is a RunFilter"):
            await runs.page(which)  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="which is a RunFilter"):
            await runs.counts(which)  # pyright: ignore[reportArgumentType]
    assert (await runs.page(RunFilter("w", ["open"]))).runs == []
    await storage.close()


@pytest.mark.parametrize("where", [b"store.db", 5, object(), [], True], ids=ascii)
def test_a_place_that_is_no_text_names_no_store(where: Any) -> None:
    told(lambda: locate(where, environ={}), TypeError, "^A store is named by a path or an endpoint")


@pytest.mark.parametrize("name", [None, 5, b"a:b", [], object()], ids=lambda value: ascii(value)[:12])
def test_an_application_that_is_no_text_is_told_how_one_is_named(name: Any) -> None:
    told(lambda: load_app(name), LocationError, "is named as module:callable")


@pytest.mark.parametrize("seconds", [10**400, -(10**400)], ids=["huge", "hugely negative"])
@pytest.mark.parametrize("option", ["expiry", "poll_interval", "backoff", "stop_timeout", "checkpoint_interval"])
def test_a_number_that_no_clock_can_count_is_no_number_of_seconds(option: str, seconds: int) -> None:
    told(lambda: ProcessorOptions(**{option: seconds}), ValueError, f"{option} is")


async def test_a_function_that_would_have_to_be_awaited_is_refused(tmp_path: Path) -> None:
    class Told:
        async def __call__(self, checkpoint: WorkflowCheckpoint, error: Exception) -> None: ...

    for on_save_error in (Told().__call__, Told()):
        told(
            lambda each=on_save_error: SqliteCheckpointStorage(tmp_path / "x.db", on_save_error=each),  # pyright: ignore[reportArgumentType]
            TypeError,
            "^on_save_error is a plain function",
        )


KEYS = [
    base64.b64encode(b"key" * 21 + b"k").decode(),
    "https://account.blob.core.windows.net/c?sv=1&sig=c2VjcmV0",
    "AccountEndpoint=https://account.example/;AccountKey=c2VjcmV0",
    "https://user:c2VjcmV0@host/",
]


@pytest.mark.parametrize("key", KEYS, ids=["a key", "a signed URL", "a connection string", "a URL with a password"])
def test_a_secret_in_place_of_a_path_is_refused_and_not_shown(key: str, tmp_path: Path) -> None:
    for takes_a_path in (SqliteCheckpointStorage, SqliteEventStore):
        with pytest.raises(ValueError, match="is not shown") as caught:
            takes_a_path(key)
        assert key[-8:] not in str(caught.value)
    there = tmp_path / "sig=c2VjcmV0.db"
    there.touch()
    assert SqliteEventStore(there).path == there
