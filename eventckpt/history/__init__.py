"""Chat history and sessions: what an agent was told and what it said, beside the runs of its workflows."""

from .messages import StoredMessage
from .provider import EventHistoryProvider

__all__ = ["EventHistoryProvider", "StoredMessage"]
