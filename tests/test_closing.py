"""What fails while something closes never takes the place of what went wrong inside of it."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from eventckpt import CheckpointStoreError, EventCheckpointStorage, EventStore
from eventckpt.closing import close_after
from projections import ChangeFeedProcessor, open_engine

from .engines import Engine


class StoreThatDoesNotClose(EventStore):
    """An engine whose connection breaks before it is closed."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def append(self, event: Any) -> None: ...

    async def read(self, stream: Any, *seqs: int) -> Any:
        return []

    async def find(self, checkpoint_id: str, *, stream: Any = None) -> Any:
        return None

    def headers(self, stream: Any, **options: Any) -> Any: ...

    def workflow_headers(self, workflow_name: str, **options: Any) -> Any: ...

    async def close(self) -> None:
        raise self._error


class StorageThatOwnsIt(EventCheckpointStorage):
    async def close(self) -> None:
        await self.store.close()


class ProcessorThatDoesNotStop(ChangeFeedProcessor):
    error: BaseException

    async def stop(self) -> None:
        await super().stop()
        raise self.error


def processor(engine: Engine, error: BaseException) -> ProcessorThatDoesNotStop:
    async def handler(batch: object) -> None: ...

    parts = open_engine(engine.open())
    made = ProcessorThatDoesNotStop(parts.feed, parts.leases("p"), handler)
    made.error = error
    return made


MANAGERS: dict[str, Callable[[Engine, BaseException], AbstractAsyncContextManager[Any]]] = {
    "store": lambda engine, error: StoreThatDoesNotClose(error),
    "storage": lambda engine, error: StorageThatOwnsIt(StoreThatDoesNotClose(error)),
    "processor": processor,
}


@pytest.mark.parametrize("manager", MANAGERS)
async def test_what_the_body_raised_is_what_the_caller_hears(
    engine: Engine, manager: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LookupError, match="of the body") as raised:
        async with MANAGERS[manager](engine, CheckpointStoreError("it does not close")):
            raise LookupError("of the body")
    assert raised.value.__notes__ == ["Closing failed too: CheckpointStoreError: it does not close"]
    assert "Closing after LookupError failed too: CheckpointStoreError: it does not close" in caplog.text


@pytest.mark.parametrize("manager", MANAGERS)
async def test_a_cancelled_body_stays_cancelled(engine: Engine, manager: str) -> None:
    entered = asyncio.Event()

    async def body() -> None:
        async with MANAGERS[manager](engine, CheckpointStoreError("it does not close")):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(body())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("manager", MANAGERS)
async def test_where_the_body_went_well_the_failure_is_raised(engine: Engine, manager: str) -> None:
    with pytest.raises(CheckpointStoreError, match="it does not close"):
        async with MANAGERS[manager](engine, CheckpointStoreError("it does not close")):
            pass


async def test_being_cancelled_while_closing_is_never_hidden() -> None:
    async def close() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await close_after(LookupError("of the body"), close)


ROOT = Path(__file__).parent.parent
SOURCES = [*ROOT.glob("eventckpt/**/*.py"), *ROOT.glob("projections/**/*.py")]


CANCELLING = {"claims", "on_record"}
"""These hold nothing that closes: they take back the cancellation of their body that they asked for. That an error of
the body goes first is held by `tests/storage/test_claims.py` and `tests/answers/test_holders.py`."""


def test_every_context_manager_of_the_packages_closes_like_that() -> None:
    found = [
        (path.stem, ast.unparse(node.body[-1]))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "__aexit__"
    ]
    closing = [name for name, last in found if last.startswith("await close_after(error, self.")]
    assert len(closing) == 7
    assert {name for name, last in found if name not in closing and last != "..."} == CANCELLING
