"""What is kept of sessions: what a host keeps of each by a name."""

from .snapshots import AGUI_THREADS, APPROVALS, SESSIONS, Seen, Snapshots, is_reserved

__all__ = [
    "AGUI_THREADS",
    "APPROVALS",
    "SESSIONS",
    "Seen",
    "Snapshots",
    "is_reserved",
]
