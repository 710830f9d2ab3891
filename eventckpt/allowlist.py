"""Which types a checkpoint may hold: the gate between names in stored bytes and classes.

Four kinds of names are admitted: types of the interpreter whose instances are data, the records of the framework
(`eventckpt.records`), the models of `openai.types`, and what the application allows. Everything else is refused before
a module is imported for it.

This is the ONLY module that touches the framework's internals. What it and the rest of the package rest on is checked
when the first gate is made, so that a version of the framework which changes it is one clear error.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from collections.abc import Iterable, Mapping
from enum import EnumMeta
from types import ModuleType
from typing import Any, Final, cast

from agent_framework import WorkflowCheckpoint

from .errors import CheckpointDecodeError, CheckpointTypeNotAllowedError, UnsupportedFrameworkError
from .log import logger_of
from .pickles import GETATTR, RECONSTRUCTOR, TYPE_OF, classes_of_states
from .records import ADMITTED, FRAMEWORK, OPENAI, REFUSED, REVIEWED_MODULES, looks_like_a_record

__all__ = [
    "INTERPRETER",
    "AnyGate",
    "TypeGate",
    "can_be_allowed",
    "is_admitted_by_name",
    "type_key",
    "unpickled",
]

logger: Final = logger_of("eventckpt")

INTERPRETER: Final = frozenset(
    f"{module}:{name}"
    for module, names in {
        "array": "array",
        "builtins": (
            "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple type"
        ),
        "collections": "Counter OrderedDict defaultdict deque",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "uuid": "UUID",
        "zoneinfo": "ZoneInfo",
    }.items()
    for name in names.split()
)
"""Types of the interpreter that every application may store: those that the framework admits, and two more."""

_NEVER: Final = frozenset({"agent_framework._workflows._checkpoint_encoding:_RestrictedUnpickler"})
"""What no entry of an application admits, as in the framework: an unpickler."""

_MAX_KEY: Final = 1_000
"""Characters in the name of a type. Those that exist have a tenth."""


def type_key(cls: type[Any]) -> str:
    """The `"module:qualname"` key that stands for `cls` in allow-lists and in stored events."""
    return f"{cls.__module__}:{cls.__qualname__}"


class TypeGate:
    """Turns `"module:qualname"` into a class, if the allow-list admits it.

    Args:
        allowed_types: keys of application types, as for `FileCheckpointStorage(allowed_checkpoint_types=…)`. What
            stored bytes can do with these is their own responsibility: a form may call them.
            Types given to `agent_framework.register_checkpoint_type`, at any time, are admitted too.
        storage_name: the class that takes `allowed_checkpoint_types`, named in refusals.

    Raises:
        TypeError: `allowed_types` is a single string.
        ValueError: a key is not of the form `"module:qualname"`.
        UnsupportedFrameworkError: the installed framework lacks what this package needs of it.
    """

    def __init__(self, allowed_types: Iterable[str] = (), *, storage_name: str = "CheckpointCodec") -> None:
        if isinstance(allowed_types, str):
            raise TypeError("allowed_checkpoint_types takes a list of 'module:qualname' strings, not one string.")
        self._allowed = frozenset(allowed_types)
        for key in cast("frozenset[object]", self._allowed):
            if not isinstance(key, str):
                raise TypeError(f"{key!r} in allowed_checkpoint_types is not a 'module:qualname' string.")
            module, _, qualname = key.partition(":")
            if not module or not qualname:
                raise ValueError(
                    f"{key!r} in allowed_checkpoint_types is not of the form 'module:qualname', "
                    "for example 'my_app.models:MyState'."
                )
        self._storage_name = storage_name
        self._registered = registered_types()
        self._resolved: dict[str, type[Any]] = {}

    def resolve(self, key: str) -> type[Any]:
        """The class that `key` names. No module is imported unless the allow-list admits the key.

        Raises:
            CheckpointTypeNotAllowedError: the key is not admitted, or names something that is not a class.
            CheckpointDecodeError: the key is admitted, but its module or class cannot be imported.
        """
        found = self._resolved.get(key)
        if found is None or _leads_to(key) is not found:
            found = self._look_up(key)
            self._resolved[key] = found
        return found

    def key_of(self, cls: type[Any]) -> str:
        """The key under which a load will find `cls` again.

        Raises:
            CheckpointTypeNotAllowedError: the class is not admitted, or its name leads elsewhere (a class made
                inside a function, or one replaced since).
        """
        key = type_key(cls)
        if "<locals>" in cls.__qualname__:
            raise CheckpointTypeNotAllowedError(
                f"Type {key!r} is defined inside a function, so that no load could find it again. "
                "Move it to the top level of its module.",
                type_key=key,
            )
        try:
            found = self.resolve(key)
        except CheckpointTypeNotAllowedError:
            raise
        except CheckpointDecodeError as error:
            raise CheckpointTypeNotAllowedError(str(error), type_key=key) from error
        if found is not cls:
            raise CheckpointTypeNotAllowedError(
                f"Type {key!r} is not the class that this name leads to now, so that a load would build another. "
                "Was its module reloaded, or the class defined twice, after the value was made?",
                type_key=key,
            )
        return key

    def is_built_in(self, key: str) -> bool:
        """Whether this key is admitted for everyone, without an entry by the application: then its constructor is
        never called, and its state holds plain attributes."""
        return key not in self._allowed and (
            key in ADMITTED or key.startswith(OPENAI) or (_is_framework(key) and key not in self._registered)
        )

    def _look_up(self, key: str) -> type[Any]:
        if len(key) > _MAX_KEY:
            raise CheckpointDecodeError(f"A stored type has a name of {len(key):,} characters, which none has.")
        if key in _NEVER:
            raise self._refusal(key)
        if key in self._allowed or key in self._registered or key in INTERPRETER or key in ADMITTED:
            found = _imported(key)
        elif key.startswith(OPENAI):
            found = self._judged(key)
        elif _is_framework(key) and key not in REFUSED and key.partition(":")[0] in REVIEWED_MODULES:
            found = self._judged(key)
            _warn_of_unreviewed(key)
        else:
            raise self._refusal(key)
        if not isinstance(found, type):
            raise CheckpointTypeNotAllowedError(
                f"Type {key!r} is allowed, but its name leads to what is no class. Store plain values instead.",
                type_key=key,
            )
        return found

    def _judged(self, key: str) -> object:
        """A class that no list names, if it is defined where its key says, and looks like a record."""
        module, _, name = key.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), name)):
            raise self._refusal(key)
        found = vars(_module(key)).get(name)  # not getattr: a module's own __getattr__ imports what it is asked for
        if not isinstance(found, type) or found.__module__ != module or not looks_like_a_record(found):
            raise self._refusal(key)
        return found

    def _refusal(self, key: str) -> CheckpointTypeNotAllowedError:
        if key in REFUSED:
            why = "is a part of the framework that does things, not a record of it"
        else:
            why = "is not allowed in checkpoints"
        return CheckpointTypeNotAllowedError(
            f"Type {key!r} {why}. If you trust it, allow it with "
            f"{self._storage_name}(…, allowed_checkpoint_types=[{key!r}]) "
            "or agent_framework.register_checkpoint_type(…).",
            type_key=key,
        )


class AnyGate(TypeGate):
    """Admits every class by its name, to see what of a value would be refused all the same."""

    def key_of(self, cls: type[Any]) -> str:
        return type_key(cls)


def _is_framework(key: str) -> bool:
    return key.startswith(FRAMEWORK)


def _imported(key: str) -> object:
    """What an admitted key leads to."""
    found: object = _module(key)
    for name in key.partition(":")[2].split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise _cannot_be_imported(key, error) from error
    return found


def _module(key: str) -> ModuleType:
    try:
        return importlib.import_module(key.partition(":")[0])
    except Exception as error:  # whatever the module's own code raises
        raise _cannot_be_imported(key, error) from error


def _cannot_be_imported(key: str, error: Exception) -> CheckpointDecodeError:
    return CheckpointDecodeError(
        f"Type {key!r} is allowed, but cannot be imported: {type(error).__name__}: {error}. "
        + (
            "A generic class is found by a name of its own: class IntBox(Box[int]), at the top level of its module."
            if "[" in key
            else "If it was renamed or moved, keep its old name as an alias in the old module."
        )
    )


def _leads_to(key: str) -> object:
    """What the name stands for at this moment: a reloaded module, a notebook's cell run again, has a new class."""
    module, _, qualname = key.partition(":")
    found: object = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


