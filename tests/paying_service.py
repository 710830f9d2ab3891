"""samples/web_service as its tests start it: the factory is `create_app`, and the test is the payment provider.

The sample is found in the server's process only, by its PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

PROVIDER = "TEST_PROVIDER_PORT"
SETTINGS = ("ttl", "patience", "most")
"""What a test sets, in the environment."""


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

    given: dict[str, Any] = {name: json.loads(os.environ[name]) for name in SETTINGS if name in os.environ}
    return service(Settings(pay=pay, poll=0.1, **given))
