"""samples/web_service as its tests start it: the factory is `create_app`, and the test is the payment provider.

The sample is found in the server's process only, by its PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

PROVIDER, TTL = "TEST_PROVIDER_PORT", "TEST_TTL"


class RefusedError(Exception):
    """The provider does not pay."""


async def pay(refund: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[PROVIDER]))
    try:
        writer.write(f"{refund.id}\n".encode())
        await writer.drain()
        if await reader.readline() != b"paid\n":
            raise RefusedError(f"no money for {refund.customer}")
    finally:
        writer.close()


def create_app() -> Starlette:
    from web_service.app import create_app as service
    from web_service.runs import Settings

    return service(Settings(pay=pay, ttl=float(os.environ[TTL]), poll=0.1, patience=5.0))
