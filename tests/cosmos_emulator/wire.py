"""Requests as any client could send them: signed, and otherwise exactly as written, right or wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import aiohttp

from .auth import _signature
from .server import CosmosEmulator


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    body: Any

    @property
    def substatus(self) -> int:
        return int(self.headers.get("x-ms-substatus", 0))


async def send(
    emulator: CosmosEmulator, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request; a body that is not bytes is sent as JSON."""
    parts = path.split("/")
    kind, resource = (parts[-1], "/".join(parts[:-1])) if len(parts) % 2 else (parts[-2], path)
    date = formatdate(usegmt=True)
    signature = _signature(emulator.key, method, kind, resource, date)
    sent = {
        "x-ms-date": date,
        "authorization": quote(f"type=master&ver=1.0&sig={signature}", safe=""),
        **(headers or {}),
    }
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, emulator.endpoint + path, data=data, headers=sent) as response,
    ):
        content = await response.read()
        answered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, answered, json.loads(content) if content else None)
