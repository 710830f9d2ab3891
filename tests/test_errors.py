"""The exceptions: their hierarchy, who catches which, and what they say."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException

import eventckpt
from eventckpt import CheckpointDecodeError, CheckpointEncodeError, CheckpointTypeNotAllowedError, errors
from eventckpt.audit import CheckpointAudit
from eventckpt.closing import close_after
from eventckpt.stores.conformance import make_event

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


# What is stored, in the text of an error

FORGED = "c\x1b[2J\nERROR forged line\u202e"


async def test_a_stored_id_is_shown_in_an_error_and_not_obeyed(engine: Engine) -> None:
    key = f"{__name__}:NotAllowed"
    await engine.storage(allowed_checkpoint_types=[key]).save(
        WorkflowCheckpoint(FORGED, "graph", checkpoint_id=FORGED, state={"value": NotAllowed()})
    )
    await engine.open().append(make_event(eventckpt.StreamId(FORGED, "r"), 1, checkpoint_id=f"damaged {FORGED}"))
    storage, audit = engine.storage(), CheckpointAudit(engine.open())
    allowing = CheckpointAudit(engine.open(), allowed_checkpoint_types=[key])
    refused, damaged = await audit.event(FORGED), await audit.event(f"damaged {FORGED}")
    errors: list[Exception] = []
    for ask in (
        lambda: storage.load(FORGED),
        lambda: storage.load(f"damaged {FORGED}"),
        lambda: storage.load(f"no {FORGED}"),
        lambda: audit.checkpoint(refused),
        lambda: audit.checkpoint(damaged),
        lambda: audit.tree(damaged),
        lambda: audit.diff(refused, damaged),
        lambda: audit.event(f"no {FORGED}"),
        lambda: audit.event(f"no {FORGED}@1"),
        lambda: audit.run(f"no {FORGED}"),
    ):
        with pytest.raises(WorkflowCheckpointException) as raised:
            await ask()
        errors.append(raised.value)
    assert [str(error) for error in errors if not str(error).isprintable()] == []
    assert all("ERROR forged line" in str(error) for error in errors)
    assert {type(error) for error in errors[:5]} == {
        CheckpointTypeNotAllowedError,
        CheckpointDecodeError,
        errors_of("CheckpointNotFoundError"),
    }
    assert (await allowing.checkpoint(refused)).checkpoint_id == FORGED


async def test_a_conflict_shows_ids_and_does_not_obey_them(engine: Engine) -> None:
    one, other = (engine.storage(on_conflict="raise").for_run(FORGED) for _ in range(2))
    await one.save(WorkflowCheckpoint(FORGED, "graph", checkpoint_id=f"1{FORGED}"))
    with pytest.raises(eventckpt.CheckpointConflictError) as raised:
        await other.save(WorkflowCheckpoint(FORGED, "graph", checkpoint_id=f"2{FORGED}"))
    assert str(raised.value).isprintable()
    for number in "12":
        assert f"{number}c\\x1b[2J\\nERROR forged line" in str(raised.value)


async def test_the_note_of_a_failed_close_is_one_line_of_printable_text() -> None:
    async def close() -> None:
        raise RuntimeError(FORGED)

    body = LookupError("of the body")
    await close_after(body, close)
    assert body.__notes__ == ["Closing failed too: RuntimeError: c\\x1b[2J\\nERROR forged line\\u202e"]


def errors_of(name: str) -> type[Exception]:
    return getattr(errors, name)


STORED = {"checkpoint_id", "previous_checkpoint_id", "run_id", "workflow_name", "actor", "owner", "name", "error"}
ROOT = Path(__file__).parent.parent
QUIET = ["eventckpt/storage/*.py", "eventckpt/audit/*.py", "eventckpt/closing.py", "projections/*.py"]


def raw_in_errors(source: str) -> list[str]:
    """What stored names stand in f-strings of raised errors as they are: neither `!r` nor through a function."""
    return [
        ast.unparse(part.value)
        for statement in ast.walk(ast.parse(source))
        if isinstance(statement, ast.Raise)
        for part in ast.walk(statement)
        if isinstance(part, ast.FormattedValue) and part.conversion == -1
        for name in [part.value]
        if (isinstance(name, ast.Attribute) and name.attr in STORED)
        or (isinstance(name, ast.Name) and name.id in STORED)
    ]


def test_no_error_has_a_stored_name_in_it_as_it_is() -> None:
    assert raw_in_errors('raise E(f"{event.checkpoint_id} {run_id!r} {safe(name)} {error}")') == [
        "event.checkpoint_id",
        "error",
    ]
    found = {
        (path.name, name)
        for pattern in QUIET
        for path in ROOT.glob(pattern)
        for name in raw_in_errors(path.read_text(encoding="utf-8"))
    }
    assert found == {
        ("import_storage.py", "name"),  # of a field, in our own words
        ("compose.py", "name"),  # likewise
        ("payloads.py", "error"),  # whoever asks for the event shows it
    }