@functools.cache
def _warn_of_unreviewed(key: str) -> None:
    """Once for each class and process."""
    logger.warning(
        "Type %r belongs to a version of the framework that this version of eventckpt does not know. It is admitted "
        "since it looks like a record; update eventckpt to have it reviewed.",
        key,
    )


# What the package needs of the framework

_CHECKPOINT: Final = (
    "workflow_name",
    "graph_signature_hash",
    "checkpoint_id",
    "previous_checkpoint_id",
    "timestamp",
    "messages",
    "state",
    "pending_request_info_events",
    "iteration_count",
    "metadata",
    "version",
)
"""Fields of `WorkflowCheckpoint`. A version may add some, with defaults."""


@functools.cache
def registered_types() -> frozenset[str] | set[str]:
    """The keys given to `agent_framework.register_checkpoint_type`: the framework's own set, which goes on growing.

    Raises:
        UnsupportedFrameworkError: the installed framework lacks something that this package needs.
    """
    # Here, and not above: with these come the framework's agents and tools.
    from agent_framework import WorkflowEvent, WorkflowMessage

    try:
        from agent_framework._workflows import _checkpoint_encoding as encoding

        registered = cast(object, encoding._REGISTERED_CHECKPOINT_TYPE_KEYS)  # pyright: ignore[reportPrivateUsage] - no public reader
    except (ImportError, AttributeError) as error:
        raise _unsupported("the set of registered checkpoint types") from error
    if not isinstance(registered, set):
        raise _unsupported("the set of registered checkpoint types")
    fields = {field.name: field for field in dataclasses.fields(WorkflowCheckpoint)}
    lacking = [name for name in _CHECKPOINT if name not in fields]
    if lacking:
        raise _unsupported(f"WorkflowCheckpoint.{lacking[0]}")
    for cls, name in (
        (WorkflowCheckpoint, "to_dict"),
        (WorkflowCheckpoint, "from_dict"),
        (WorkflowEvent, "source_executor_id"),
        (WorkflowEvent, "request_type"),
    ):
        if not hasattr(cls, name):
            raise _unsupported(f"{cls.__name__}.{name}")
    if "original_request_info_event" not in cast("Mapping[str, Any]", WorkflowMessage.__dataclass_fields__):
        raise _unsupported("WorkflowMessage.original_request_info_event")
    return cast("set[str]", registered)


