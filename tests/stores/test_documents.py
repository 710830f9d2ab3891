"""What both engines do for leases and other documents: the conformance suite of `DocumentStore`."""

from __future__ import annotations

from eventckpt.testing import DocumentStoreConformance

from .on_the_engine import OnTheEngine


class TestDocumentStores(OnTheEngine, DocumentStoreConformance):
    pass
