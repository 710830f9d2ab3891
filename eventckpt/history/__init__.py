"""What is kept of sessions: what a host keeps of each by a name.

The session stores are in modules of their own: the framework says of its `SessionStore` that it is experimental, to
whoever imports a subclass of it.
"""

from .snapshots import AGUI_THREADS, APPROVALS, SESSIONS, Seen, Snapshots, is_reserved

__all__ = ["AGUI_THREADS", "APPROVALS", "SESSIONS", "Seen", "Snapshots", "is_reserved"]
