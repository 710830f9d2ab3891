"""An event-sourced checkpoint store for Microsoft Agent Framework workflows: the public names, nothing else."""

from .codec import CheckpointCodec
from .errors import (
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
)
from .events import CheckpointEvent, StreamId
from .storage import EventCheckpointStorage, RunCheckpointStorage, SqliteCheckpointStorage
from .stores import EventStore
from .stores.sqlite import SqliteEventStore

__all__ = [
    "CheckpointCodec",
    "CheckpointConflictError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointEvent",
    "CheckpointNotFoundError",
    "CheckpointStoreError",
    "CheckpointTypeNotAllowedError",
    "EventCheckpointStorage",
    "EventStore",
    "RunCheckpointStorage",
    "SqliteCheckpointStorage",
    "SqliteEventStore",
    "StreamId",
]
