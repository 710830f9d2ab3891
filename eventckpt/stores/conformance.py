"""The suites for engines of your own, from where 0.1.0 had them; they are in `eventckpt.testing`."""

from ..testing import AuditStoreConformance, EventStoreConformance, RunStoreConformance, make_event

__all__ = ["AuditStoreConformance", "EventStoreConformance", "RunStoreConformance", "make_event"]
