"""The ports between eventckpt and an engine, one module each: what every engine must do, and nothing about how."""

from .audit_store import AuditStore, Check, Space, gaps_behind, head_stays
from .event_store import EventStore, FoundEvent, Stretch, can_exist, head_of
from .run_pages import ForeignPageError, RunFilter, RunPage
from .run_store import Claim, RunStore, gives_way, is_listed

Located = FoundEvent  # its name in 0.1.0

__all__ = [
    "AuditStore",
    "Check",
    "Claim",
    "EventStore",
    "ForeignPageError",
    "FoundEvent",
    "Located",
    "RunFilter",
    "RunPage",
    "RunStore",
    "Space",
    "Stretch",
    "can_exist",
    "gaps_behind",
    "gives_way",
    "head_of",
    "head_stays",
    "is_listed",
]
