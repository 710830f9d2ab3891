"""Chat history and sessions: what an agent was told and what it said, and what a host keeps of each session by a name,
beside the runs of its workflows.

The session stores are in modules of their own: the framework says of its `SessionStore` that it is experimental, to
whoever imports a subclass of it.
"""

from .listing import SessionInfo, sessions_of
from .messages import StoredMessage
from .provider import EventHistoryProvider
from .snapshots import AGUI_THREADS, APPROVALS, FOUNDRY_SESSIONS, SESSIONS, Seen, Snapshots, is_reserved

__all__ = [
    "AGUI_THREADS",
    "APPROVALS",
    "FOUNDRY_SESSIONS",
    "SESSIONS",
    "EventHistoryProvider",
    "Seen",
    "SessionInfo",
    "Snapshots",
    "StoredMessage",
    "is_reserved",
    "sessions_of",
]
