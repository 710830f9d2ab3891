"""Requests to the test server in bytes, for what no SDK would send; the answers are read as they come."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote, unquote

from tests.cosmos_emulator import EMULATOR_KEY, CosmosEmulator

LONGEST_ANSWER: Final = 2.0
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
        text = f"{self.method.lower()}\n{kind.lower()}\n{name}\n{moment.lower()}\n\n".encode(errors="replace")
        digest = hmac.new(base64.b64decode(EMULATOR_KEY), text, hashlib.sha256).digest()
        token = quote(f"type=master&ver=1.0&sig={base64.b64encode(digest).decode()}", safe="")
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
    def code(self) -> str:
        return json.loads(self.body)["code"]

    @property
    def message(self) -> str:
        return json.loads(self.body)["message"]


class Wire:
    """One server, spoken to in bytes."""

    def __init__(self, emulator: CosmosEmulator) -> None:
        self.emulator = emulator
        self.port = int(emulator.endpoint.rstrip("/").rpartition(":")[2])

    async def send(self, request: Request) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(LONGEST_ANSWER):
                writer.write(request.encoded())
                await writer.drain()
                return await _read(reader, bodiless=request.method == "HEAD")
        except TimeoutError:
            raise AssertionError(f"no answer within {LONGEST_ANSWER} s to {request}") from None
        finally:
            writer.close()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send(Request(method, path, named, raw).signed())


async def _read(reader: asyncio.StreamReader, *, bodiless: bool) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    status = int(head[0].split()[1])
    length = 0 if bodiless or status in {204, 304} else int(headers.get("content-length", "0"))
    return Answer(status, headers, await reader.readexactly(length))
