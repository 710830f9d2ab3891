"""An event-sourced checkpoint store for Microsoft Agent Framework workflows: the public names, nothing else."""

from importlib import import_module
from typing import TYPE_CHECKING

from .codec import CheckpointCodec, Upcaster, register_upcaster
from .errors import (
    AmbiguousNameError,
    AnswerMissingError,
    CheckpointConflictError,
    CheckpointDecodeError,
    CheckpointEncodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    CheckpointTypeNotAllowedError,
    ClaimLostError,
    RequestNotPendingError,
    ResponseTypeError,
    RetentionPolicyError,
    RunClaimedError,
    RunNotFoundError,
    RunNotRemovedError,
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
    WorkflowExitError,
    WorkflowRunningError,
)
from .events import Answer, CheckpointEvent, RunInfo, StreamId
from .storage import (
    EventCheckpointStorage,
    RoutedCheckpointStorage,
    RunCheckpointStorage,
    RunClaim,
    SqliteCheckpointStorage,
)
from .storage.questions import describe_request
from .stores import EventStore
from .stores.sqlite import SqliteEventStore

if TYPE_CHECKING:
    from .answers import answer, answer_from_json
    from .audit import CheckpointAudit, get_checkpoint_summary
    from .history import EventHistoryProvider
    from .history.cosmos import CosmosHistoryProvider
    from .history.cosmos_sessions import CosmosSessionStore
    from .history.session_store import EventSessionStore
    from .history.sqlite import SqliteHistoryProvider
    from .history.sqlite_sessions import SqliteSessionStore
    from .storage.cosmos import CosmosCheckpointStorage
    from .stores.cosmos import CosmosEventStore

__all__ = [
    "AmbiguousNameError",
    "Answer",
    "AnswerMissingError",
    "CheckpointAudit",
    "CheckpointCodec",
    "CheckpointConflictError",
    "CheckpointDecodeError",
    "CheckpointEncodeError",
    "CheckpointEvent",
    "CheckpointNotFoundError",
    "CheckpointStoreError",
    "CheckpointTypeNotAllowedError",
    "ClaimLostError",
    "CosmosCheckpointStorage",
    "CosmosEventStore",
    "CosmosHistoryProvider",
    "CosmosSessionStore",
    "EventCheckpointStorage",
    "EventHistoryProvider",
    "EventSessionStore",
    "EventStore",
    "RequestNotPendingError",
    "ResponseTypeError",
    "RetentionPolicyError",
    "RoutedCheckpointStorage",
    "RunCheckpointStorage",
    "RunClaim",
    "RunClaimedError",
    "RunInfo",
    "RunNotFoundError",
    "RunNotRemovedError",
    "SessionConflictError",
    "SqliteCheckpointStorage",
    "SqliteEventStore",
    "SqliteHistoryProvider",
    "SqliteSessionStore",
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
    "WorkflowExitError",
    "WorkflowRunningError",
    "answer",
    "answer_from_json",
    "describe_request",
    "get_checkpoint_summary",
    "register_upcaster",
]


def __getattr__(name: str) -> object:
    """The names that few programs ask for, or that need an optional extra, imported when they are asked for."""
    home = {
        "CosmosCheckpointStorage": "storage.cosmos",
        "CosmosEventStore": "stores.cosmos",
        "CosmosHistoryProvider": "history.cosmos",
        "CosmosSessionStore": "history.cosmos_sessions",
        "EventHistoryProvider": "history",
        "EventSessionStore": "history.session_store",
        "SqliteHistoryProvider": "history.sqlite",
        "SqliteSessionStore": "history.sqlite_sessions",
        **dict.fromkeys(("CheckpointAudit", "audit", "get_checkpoint_summary"), "audit"),
        **dict.fromkeys(("answer", "answer_from_json"), "answers"),
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
