"""What the SDK is given to write: an item, or, for a large one, the bytes that go on the wire.

The SDK makes JSON of an item on the event loop. A large one is made in a thread, its base64 and all, and put into the
request by the hook that the SDK has for requests; what the SDK itself gets holds the id and the partition key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...threads import LARGE, off_the_loop
from .items import Item, as_text, size_of

__all__ = ["prepared"]


async def prepared(item: Item, key_name: str) -> tuple[Item, dict[str, Any]]:
    """An item as the SDK takes it, and the options of its request.

    Args:
        item: its data may be bytes.
        key_name: of the property that is the partition key.
    """
    size = size_of(item)
    if size < LARGE:
        return as_text(item), {}
    content = await off_the_loop(size, msgspec.json.encode, item)  # bytes become base64
    return {"id": item["id"], key_name: item[key_name]}, {"raw_request_hook": _sending(content)}


def _sending(content: bytes) -> Callable[[Any], None]:
    def hook(request: Any) -> None:
        request.http_request.set_bytes_body(content)

    return hook
