"""Which classes of the framework are records. Every class of the installed versions is on one of the two lists: a
version that adds one fails here until somebody has looked at it.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple, TypedDict

import agent_framework
import pytest
from agent_framework import Message
from pydantic import BaseModel, field_validator

from eventckpt import CheckpointCodec, CheckpointTypeNotAllowedError
from eventckpt.allowlist import TypeGate, type_key
from eventckpt.records import ADMITTED, OPENAI, REFUSED, REVIEWED_MODULES, looks_like_a_record
from tests import checkpoint_types as app
from tests.fidelity import checkpoint
from tests.framework_classes import classes_of, framework_classes

STORED = (
    "_sessions:AgentSession",
    "_types:AgentResponse",
    "_types:AgentResponseUpdate",
    "_types:ChatResponse",
    "_types:ChatResponseUpdate",
    "_types:Content",
    "_types:Message",
    "_workflows._agent_executor:AgentExecutorRequest",
    "_workflows._agent_executor:AgentExecutorResponse",
    "_workflows._checkpoint:WorkflowCheckpoint",
    "_workflows._events:WorkflowErrorDetails",
    "_workflows._events:WorkflowEvent",
    "_workflows._events:WorkflowEventSource",
    "_workflows._events:WorkflowRunState",
    "_workflows._runner_context:MessageType",
    "_workflows._runner_context:WorkflowMessage",
    "_workflows._workflow_executor:ExecutionContext",
    "_workflows._workflow_executor:SubWorkflowRequestMessage",
    "_workflows._workflow_executor:SubWorkflowResponseMessage",
)
"""What workflows put into checkpoints, of the core package."""


def test_every_class_of_the_framework_is_on_exactly_one_list() -> None:
    found = set(framework_classes())
    assert len(found) > 300, "the walk has passed the classes by"
    assert sorted(found - ADMITTED - REFUSED) == []
    assert sorted(ADMITTED & REFUSED) == []


def test_every_admitted_class_resolves_where_it_is_installed() -> None:
    gate = TypeGate()
    for key, cls in framework_classes().items():
        if key in ADMITTED:
            assert gate.resolve(key) is cls


def test_every_refused_class_is_refused_as_instance_and_as_a_value() -> None:
    gate = TypeGate()
    for key in REFUSED:
        with pytest.raises(CheckpointTypeNotAllowedError, match="not a record of it"):
            gate.resolve(key)


def test_what_workflows_store_is_admitted() -> None:
    assert {f"agent_framework.{key}" for key in STORED} <= ADMITTED


def test_what_orchestrations_register_is_admitted() -> None:
    import agent_framework_orchestrations  # noqa: F401 - registers

    registered = agent_framework._workflows._checkpoint_encoding._REGISTERED_CHECKPOINT_TYPE_KEYS
    ours = {key for key in registered if key.startswith("agent_framework_orchestrations.")}
    assert ours
    assert ours <= ADMITTED


def test_every_exception_and_every_enum_with_members_is_a_record_unless_it_is_called() -> None:
    for key, cls in framework_classes().items():
        if issubclass(cls, BaseException):
            assert key in ADMITTED
        elif issubclass(cls, enum.Enum):
            callable_member = "__call__" in {name for base in cls.__mro__ for name in vars(base)} - {"__class__"}
            assert (key in ADMITTED) == (bool(cls.__members__) and not callable_member), key


def test_no_admitted_class_can_be_called_once_it_is_an_instance() -> None:
    for key, cls in framework_classes().items():
        if key in ADMITTED and not issubclass(cls, type):
            assert not any("__call__" in vars(base) for base in cls.__mro__[:-1]), key


def test_every_class_of_openai_types_is_a_record_by_its_base() -> None:
    found = classes_of("openai.types")
    assert len(found) > 1_000, "the walk has passed the classes by"
    gate = TypeGate()
    for key, cls in found.items():
        assert key.startswith(OPENAI)
        assert gate.resolve(key) is cls


def test_a_framework_class_that_the_application_names_is_admitted() -> None:
    [refused] = [key for key in REFUSED if key.endswith(":FunctionTool")]
    assert TypeGate([refused]).resolve(refused) is agent_framework.FunctionTool


# Classes that nobody has reviewed yet


@pytest.fixture
def newer() -> Iterator[ModuleType]:
    """A module of the framework as a newer version may have it, with classes on neither list."""
    name = next(iter(sorted(REVIEWED_MODULES)))
    module = sys.modules.get(name) or __import__(name, fromlist=["x"])
    before = dict(vars(module))
    yield module
    for added in vars(module).keys() - before.keys():
        delattr(module, added)


def _add(module: ModuleType, cls: type[Any]) -> type[Any]:
    cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
    setattr(module, cls.__name__, cls)
    return cls


class _Color(enum.Enum):
    RED = 1


class _NoMembers(enum.Enum):
    pass


class _Pair(NamedTuple):
    left: int


class _Typed(TypedDict):
    left: int


@dataclasses.dataclass
class _Data:
    left: int


@dataclasses.dataclass(frozen=True, slots=True)
class _FrozenSlots:
    left: int


class _Model(BaseModel):
    left: int


class _Validating(BaseModel):
    left: int

    @field_validator("left")
    @classmethod
    def check(cls, value: int) -> int:
        return value


class _FailsError(Exception):
    pass


class _Plain:
    pass


def _with(name: str) -> type[Any]:
    @dataclasses.dataclass
    class DoesSomething:
        left: int

    setattr(DoesSomething, name, lambda self, *args: None)
    return DoesSomething


@pytest.mark.parametrize("cls", [_Color, _Pair, _Typed, _Data, _FrozenSlots, _Model, _FailsError])
def test_a_new_class_that_looks_like_a_record_is_admitted_with_one_warning(
    cls: type[Any], newer: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    key = type_key(_add(newer, cls))
    with caplog.at_level(logging.WARNING, logger="eventckpt"):
        for _ in range(3):
            assert TypeGate().resolve(key) is cls
    assert [key in record.getMessage() for record in caplog.records] == [True]
    assert TypeGate().is_built_in(key)


@pytest.mark.parametrize(
    "cls",
    [_NoMembers, _Validating, _Plain]
    + [_with(name) for name in ("__call__", "__setstate__", "__reduce__", "__reduce_ex__", "__post_init__")],
)
def test_a_new_class_that_does_something_is_refused(cls: type[Any], newer: ModuleType) -> None:
    key = type_key(_add(newer, cls))
    with pytest.raises(CheckpointTypeNotAllowedError):
        TypeGate().resolve(key)
    assert TypeGate([key]).resolve(key) is cls


def test_a_class_that_a_module_only_imports_is_no_class_of_the_framework(newer: ModuleType) -> None:
    newer.Imported = app.Point
    assert looks_like_a_record(app.Point)
    with pytest.raises(CheckpointTypeNotAllowedError):
        TypeGate().resolve(f"{newer.__name__}:Imported")


def test_a_module_of_the_framework_that_nobody_reviewed_is_not_imported() -> None:
    name = "agent_framework.redis"
    assert name not in REVIEWED_MODULES
    sys.modules.pop(name, None)
    with pytest.raises(CheckpointTypeNotAllowedError):
        TypeGate().resolve(f"{name}:RedisHistoryProvider")
    assert name not in sys.modules


@pytest.mark.parametrize("cls", [_Color, _Pair, _Typed, _Data, _FrozenSlots, _Model, _FailsError])
def test_the_rule_knows_each_kind_of_record(cls: type[Any]) -> None:
    assert looks_like_a_record(cls)


def test_a_message_is_stored_and_what_does_things_is_refused_with_a_reason() -> None:
    codec = CheckpointCodec()
    assert codec.decode(codec.encode(checkpoint(Message("user", ["x"])))).state["value"].text == "x"
    with pytest.raises(CheckpointTypeNotAllowedError, match="a part of the framework that does things"):
        codec.encode(checkpoint(agent_framework.InMemoryHistoryProvider()))
