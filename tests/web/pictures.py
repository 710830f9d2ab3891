"""The pictures of docs/viewer.md: each page of the viewer over the shop's store, as the browser shows it.

python -m tests.web.pictures            # into docs/viewer
python -m tests.web.pictures FOLDER
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from eventckpt import StreamId
from eventckpt.audit import CheckpointAudit
from eventckpt.location import open_store
from eventckpt.web import create_app

from .browser.chromium import launched
from .browser.watching import opened
from .serving import served
from .shop import SHOWN, refunds, shop_store
from .standing import Projector

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["FOLDER", "taken"]

FOLDER: Final = Path(__file__).parents[2] / "docs" / "viewer"
_SIZE: Final = {"width": 1180, "height": 480}  # CSS pixels
_TALLEST: Final = 800


async def addresses(audit: CheckpointAudit) -> dict[str, str]:
    """By the name of each picture, the address of what it shows."""
    asking = await audit.info(StreamId("refund", "refund-1042"))
    assert asking is not None
    [question] = asking.pending_requests
    run = {"run": SHOWN, "workflow": "refund"}
    session = {"session": "trip-7", "source": "event_history"}
    return {
        "runs": "/runs",
        "run": _at("/run", **run),
        "lineage": _at("/run/lineage", **run),
        "verify": _at("/run/verify", **run),
        "event": _at("/event", seq="4", **run),
        "compare": _at("/compare", seq="4", **run),
        "inbox": "/inbox",
        "question": _at("/inbox/question", run=asking.run_id, workflow="refund", request=question.request_id),
        "conversations": "/conversations",
        "conversation": _at("/conversation", **session),
        "operations": "/operations",
        "checks": "/operations/checks",
    }


def _at(path: str, **query: str) -> str:
    return f"{path}?{urlencode(query)}"


@asynccontextmanager
async def shop(folder: Path) -> AsyncGenerator[tuple[str, CheckpointAudit]]:
    """The address of a viewer over the shop's store, made in `folder`, and what it asks."""
    path = folder / "shop.db"
    await shop_store(path, datetime.now(UTC))
    async with open_store(path, read_only=True) as store:
        audit = CheckpointAudit(store, allowed_checkpoint_types=refunds.ALLOWED)
        async with served(create_app(audit, operations=Projector(store))) as address:
            yield address, audit


async def taken(folder: Path) -> None:
    """Take every picture, as PNG files in `folder`."""
    with tempfile.TemporaryDirectory() as made:
        async with shop(Path(made)) as (address, audit), launched() as browser:
            for name, where in (await addresses(audit)).items():
                await _take(browser, address + where, folder / f"{name}.png", "light")
            await _take(browser, f"{address}/runs", folder / "runs-dark.png", "dark")


async def _take(browser: Browser, address: str, file: Path, scheme: str) -> None:
    async with opened(browser, address, viewport=_SIZE, color_scheme=scheme) as window:
        await window.page.goto(address, wait_until="networkidle")
        height = await window.page.evaluate("document.body.scrollHeight")
        await window.page.set_viewport_size({**_SIZE, "height": min(height, _TALLEST)})
        await window.page.screenshot(path=file)


if __name__ == "__main__":
    into = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    into.mkdir(parents=True, exist_ok=True)
    asyncio.run(taken(into))
