"""The tests that every engine passes, one module a port: `event_store`, `audit_store`, `run_store`, `change_feed`,
`documents`, `sessions`; `events` builds events for tests of your own.

They need pytest and pytest-asyncio (`asyncio_mode = "auto"`); nothing else of eventckpt imports either.
"""

from .audit_store import AuditStoreConformance
from .change_feed import ChangeFeedConformance
from .documents import DocumentStoreConformance
from .event_store import EventStoreConformance
from .events import make_event
from .run_store import RunStoreConformance
from .sessions import SessionsConformance

__all__ = [
    "AuditStoreConformance",
    "ChangeFeedConformance",
    "DocumentStoreConformance",
    "EventStoreConformance",
    "RunStoreConformance",
    "SessionsConformance",
    "make_event",
]
