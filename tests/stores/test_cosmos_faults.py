"""No port of the Cosmos DB engine lets an error of the SDK through: every operation meets every way in which a request
can fail, and ends in an answer or an error of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from eventckpt import CosmosEventStore
from eventckpt.errors import CheckpointStoreError, StreamConflict
from eventckpt.stores.change_feed import FeedRangeGoneError
from eventckpt.stores.cosmos import container, requests
from projections.leases import LeaseLostError

from ..cosmos_emulator import CosmosEmulator
from ..engines import where
from .cosmos_operations import EVERYTHING_DONE, STREAM, fill, hurry, leases

OURS = (CheckpointStoreError, StreamConflict, FeedRangeGoneError, LeaseLostError)
SOON = 0.05
"""Seconds after which what passes is given up: the emulator answers faster, and what it answers is not the matter."""
LOOKS_AT_THE_ACCOUNT = {"account"}


class Odd(CosmosEmulator):
    """Answers all but the looks at the account in a form that the service never uses, where told to."""

    body: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed
    times = 0

    def _respond(self, call: Any, reply: Any) -> Any:
        if self.body is not None and self.times and call.kind not in LOOKS_AT_THE_ACCOUNT:
            self.times -= 1
            reply.status, reply.body = 200, self.body
            reply.headers.update(self.headers)
        return super()._respond(call, reply)


Fault = Callable[[Odd], None]


def status(number: int, substatus: int = 0, *, applied: bool = False, **headers: str) -> Fault:
    def begin(emulator: Odd) -> None:
        emulator.faults.respond(
            number,
            substatus=substatus,
            applied=applied,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            where=lambda call: call.kind not in LOOKS_AT_THE_ACCOUNT,
        )

    return begin


def dropped(*, applied: bool = False) -> Fault:
    return lambda emulator: (
        emulator.faults.drop(applied=applied, where=lambda call: call.kind not in LOOKS_AT_THE_ACCOUNT) and None
    )


def answered(body: bytes, times: int = 1_000_000, **headers: str) -> Fault:
    def begin(emulator: Odd) -> None:
        emulator.body, emulator.times = body, times
        emulator.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return begin


PASSING = {(404, None), (404, 1002), (408, None), (410, 1002), (429, None), (449, None), (503, None)}
"""Some of those that pass, each of which the SDK handles in a way of its own; `test_cosmos_requests` has them all."""
FAULTS: dict[str, Fault] = {
    **{
        f"{number}/{substatus or 0}": status(number, substatus or 0)
        for (number, substatus), refusal in requests.REFUSALS.items()
        if not refusal.passes or (number, substatus) in PASSING
    },
    **{f"{number}": status(number) for number in (301, 304, 405, 409, 412, 418, 423, 451, 501, 507)},
    "408 after it was done": status(408, applied=True),
    "429, later than can be waited for": status(429, 3200, x_ms_retry_after_ms="86400000"),
    "dropped": dropped(),
    "dropped after it was done": dropped(applied=True),
    "nothing": answered(b""),
    "null": answered(b"null"),
    "a number": answered(b"5"),
    "a list": answered(b"[5]"),
    "an empty object": answered(b"{}"),
    "documents that are none": answered(b'{"Documents":[5]}'),
    "half an object": answered(b'{"id":"00000000'),
    "no UTF-8": answered(b"\xff\xfe\x00"),
    "no gzip": answered(b"not compressed", Content_Encoding="gzip"),
    "a page of a proxy": answered(b"<html>Sign in</html>", Content_Type="text/html"),
}


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Odd, None]:
    monkeypatch.setattr(container, "SETTLING", 0.0)
    monkeypatch.setattr(requests, "TOKEN_PATIENCE", SOON)
    async with Odd() as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYTHING_DONE)
async def test_an_operation_ends_in_an_answer_or_an_error_of_ours_whatever_fails(emulator: Odd, name: str) -> None:
    await fill(emulator)
    wrong: dict[str, str] = {}
    async with CosmosEventStore(**where(emulator)) as store:
        await store.read(STREAM, 1)
        await store.run_store().get(STREAM)
        await leases(store).all()
        hurry(store, SOON)
        for fault, begin in FAULTS.items():
            begin(emulator)
            try:
                await EVERYTHING_DONE[name](store)
            except OURS:
                pass
            except Exception as error:
                wrong[fault] = repr(error)
            emulator.faults.clear()
            emulator.times = 0
    assert wrong == {}


async def test_the_faults_are_met(emulator: Odd) -> None:
    """The control: each of them is no answer to a read of what is there."""
    await fill(emulator)
    told: set[str] = set()
    async with CosmosEventStore(**where(emulator)) as store:
        await store.read(STREAM, 1)
        hurry(store, SOON)
        for fault, begin in FAULTS.items():
            begin(emulator)
            try:
                answer = await store.read(STREAM, 1)
            except CheckpointStoreError:
                told.add(fault)
            else:
                told |= {fault} if not answer else set()
            emulator.faults.clear()
            emulator.times = 0
    assert told == FAULTS.keys()
