"""The exceptions: their hierarchy, who catches which, and what they say."""

from __future__ import annotations

import inspect

import pytest
from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

import eventckpt
from eventckpt import CheckpointDecodeError, CheckpointEncodeError, CheckpointTypeNotAllowedError, errors

from .engines import Engine


class NotAllowed:
    """An application's type that no storage here was told to allow, unless it was."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NotAllowed)

    __hash__ = None  # type: ignore[assignment]


class Turncoat:
    """Encodes as itself, and decodes into another type, which is not allowed."""

    def __reduce__(self) -> tuple[type[NotAllowed], tuple[()]]:
        return NotAllowed, ()


def documented_tree() -> set[tuple[str, str]]:
    """Each class in the docstring's tree with the one above it."""
    tree: set[tuple[str, str]] = set()
    above: list[str] = []
    for line in inspect.getsource(errors).split('"""')[1].splitlines():
        if line.startswith("    "):
            depth, name = (len(line) - len(line.lstrip())) // 4, line.strip()
            above = [*above[: depth - 1], name]
            if depth > 1:
                tree.add((name, above[depth - 2]))
    return tree


def test_the_tree_at_the_top_is_that_of_the_classes() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    bases = {(cls.__name__, base.__name__) for cls in classes for base in cls.__bases__}
    assert documented_tree() == {(name, base) for name, base in bases if not base.startswith("_")}


def test_every_error_but_what_engines_report_is_a_public_name_and_the_frameworks_own() -> None:
    public = {name for name in errors.__all__ if name != "StreamConflict"}
    assert public <= set(eventckpt.__all__)
    for name in public:
        assert getattr(eventckpt, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), WorkflowCheckpointException)


def checkpoint(value: object) -> WorkflowCheckpoint:
    return WorkflowCheckpoint("orders", "graph", state={"deep": [{"value": value}]})


async def test_a_refused_type_is_an_encode_error_at_save_and_a_decode_error_at_load(engine: Engine) -> None:
    key = f"{__name__}:NotAllowed"
    with pytest.raises(CheckpointEncodeError) as at_save:
        await engine.storage().save(saved := checkpoint(NotAllowed()))
    await engine.storage(allowed_checkpoint_types=[key]).save(saved)
    strict = engine.storage()
    with pytest.raises(CheckpointDecodeError) as at_load:
        await strict.load(saved.checkpoint_id)
    with pytest.raises(CheckpointDecodeError) as at_latest:
        await strict.get_latest(workflow_name="orders")
    for refusal in (at_save.value, at_load.value, at_latest.value):
        assert isinstance(refusal, CheckpointTypeNotAllowedError)
        assert refusal.type_key == key
    assert at_save.value.path == ["checkpoint", "['state']", "['deep']", "[0]", "['value']"]


async def test_a_refusal_while_a_save_is_proved_stays_a_refusal(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=[f"{__name__}:Turncoat"])
    with pytest.raises(CheckpointTypeNotAllowedError, match="NotAllowed") as refusal:
        await storage.save(checkpoint(Turncoat()))
    assert refusal.value.type_key == f"{__name__}:NotAllowed"


def test_a_refusal_keeps_its_key_and_path_where_something_is_said_before_it() -> None:
    refusal = CheckpointTypeNotAllowedError("Type 'a:B' is not allowed.", type_key="a:B")
    refusal.path = ["checkpoint", "['x']"]
    said = refusal.about("Checkpoint c: ")
    assert (said.type_key, said.path) == (refusal.type_key, refusal.path)
    assert str(said) == "Checkpoint c: Type 'a:B' is not allowed. (at checkpoint['x'])"
