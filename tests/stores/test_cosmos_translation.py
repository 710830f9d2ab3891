"""Whatever the SDK, the way to the service or a credential raises comes out of the Cosmos DB engine as an error of
ours: every class of errors that the SDK has, and those that come past it."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import azure.core.exceptions
import azure.cosmos.exceptions
import pytest
from azure.core.exceptions import AzureError

from eventckpt.errors import CheckpointStoreError, StoreReadOnlyError, StoreUnavailableError
from eventckpt.stores.change_feed import EVERYTHING, FeedRangeGoneError
from eventckpt.stores.cosmos import requests
from eventckpt.stores.cosmos.requests import ask, operation

ANSWER = SimpleNamespace(request="a request", status_code=409, headers={}, reason="words")
MADE_OTHERWISE: dict[str, tuple[Any, ...]] = {
    "CosmosBatchOperationError": (0, {}, 409, "words", []),
    "CosmosClientTimeoutError": (),
    "ResponseNotReadError": (ANSWER,),
    "StreamClosedError": (ANSWER,),
    "StreamConsumedError": (ANSWER,),
    "TooManyRedirectsError": ([],),
    "CosmosHttpResponseError": (418,),
    "CosmosResourceNotFoundError": (404,),
    "CosmosResourceExistsError": (409,),
    "CosmosAccessConditionFailedError": (412,),
}
"""What those are made of that take no message first."""
OF_A_WHOLE_ANSWER = {"ODataV4Error"}
TOLD_AS: dict[str, type[CheckpointStoreError]] = {
    "ClientAuthenticationError": StoreReadOnlyError,  # no token
    "CosmosHttpResponseError": CheckpointStoreError,  # a status that is in no table
    "CosmosResourceExistsError": CheckpointStoreError,
    "CosmosAccessConditionFailedError": CheckpointStoreError,
}
"""All others may pass: the service was not reached, or did not serve."""


def classes(base: type[BaseException] = AzureError) -> Iterator[type[BaseException]]:
    for each in base.__subclasses__():
        if each.__module__ in (azure.core.exceptions.__name__, azure.cosmos.exceptions.__name__):
            yield each
            yield from classes(each)


def made(kind: type[BaseException]) -> BaseException:
    if kind.__name__ in OF_A_WHOLE_ANSWER:
        error = kind.__new__(kind)
        AzureError.__init__(error, "words")  # type: ignore[arg-type] - it is one, whatever it was made of
        return error
    return kind(*MADE_OTHERWISE.get(kind.__name__, ("words",)))


OF_THE_SDK = sorted({each.__name__: each for each in classes()}.items())
PAST_THE_SDK: list[BaseException] = [
    aiohttp.ClientPayloadError("cut"),
    aiohttp.ServerDisconnectedError("gone"),
    ConnectionResetError("reset"),
    TimeoutError("of a credential's own"),
    asyncio.IncompleteReadError(b"", 5),
    ssl.SSLError("handshake"),
    BrokenPipeError("pipe"),
]
OF_NO_KIND: list[BaseException] = [
    RuntimeError("Session is closed"),
    zlib.error("invalid block"),
    NotImplementedError("a credential without tokens"),
    Exception("anything"),
    ExceptionGroup("several", [RuntimeError("one")]),
]
SENSELESS: list[BaseException] = [
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "start byte"),
    KeyError("etag"),
    AttributeError("None has no headers"),
    azure.core.exceptions.DeserializationError("no JSON"),
    ZeroDivisionError("page"),
]


class Failing:
    """A request that fails so often, and then is answered."""

    def __init__(self, error: BaseException, times: int = 1_000_000) -> None:
        self.error = error
        self.times = times
        self.sent = 0

    async def __call__(self) -> str:
        self.sent += 1
        if self.sent <= self.times:
            raise self.error
        return "answer"


def name(error: BaseException) -> str:
    return type(error).__name__


def test_the_classes_of_the_sdk_are_found() -> None:
    """The control: what is found below holds for nothing if these are not."""
    assert len(OF_THE_SDK) >= 20
    assert {"CosmosHttpResponseError", "IncompleteReadError", "CosmosClientTimeoutError"} <= dict(OF_THE_SDK).keys()


@pytest.mark.parametrize("kind", [kind for _, kind in OF_THE_SDK], ids=lambda kind: kind.__name__)
async def test_every_error_that_the_sdk_has_becomes_one_of_ours(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "TOKEN_PATIENCE", 0.01)
    error = made(kind)
    with operation(0.01), pytest.raises(CheckpointStoreError, match="container 'c'") as caught:
        await ask(Failing(error), "container 'c'")
    assert caught.value.__cause__ is error
    assert type(caught.value) is TOLD_AS.get(kind.__name__, StoreUnavailableError)


@pytest.mark.parametrize("error", PAST_THE_SDK, ids=name)
async def test_what_the_way_raises_past_the_sdk_passes_or_is_told_as_unavailable(error: BaseException) -> None:
    with operation(5.0):
        assert await ask(Failing(error, times=4), "container 'c'") == "answer"
    with operation(0.01), pytest.raises(StoreUnavailableError, match=f"could not be reached.*{name(error)}") as caught:
        await ask(Failing(error), "container 'c'")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", OF_NO_KIND, ids=name)
async def test_what_no_request_should_raise_is_told_at_once(error: BaseException) -> None:
    request = Failing(error)
    with pytest.raises(CheckpointStoreError, match=f"what no request should.*{name(error)}") as caught:
        await ask(request, "container 'c'")
    assert request.sent == 1
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", SENSELESS, ids=name)
async def test_an_answer_that_makes_no_sense_may_come_twice(error: BaseException) -> None:
    assert await ask(Failing(error, times=2), "container 'c'") == "answer"
    with pytest.raises(StoreUnavailableError, match=f"makes no sense.*{name(error)}"):
        await ask(Failing(error), "container 'c'")


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        AssertionError("a fault of ours"),
        FeedRangeGoneError(EVERYTHING, [EVERYTHING]),
        StoreUnavailableError("said already"),
    ],
    ids=name,
)
async def test_what_means_what_it_says_stays_as_it_is(error: BaseException) -> None:
    request = Failing(error)
    with pytest.raises(type(error)) as caught:
        await ask(request, "container 'c'")
    assert caught.value is error
    assert request.sent == 1


async def test_a_request_that_is_cancelled_ends_at_once() -> None:
    never, began = asyncio.Event(), asyncio.Event()

    async def request() -> None:
        began.set()
        await never.wait()

    task = asyncio.create_task(ask(request, "container 'c'"))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_key_in_the_words_of_an_error_past_the_sdk_is_not_repeated() -> None:
    with pytest.raises(CheckpointStoreError) as caught:
        await ask(Failing(RuntimeError("AccountKey=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0==")), "container 'c'")
    assert "c2VjcmV0" not in str(caught.value)
