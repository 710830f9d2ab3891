"""Chat history and sessions: what an agent was told and what it said, beside the runs of its workflows."""

from .messages import StoredMessage
from .provider import EventHistoryProvider
from .snapshots import AGUI_THREADS, APPROVALS, SESSIONS, Seen, Snapshots, is_reserved

__all__ = [
    "AGUI_THREADS",
    "APPROVALS",
    "SESSIONS",
    "EventHistoryProvider",
    "Seen",
    "Snapshots",
    "StoredMessage",
    "is_reserved",
]
