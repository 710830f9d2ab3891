"""What both engines do for projections: the conformance suite of `RunStore`."""

from __future__ import annotations

from eventckpt.testing import RunStoreConformance

from .on_the_engine import OnTheEngine


class TestRunStores(OnTheEngine, RunStoreConformance):
    pass