def _unsupported(what: str) -> UnsupportedFrameworkError:
    return UnsupportedFrameworkError(
        f"The installed agent-framework-core lacks {what}, which eventckpt needs, or has changed it. "
        "Install a version that this version of eventckpt was tested with, or update eventckpt."
    )


# What can be said of a key without importing anything for it


def is_admitted_by_name(key: str) -> bool:
    """Whether a gate without entries of the application would go on to look at what a key leads to. Of nearly all, it
    then admits that; to know of the others, their modules would have to be imported, which bytes could ask for by the
    thousand."""
    if len(key) > _MAX_KEY or key in _NEVER:
        return False
    return (
        key in INTERPRETER
        or key in ADMITTED
        or key.startswith(OPENAI)
        or key in registered_types()
        or (_is_framework(key) and key not in REFUSED and key.partition(":")[0] in REVIEWED_MODULES)
    )


def can_be_allowed(key: str) -> bool:
    """Whether an entry of the application could admit a key."""
    module, _, name = key.partition(":")
    found: object = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return key not in _NEVER and (found is None or isinstance(found, type))


# What the framework's own stores hold


def unpickled(data: bytes, gate: TypeGate) -> Any:
    """The value of a pickle out of one of the framework's own stores. Whatever it names goes through the gate, and the
    helpers that pickles need make nothing but what the gate admits. Attributes are given to instances alone: a pickle
    that would set those of a class, a function or the member of an enum is refused before any of it is run.

    It can still cost more than it is, and give an instance any attributes: it is for sources that are trusted.

    Raises:
        CheckpointTypeNotAllowedError, CheckpointDecodeError: it names what is not admitted. Anything else where the
            pickle is damaged, or a class has changed.
    """
    return _unpickler()(data, gate, classes_of_states(data)).load()


@functools.cache
def _unpickler() -> Any:
    try:
        from agent_framework._workflows import _checkpoint_encoding as encoding

        restricted: Any = encoding._RestrictedUnpickler  # pyright: ignore[reportPrivateUsage] - so that no pickle is imported
    except (ImportError, AttributeError) as error:
        raise _unsupported("the restricted unpickler of checkpoints") from error

    class RecordUnpickler(restricted):
        def __init__(self, data: bytes, gate: TypeGate, with_state: frozenset[str]) -> None:
            restricted.__init__(self, data, frozenset())
            self._gate = gate
            self._with_state = with_state

        def find_class(self, module: str, name: str) -> Any:
            key = f"{module}:{name}"
            if key in GETATTR:
                return self._nested
            if key == TYPE_OF:
                return _type_of
            if key == RECONSTRUCTOR:
                return _reconstructed
            return self._resolved(key)

        def _nested(self, outer: Any, name: Any) -> Any:
            """A class inside a class, or a member of an enum."""
            if isinstance(outer, EnumMeta) and name in outer.__members__:
                return outer.__members__[name]
            if not isinstance(outer, type) or not isinstance(name, str):
                raise CheckpointDecodeError("A stored pickle asks for an attribute of something that is no class.")
            return self._resolved(f"{type_key(outer)}.{name}")

        def _resolved(self, key: str) -> type[Any]:
            found = self._gate.resolve(key)
            if key in self._with_state and isinstance(found, EnumMeta):
                raise CheckpointDecodeError(f"A stored pickle sets attributes of a member of {key!r}, which all share.")
            return found

    return RecordUnpickler


def _reconstructed(cls: Any, base: Any, state: Any) -> Any:
    """What `copyreg._reconstructor` does, for classes alone: an instance may have been given any `__new__`."""
    if not isinstance(cls, type) or not isinstance(base, type) or not issubclass(cls, base):
        raise CheckpointDecodeError("A stored pickle makes an instance of something that is no class.")
    make, initialize = cast(Any, base.__new__), cast(Any, base.__init__)
    made = make(cls) if base is object else make(cls, state)
    if initialize is not object.__init__:
        initialize(made, state)
    return made


def _type_of(value: None) -> type[Any]:
    """What pickles call `type` for, and nothing more: the type of None."""
    if value is not None:
        raise CheckpointDecodeError("A stored pickle asks for the type of something else than None.")
    return type(None)
