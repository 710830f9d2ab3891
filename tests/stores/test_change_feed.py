"""What both engines do for processors: the conformance suite of `ChangeFeed`."""

from __future__ import annotations

from eventckpt.testing import ChangeFeedConformance

from .on_the_engine import OnTheEngine


class TestChangeFeeds(OnTheEngine, ChangeFeedConformance):
    pass
