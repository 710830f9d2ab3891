"""The SDK's continuation, made from a range and the service's raw etag.

The SDK gives and takes a continuation in a private format of its own, while a lease keeps the service's raw etag, as
other clients of the service do. This module is the only one that knows the format; a contract test compares what it
makes with what the SDK gives.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ..change_feed import FeedRange

__all__ = ["sdk_continuation", "sdk_range"]


def sdk_continuation(container_rid: str, feed_range: FeedRange, etag: str) -> str:
    """What `query_items_change_feed(continuation=…)` takes to read `feed_range` on from `etag`."""
    bounds = _bounds(feed_range)
    state = {
        "v": "v2",
        "containerRid": container_rid,
        "mode": "LatestVersion",
        "startFrom": {"Type": "Beginning"},  # the etag counts
        "continuation": {
            "v": "v2",
            "rid": container_rid,
            "continuation": [{"token": etag, "range": bounds}],
            "Range": bounds,
        },
    }
    return _encoded(state)


def sdk_range(feed_range: FeedRange) -> dict[str, Any]:
    """What `query_items_change_feed(feed_range=…)` takes, and `read_feed_ranges` gives."""
    return {"Range": _bounds(feed_range)}


def _bounds(feed_range: FeedRange) -> dict[str, Any]:
    return {"min": feed_range.min, "max": feed_range.max, "isMinInclusive": True, "isMaxInclusive": False}


def _encoded(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()
