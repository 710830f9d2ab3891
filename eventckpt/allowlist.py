"""Which types a checkpoint may hold. The ONLY module that touches the framework's internals.

The decision is the framework's own: `TypeGate` asks the restricted unpickler class behind
`agent_framework.FileCheckpointStorage` to look a name up, so the two allow the same types whatever the
framework's version. Only the look-up is borrowed: no pickle is read or written. `tests/test_allowlist.py` fails
when a new version of the framework changes what is used here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import EnumMeta
from typing import Any, cast

from agent_framework._workflows import _checkpoint_encoding as _framework

from .errors import CheckpointDecodeError, CheckpointTypeNotAllowedError

__all__ = ["RecordUnpickler", "TypeGate", "type_key"]

_PROTOCOL_4 = b"\x80\x04N."
"""A constant, "protocol 4, None, stop": the class looks nested names up by their dotted qualname only once it
has been told the protocol that every current pickle has."""

_ALWAYS_ALLOWED_MODULES = ("agent_framework.", "agent_framework_orchestrations.", "openai.types.")
"""The prefixes that the framework admits without being asked. Used to be stricter with them, never to admit."""


def type_key(cls: type[Any]) -> str:
    """The `"module:qualname"` key that stands for `cls` in allow-lists and in stored events."""
    return f"{cls.__module__}:{cls.__qualname__}"


class TypeGate:
    """Turns `"module:qualname"` into a class, if the allow-list admits it.

    Args:
        allowed_types: keys of application types, as for `FileCheckpointStorage(allowed_checkpoint_types=…)`.
            Types given to `agent_framework.register_checkpoint_type`, at any time, are admitted too.
        storage_name: the class that takes `allowed_checkpoint_types`, named in refusals.

    Raises:
        TypeError: `allowed_types` is a single string.
        ValueError: a key is not of the form `"module:qualname"`.
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
        self._resolved: dict[str, type[Any]] = {}

    def resolve(self, key: str) -> type[Any]:
        """The class that `key` names. No module is imported unless the allow-list admits the key.

        Raises:
            CheckpointTypeNotAllowedError: the key is not admitted, or names something that is not a class.
            CheckpointDecodeError: the key is admitted, but its module or class cannot be imported.
        """
        found = self._resolved.get(key)
        if found is None or _leads_to(key) is not found:
            found = self._resolved[key] = self._look_up(key)
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
        """Whether the framework itself admits this key for everyone, without an entry by the application."""
        return _is_framework_module(key) and key not in self._allowed

    def _look_up(self, key: str) -> type[Any]:
        module, _, qualname = key.partition(":")
        registered = _framework._REGISTERED_CHECKPOINT_TYPE_KEYS  # pyright: ignore[reportPrivateUsage] - no public reader
        finder = _framework._RestrictedUnpickler(  # pyright: ignore[reportPrivateUsage] - this module's whole purpose
            _PROTOCOL_4, self._allowed | registered
        )
        finder.load()
        try:
            found = cast(object, finder.find_class(module, qualname))
        except Exception as error:
            # The refusal's class belongs to a module that eventckpt does not import; anything else came out of
            # importing a module that the allow-list had already admitted.
            if type(error).__name__ == "UnpicklingError":
                raise self._refusal(key) from error
            raise CheckpointDecodeError(
                f"Type {key!r} is allowed, but cannot be imported: {type(error).__name__}: {error}. "
                "If it was renamed or moved, keep its old name as an alias in the old module."
            ) from error
        if not isinstance(found, type) or (self.is_built_in(key) and not _is_framework_module(found.__module__)):
            raise self._refusal(key)
        return found

    def _refusal(self, key: str) -> CheckpointTypeNotAllowedError:
        return CheckpointTypeNotAllowedError(
            f"Type {key!r} is not allowed in checkpoints. If you trust it, allow it with "
            f"{self._storage_name}(…, allowed_checkpoint_types=[{key!r}]) "
            "or agent_framework.register_checkpoint_type(…).",
            type_key=key,
        )


def _is_framework_module(name: str) -> bool:
    return name.startswith(_ALWAYS_ALLOWED_MODULES)


def _leads_to(key: str) -> object:
    """What the name stands for at this moment: a reloaded module, a notebook's cell run again, has a new class."""
    module, _, qualname = key.partition(":")
    found: object = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


class RecordUnpickler(_framework._RestrictedUnpickler):  # pyright: ignore[reportPrivateUsage] - as above
    """Reads one value out of the framework's own stores: whatever it names goes through the gate, not through the
    framework's prefixes. What stands for the two helpers that pickles need makes nothing but what the gate admits.

    A pickle can still cost more than it is, and sets what it likes on instances of admitted classes: it is read from
    sources that are trusted, never from a store of ours.
    """

    def __init__(self, data: bytes, gate: TypeGate) -> None:
        super().__init__(data, frozenset())
        self._gate = gate

    def find_class(self, module: str, name: str) -> Any:
        key = f"{module}:{name}"
        if key in ("builtins:getattr", "__builtin__:getattr"):
            return self._nested
        if key == "builtins:type":
            return _type_of
        if key == "copyreg:_reconstructor":
            return super().find_class(module, name)
        found = self._gate.resolve(key)
        if self._gate.is_built_in(key) and any("__call__" in vars(base) for base in found.__mro__):
            raise CheckpointDecodeError(f"A stored pickle holds a {key!r}, which is no record: it can be called.")
        return found

    def _nested(self, outer: Any, name: Any) -> Any:
        """A class inside a class, or a member of an enum."""
        if isinstance(outer, EnumMeta) and name in outer.__members__:
            return outer.__members__[name]
        if not isinstance(outer, type) or not isinstance(name, str):
            raise CheckpointDecodeError("A stored pickle asks for an attribute of something that is no class.")
        return self._gate.resolve(f"{type_key(outer)}.{name}")


def _type_of(value: None) -> type[Any]:
    """What pickles call `type` for, and nothing more: the type of None."""
    if value is not None:
        raise CheckpointDecodeError("A stored pickle asks for the type of something else than None.")
    return type(None)
