"""An event-sourced checkpoint store for Microsoft Agent Framework workflows: the public names, nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING

from .codec import CheckpointCodec, Upcaster, register_upcaster
from .errors import (
    AmbiguousNameError,
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
    RunNotFoundError,
    SessionConflictError,
    StoreCorruptError,
    StoreFormatError,
    StoreFullError,
    StoreLockedError,
    StoreMissingError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreReplacedError,
    StoreUnavailableError,
    UnsupportedFrameworkError,
)
from .events import CheckpointEvent, RunInfo, StreamId
from .storage import EventCheckpointStorage, RoutedCheckpointStorage, RunCheckpointStorage, SqliteCheckpointStorage
from .stores import EventStore
from .stores.sqlite import SqliteEventStore

if TYPE_CHECKING:
    from .audit import CheckpointAudit, get_checkpoint_summary
    from .history import EventHistoryProvider
    from .history.cosmos import CosmosHistoryProvider
    from .history.sqlite import SqliteHistoryProvider
    from .storage.cosmos import CosmosCheckpointStorage
    from .stores.cosmos import CosmosEventStore

__all__ = [
    "AmbiguousNameError",
    "CheckpointAudit",
    "CheckpointCodec",
    "CheckpointConflictError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointEvent",
    "CheckpointNotFoundError",
    "CheckpointStoreError",
    "CheckpointTypeNotAllowedError",
    "CosmosCheckpointStorage",
    "CosmosEventStore",
    "CosmosHistoryProvider",
    "EventCheckpointStorage",
    "EventHistoryProvider",
    "EventStore",
    "RoutedCheckpointStorage",
    "RunCheckpointStorage",
    "RunInfo",
    "RunNotFoundError",
    "SessionConflictError",
    "SqliteCheckpointStorage",
    "SqliteEventStore",
    "SqliteHistoryProvider",
    "StoreCorruptError",
    "StoreFormatError",
    "StoreFullError",
    "StoreLockedError",
    "StoreMissingError",
    "StoreNotFoundError",
    "StoreReadOnlyError",
    "StoreReplacedError",
    "StoreUnavailableError",
    "StreamId",
    "UnsupportedFrameworkError",
    "Upcaster",
    "get_checkpoint_summary",
    "register_upcaster",
]


def __getattr__(name: str) -> object:
    """The names that few programs ask for, or that need an optional extra, imported when they are asked for."""
    home = {
        "CheckpointAudit": "audit",
        "CosmosCheckpointStorage": "storage.cosmos",
        "CosmosEventStore": "stores.cosmos",
        "CosmosHistoryProvider": "history.cosmos",
        "EventHistoryProvider": "history",
        "SqliteHistoryProvider": "history.sqlite",
        "audit": "audit",
        "get_checkpoint_summary": "audit",
    }.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f".{home}", __name__)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "azure":
            raise
        raise ModuleNotFoundError(
            f"{name} needs the Azure SDK, which is not installed: pip install '.[cosmos]', in a checkout",
            name=error.name,
        ) from error
    return module if name == home else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
