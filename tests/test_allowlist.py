"""The type gate: which names lead to classes. The first half is the contract with the framework: it fails, loudly,
where a new version changes what `eventckpt/allowlist.py` rests on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agent_framework
import pytest
from agent_framework import WorkflowCheckpoint, register_checkpoint_type
from agent_framework._workflows import _checkpoint_encoding as framework

from eventckpt import CheckpointCodec, CheckpointDecodeError, CheckpointTypeNotAllowedError, UnsupportedFrameworkError
from eventckpt import allowlist as ours
from eventckpt.allowlist import INTERPRETER, TypeGate, type_key
from eventckpt.records import FRAMEWORK, OPENAI
from tests import checkpoint_types as app
from tests import refused_types as refused
from tests.codec.test_hostile import FORBIDDEN
from tests.fidelity import checkpoint
from tests.framework_classes import framework_classes

APP = "tests.checkpoint_types"
REFUSED = "tests.refused_types"


def framework_finds(key: str, *allowed: str) -> Any:
    """What the framework finds under a key if it admits it as a type, else None."""
    finder: Any = framework._RestrictedUnpickler(b"\x80\x04N.", frozenset(allowed))
    finder.load()  # tells it the protocol by which it finds nested names
    module, _, name = key.partition(":")
    try:
        found = finder.find_class(module, name)
    except Exception:
        return None
    return found if isinstance(found, type) else None


def we_find(key: str, *allowed: str) -> Any:
    try:
        return TypeGate(allowed).resolve(key)
    except (CheckpointTypeNotAllowedError, CheckpointDecodeError):
        return None


# The contract with the framework


def test_registered_types_are_in_one_live_set() -> None:
    class Registered:
        pass

    key = type_key(Registered)
    keys = framework._REGISTERED_CHECKPOINT_TYPE_KEYS
    assert type(keys) is set
    try:
        register_checkpoint_type(Registered)
        assert framework._REGISTERED_CHECKPOINT_TYPE_KEYS is keys
        assert key in keys
    finally:
        keys.discard(key)


def test_the_prefixes_that_are_judged_are_those_that_the_framework_always_allows() -> None:
    theirs = (*framework._FRAMEWORK_MODULE_PREFIXES, framework._OPENAI_MODULE_PREFIX)
    assert sorted((*FRAMEWORK, OPENAI)) == sorted(theirs)


def test_keys_are_written_as_the_framework_writes_them() -> None:
    for cls in (int, app.Point, app.Outer.Inner.Mood, agent_framework.Message, app.IntBox):
        assert type_key(cls) == framework._type_to_key(cls)


def test_the_types_of_the_interpreter_are_those_of_the_framework_and_two_more() -> None:
    """Its two names that are no types rebuild values; a third would be a way that the codec does not know of."""
    functions = {"builtins:getattr", "copyreg:_reconstructor"}
    assert framework._BUILTIN_ALLOWED_TYPE_KEYS - functions == INTERPRETER - {"array:array", "zoneinfo:ZoneInfo"}


@pytest.mark.parametrize("key", sorted(framework._BUILTIN_ALLOWED_TYPE_KEYS | framework._GETATTR_GLOBAL_KEYS))
def test_each_built_in_key_is_decided_alike(key: str) -> None:
    assert we_find(key) is framework_finds(key)


@pytest.mark.parametrize("key", sorted(framework._BLOCKED_FRAMEWORK_GLOBAL_KEYS))
def test_what_the_framework_blocks_of_its_own_is_refused(key: str) -> None:
    assert we_find(key) is None


def test_whatever_class_we_admit_without_an_allow_list_the_framework_admits_too() -> None:
    for key in framework_classes():
        found = we_find(key)
        assert found is None or found is framework_finds(key)


@pytest.mark.parametrize("key", sorted({*FORBIDDEN, *app.ALLOWED}), ids=lambda key: ascii(key)[1:60])
def test_what_nobody_allowed_is_refused(key: str) -> None:
    assert we_find(key) is None


@pytest.mark.parametrize("key", sorted({*FORBIDDEN, *app.ALLOWED} - {":", "::"}), ids=lambda key: ascii(key)[1:60])
def test_each_key_is_decided_alike_when_it_is_allowed(key: str) -> None:
    try:
        found = we_find(key, key)
    except ValueError:
        assert not all(key.partition(":")[::2])
    else:
        assert found is framework_finds(key, key)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """The framework is looked at again, as in a new process."""
    ours.registered_types.cache_clear()
    yield
    ours.registered_types.cache_clear()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (framework, "_REGISTERED_CHECKPOINT_TYPE_KEYS", "the set of registered checkpoint types"),
        (WorkflowCheckpoint, "from_dict", "WorkflowCheckpoint.from_dict"),
        (agent_framework.WorkflowEvent, "request_type", "WorkflowEvent.request_type"),
        (agent_framework.WorkflowEvent, "source_executor_id", "WorkflowEvent.source_executor_id"),
    ],
)
def test_a_framework_that_lacks_what_is_needed_is_one_clear_error(
    owner: Any, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(UnsupportedFrameworkError, match=f"lacks {said}, which eventckpt needs"):
        CheckpointCodec()


@pytest.mark.usefixtures("unchecked")
def test_a_checkpoint_without_a_field_that_is_needed_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = dict(WorkflowCheckpoint.__dataclass_fields__)
    del fields["iteration_count"]
    monkeypatch.setattr(WorkflowCheckpoint, "__dataclass_fields__", fields)
    with pytest.raises(UnsupportedFrameworkError, match=r"lacks WorkflowCheckpoint\.iteration_count"):
        CheckpointCodec()


# The gate


def test_a_name_that_the_framework_only_imported_is_refused() -> None:
    """The framework would find it; no save would ever write it, since the class has another module."""
    key = "agent_framework._workflows._checkpoint:Path"
    assert framework_finds(key) is Path
    assert we_find(key) is None
    assert we_find(key, key) is Path


@pytest.mark.parametrize("allowed", [app.ALLOWED, tuple(app.ALLOWED), set(app.ALLOWED), dict.fromkeys(app.ALLOWED)])
def test_any_collection_of_keys_will_do(allowed: Any) -> None:
    assert TypeGate(allowed).resolve(f"{APP}:Point") is app.Point
    assert TypeGate(iter(allowed)).resolve(f"{APP}:Point") is app.Point


def test_a_class_nested_in_one_of_the_framework_has_to_be_allowed() -> None:
    nested = agent_framework.WorkflowAgent.RequestInfoFunctionArgs
    key = type_key(nested)
    assert we_find(key) is framework_finds(key) is None
    assert we_find(key, key) is framework_finds(key, key) is nested


def test_a_single_string_is_no_list_of_keys() -> None:
    with pytest.raises(TypeError, match="list of 'module:qualname' strings"):
        CheckpointCodec(f"{APP}:Point")


def test_a_class_is_no_key() -> None:
    with pytest.raises(TypeError, match=r"Point'> in allowed_checkpoint_types is not a 'module:qualname' string"):
        CheckpointCodec([app.Point])


@pytest.mark.parametrize("key", ["", ":", "module", "module.Class", "module:", ":Class"])
def test_a_key_of_another_form_is_refused_at_once(key: str) -> None:
    with pytest.raises(ValueError, match=r"is not of the form 'module:qualname'"):
        CheckpointCodec([key])


def test_a_refusal_says_what_to_add_and_where() -> None:
    gate = TypeGate(storage_name="CosmosCheckpointStorage")
    with pytest.raises(CheckpointTypeNotAllowedError) as caught:
        gate.resolve(f"{APP}:Outer.Inner")
    assert caught.value.type_key == f"{APP}:Outer.Inner"
    assert f"CosmosCheckpointStorage(…, allowed_checkpoint_types=['{APP}:Outer.Inner'])" in str(caught.value)
    assert "agent_framework.register_checkpoint_type(…)" in str(caught.value)


def test_allowing_a_class_allows_neither_the_classes_in_it_nor_those_it_inherits_from() -> None:
    gate = TypeGate([f"{APP}:Outer", f"{APP}:Place"])
    assert gate.resolve(f"{APP}:Outer") is app.Outer
    for key in (f"{APP}:Outer.Inner", f"{APP}:Point"):
        with pytest.raises(CheckpointTypeNotAllowedError):
            gate.resolve(key)


def test_what_is_allowed_and_no_class_is_refused() -> None:
    names = (*(f"{REFUSED}:{name}" for name in ("make_one", "SINGLETON", "threading")), f"{APP}:T")
    for key in (*names, f"{APP}:Point.__init__"):
        with pytest.raises(CheckpointTypeNotAllowedError):
            TypeGate([key]).resolve(key)


def test_what_is_allowed_and_does_not_exist_is_told_from_a_refusal() -> None:
    for key in (f"{APP}:Nowhere", "tests.nowhere:Class", f"{APP}:Point.Nowhere"):
        with pytest.raises(CheckpointDecodeError, match="is allowed, but cannot be imported"):
            TypeGate([key]).resolve(key)


def test_a_key_leads_to_the_class_it_came_from() -> None:
    gate = TypeGate(app.ALLOWED)
    for cls in (app.Point, app.Outer.Inner, app.Outer.Inner.Mood, app.IntBox, int, agent_framework.Message):
        assert gate.resolve(gate.key_of(cls)) is cls


def test_a_class_that_its_name_does_not_lead_to_has_no_key() -> None:
    impostor = type("Point", (), {"__module__": APP})
    nowhere = type("Nowhere", (), {"__module__": APP})
    local = f"{REFUSED}:local_class.<locals>.Local"
    gate = TypeGate([f"{APP}:Point", f"{APP}:Nowhere", f"{REFUSED}:Replaced", local])
    for cls, why in (
        (impostor, "is not the class that this name leads to"),
        (refused.FirstReplaced, "is not the class that this name leads to"),
        (nowhere, "cannot be imported"),
        (refused.local_class(), "defined inside a function"),
    ):
        with pytest.raises(CheckpointTypeNotAllowedError, match=why):
            gate.key_of(cls)


@pytest.fixture
def registered() -> Iterator[None]:
    before = set(framework._REGISTERED_CHECKPOINT_TYPE_KEYS)
    yield
    framework._REGISTERED_CHECKPOINT_TYPE_KEYS.clear()
    framework._REGISTERED_CHECKPOINT_TYPE_KEYS.update(before)


@pytest.mark.usefixtures("registered")
def test_a_type_registered_at_any_time_is_allowed_in_every_codec() -> None:
    codec = CheckpointCodec()
    with pytest.raises(CheckpointTypeNotAllowedError):
        codec.encode(checkpoint(refused.Unlisted(1)))
    register_checkpoint_type(refused.Unlisted)
    assert codec.decode(codec.encode(checkpoint(refused.Unlisted(1)))).state == {"value": refused.Unlisted(1)}


def test_looking_up_a_refused_name_imports_nothing() -> None:
    assert "this" not in sys.modules
    with pytest.raises(CheckpointTypeNotAllowedError):
        TypeGate(["other:Class"]).resolve("this:Class")
    assert "this" not in sys.modules


def test_only_what_the_framework_owns_counts_as_built_in() -> None:
    gate = TypeGate(["agent_framework._types:Message"])
    assert gate.is_built_in("agent_framework._types:Content")
    assert not gate.is_built_in("agent_framework._types:Message"), "the application asked for it"
    assert not gate.is_built_in(f"{APP}:Point")
    assert not gate.is_built_in("agent_frameworkx:Type")
