"""The checkpoint storages: the framework's `CheckpointStorage` protocol over an event store.

`EventCheckpointStorage` works with any engine; `SqliteCheckpointStorage` brings its own. Both give, by `for_run`,
storages bound to one run, which is what a workflow that runs more than once at a time should use.
"""

from .checkpoint_storage import (
    EventCheckpointStorage,
    Latest,
    OnSaveError,
    RunCheckpointStorage,
)
from .claims import RunClaim
from .routed import Resolver, RoutedCheckpointStorage
from .save import OnConflict
from .sqlite import SqliteCheckpointStorage

__all__ = [
    "EventCheckpointStorage",
    "Latest",
    "OnConflict",
    "OnSaveError",
    "Resolver",
    "RoutedCheckpointStorage",
    "RunCheckpointStorage",
    "RunClaim",
    "SqliteCheckpointStorage",
]
