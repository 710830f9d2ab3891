"""Malformed requests: each gets the service's status in the service's form, never a traceback, never a hang.

A generator takes a good request of every kind and spoils a part of it (`bad_requests`). Beside it are the cases by
name, with the answer that each must get.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from tests.bad_requests import CONTAINER, DOCS, GOOD, ITEM, KEY, spoiled
from tests.cosmos_emulator import CosmosEmulator, Switches
from tests.cosmos_wire import Answer, Request, Wire

STATUSES: Final = frozenset(
    {200, 201, 204, 207, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 424, 429, 449, 501}
)


@asynccontextmanager
async def filled(switches: Switches = Switches()) -> AsyncIterator[Wire]:  # noqa: B008  (it is frozen)
    async with CosmosEmulator(switches=switches, partitions={"c": 2}) as emulator:
        wire = Wire(emulator)
        for path, body in (("/dbs", {"id": "d"}), ("/dbs/d/colls", CONTAINER), ("/dbs/d/colls/c/docs", ITEM)):
            made = await wire.ask("POST", path, body, **KEY)
            assert made.status == 201, made
        yield wire


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with filled() as wire:
        yield wire


def check(request: Request, answer: Answer) -> None:
    what = f"{request} was answered {answer.status} {answer.body[:300]!r}"
    assert answer.status in STATUSES, what
    assert {"x-ms-activity-id", "x-ms-request-charge"} <= answer.headers.keys(), what
    assert "x-injected" not in answer.headers, what
    if answer.status < 400 or request.method == "HEAD":
        assert not answer.body or json.loads(answer.body) is not None
        return
    content = json.loads(answer.body)
    assert content.keys() == {"code", "message"}, what
    assert isinstance(content["message"], str), what
    assert answer.substatus >= 0


async def restored(wire: Wire) -> None:
    """What an earlier request may have deleted is there again."""
    await wire.ask("POST", "/dbs", {"id": "d"})
    await wire.ask("POST", "/dbs/d/colls", CONTAINER)
    await wire.ask("POST", DOCS, ITEM, **KEY)


@pytest.mark.parametrize("seed", range(6))
async def test_every_spoiled_request_gets_an_answer_in_the_services_form(seed: int) -> None:
    chance = random.Random(seed)
    async with filled() as wire:
        for number in range(400):
            if number % 20 == 0:
                await restored(wire)
            request = chance.choice(GOOD)
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                request = spoiled(chance, request)
            sent = request.signed()
            check(sent, await wire.send(sent))
            assert not wire.emulator.failures, sent


async def test_the_requests_that_are_spoiled_are_good(wire: Wire) -> None:
    for request in GOOD:
        answer = await wire.send(request.signed())
        check(request, answer)
        expected = {404} if request.path == "/offers/none" else {200, 201, 204, 304, 400}
        assert answer.status in expected, (request, answer)
        if answer.status == 400:  # an ORDER BY over databases needs an index that they have not
            assert request.path in {"/dbs", "/dbs/d/colls", "/dbs/d/colls/c/conflicts"} or answer.substatus == 1004
