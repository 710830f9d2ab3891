"""Requests to the test server in bytes, for what no SDK would send; the answers are read as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote

from tests.cosmos_emulator import EMULATOR_KEY, CosmosEmulator
from tests.cosmos_emulator.auth import authorization

LONGEST_ANSWER: Final = 20.0
"""Seconds that a request may take."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    body: bytes = b""

    def signed(self, date: str | None = None) -> Request:
        moment = formatdate(usegmt=True) if date is None else date
        parts = [unquote(part) for part in self.path.split("/") if part]
        kind = parts[(len(parts) - 1) // 2 * 2] if parts else ""
        name = "/".join(parts[: len(parts) // 2 * 2])
        if "operations" in parts[4:5]:
            kind, name = "colls", "/".join(parts[:4])
        token = authorization(EMULATOR_KEY, self.method, kind, name, moment)
        return replace(self, headers={"authorization": token, "x-ms-date": moment, **self.headers})

    def encoded(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1".encode(), b"Host: localhost"]
        lines += [name.encode() + b": " + _bytes(value) for name, value in self.headers.items()]
        if "Transfer-Encoding" not in self.headers:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode(errors="surrogatepass")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def substatus(self) -> int:
        return int(self.headers.get("x-ms-substatus", "0"))

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def code(self) -> str:
        return self.json["code"]

    @property
    def message(self) -> str:
        return self.json["message"]


class Wire:
    """One server, spoken to in bytes."""

    def __init__(self, emulator: CosmosEmulator, longest: float = LONGEST_ANSWER) -> None:
        self.emulator = emulator
        self.longest = longest
        self.port = int(emulator.endpoint.rstrip("/").rpartition(":")[2])

    async def send(self, request: Request) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(self.longest):
                writer.write(request.encoded())
                await writer.drain()
                return await _read(reader, bodiless=request.method == "HEAD")
        except TimeoutError:
            raise AssertionError(f"no answer within {self.longest} s to {request}") from None
        finally:
            writer.close()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send(Request(method, path, named, _encoded(body)).signed())


async def send(
    emulator: CosmosEmulator, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request that a client could send, to a path without its first slash. How long it takes is not looked at."""
    return await Wire(emulator, longest=60.0).send(Request(method, f"/{path}", headers or {}, _encoded(body)).signed())


def _encoded(body: Any) -> bytes:
    """A body that is not bytes is sent as JSON."""
    return body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()


async def _read(reader: asyncio.StreamReader, *, bodiless: bool) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    status = int(head[0].split()[1])
    length = 0 if bodiless or status in {204, 304} else int(headers.get("content-length", "0"))
    return Answer(status, headers, await reader.readexactly(length))
