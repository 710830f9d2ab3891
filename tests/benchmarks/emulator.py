"""`python -m tests.benchmarks.emulator [folder]`: requests a second of the emulator, beside that of another checkout.

Rules that the server keeps must not slow the suites that run on it. Servers are processes of their own and take turns
in random order; what counts is their processor time, which a busy machine disturbs less than the clock. The client is
plain HTTP, so that the SDK's time is not measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
from email.utils import formatdate
from pathlib import Path

import aiohttp

from tests.cosmos_emulator import EMULATOR_KEY
from tests.cosmos_emulator.auth import authorization
from tests.cosmos_emulator.switches import ENVIRONMENT

_HERE = Path(__file__).parents[2]
_OFF = "sessions=off,key_versions=off,sizes=off,charges=off,refusals=off"
_ROUNDS, _ITEMS = 7, 1000
_TICKS = os.sysconf("SC_CLK_TCK")


class _Server:
    """One emulator in a process of its own, of some checkout and with some switches."""

    def __init__(self, name: str, folder: Path, switches: str) -> None:
        self.name = name
        self._folder, self._switches = folder, switches
        self._number = 0
        self.seconds: list[float] = []
        """Processor time of each round's create_item and read_item, for one request."""

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.cosmos_emulator", "--port", "0",
            cwd=self._folder, env={**os.environ, "PYTHONPATH": str(self._folder), ENVIRONMENT: self._switches},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._endpoint = (await self._process.stdout.readline()).decode().strip()
        self._http = aiohttp.ClientSession()
        await self._send("POST", "dbs", "", {"id": "d"})
        key = {"paths": ["/pk"], "kind": "Hash", "version": 2}
        await self._send("POST", "dbs/d/colls", "dbs/d", {"id": "c", "partitionKey": key})

    async def stop(self) -> None:
        await self._http.close()
        self._process.terminate()
        await self._process.wait()

    async def round(self) -> None:
        before = self._processor_time()
        link = "dbs/d/colls/c"
        for _ in range(_ITEMS):
            self._number += 1
            name = f"i{self._number}"
            await self._send("POST", f"{link}/docs", link, {"id": name, "pk": "p", "value": "x" * 500})
            await self._send("GET", f"{link}/docs/{name}", f"{link}/docs/{name}", None)
        self.seconds.append((self._processor_time() - before) / (2 * _ITEMS))

    async def _send(self, method: str, path: str, link: str, body: object) -> None:
        kind = [part for part in path.split("/") if part in {"dbs", "colls", "docs"}][-1]
        date = formatdate(usegmt=True)
        headers = {
            "authorization": authorization(EMULATOR_KEY, method, kind, link, date),
            "x-ms-date": date,
            "x-ms-documentdb-partitionkey": '["p"]',
        }
        data = None if body is None else json.dumps(body)
        async with self._http.request(method, self._endpoint + path, headers=headers, data=data) as response:
            assert response.status < 300, await response.text()
            await response.read()

    def _processor_time(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


async def _main(other: Path | None) -> None:
    servers = [_Server("as it is by default", _HERE, ""), _Server("with every switch off", _HERE, _OFF)]
    if other is not None:
        servers.append(_Server(f"of {other}", other, ""))
    for server in servers:
        await server.start()
    try:
        for _ in range(_ROUNDS):
            for server in random.sample(servers, len(servers)):
                await server.round()
    finally:
        for server in servers:
            await server.stop()
    for server in servers:
        median = statistics.median(server.seconds)
        print(f"{1 / median:8,.0f} requests for each second of its processor | the server {server.name}")


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
