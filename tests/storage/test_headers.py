"""What goes into the header of an event is kept exactly, or refused at save by the name of its field."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointEncodeError
from eventckpt.storage.compose import MAX_COUNT

from ..engines import Engine

WORKFLOW = "orders"

FIELDS = (
    "workflow_name",
    "checkpoint_id",
    "previous_checkpoint_id",
    "timestamp",
    "iteration_count",
    "graph_signature_hash",
    "version",
)


class Name(str):
    """Text, and more."""


class Colour(enum.StrEnum):
    RED = "red"


class Count(int):
    """A number, and more."""


class Wordless:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    5,
    Count(5),
    MAX_COUNT,
    -MAX_COUNT,
    MAX_COUNT + 1,
    1 << 63,
    1 << 64,
    -(1 << 63) - 1,
    10**5000,
    1.0,
    float("nan"),
    "",
    " ",
    "5",
    "text",
    Name("text"),
    Colour.RED,
    "\ud800",
    "a\x00b\r\n\x1b[2J\u202e",
    "é" * 300,
    "not a time",
    b"text",
    bytearray(b"text"),
    ["text"],
    ("text",),
    {"text": 1},
    Wordless(),
    object,
)


def checkpoint(**fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(**({"workflow_name": WORKFLOW, "graph_signature_hash": "graph"} | fields))


@pytest.mark.parametrize("field", FIELDS)
async def test_a_header_field_is_kept_exactly_or_refused_by_its_name(engine: Engine, field: str) -> None:
    audit = CheckpointAudit(engine.open())
    outcomes: set[str] = set()
    for number, value in enumerate(ODD):
        storage = engine.storage()
        saved = checkpoint(**{field: value})
        try:
            name = await storage.for_run(f"{field}-{number}").save(saved)
        except CheckpointEncodeError as refusal:
            said = str(refusal)
            outcomes.add("refused" if field in said and said.isprintable() else said)
            continue
        outcomes.add("kept")
        reader = engine.storage().for_run(f"{field}-{number}")
        latest = await reader.get_latest(workflow_name=saved.workflow_name)
        for found in (await reader.load(name), latest):
            assert found == saved
            assert type(getattr(found, field)) is type(value)
    assert outcomes == {"kept", "refused"}
    async for verdict in audit.verify_all(decode=True):
        assert verdict.ok, verdict


async def test_what_is_refused_leaves_nothing_behind(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run("r")
    for field, value in (("iteration_count", None), ("workflow_name", Name("text")), ("checkpoint_id", 5)):
        with pytest.raises(CheckpointEncodeError, match=rf"{field} must be .* Nothing was saved"):
            await run.save(checkpoint(**{field: value}))
    assert run.workflow_name is None
    await run.save(saved := checkpoint())
    assert await storage.list_checkpoints(workflow_name=WORKFLOW) == [saved]


async def test_a_refusal_is_logged_whatever_the_fields_hold(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CheckpointEncodeError):
        await engine.storage().save(checkpoint(checkpoint_id=Wordless(), iteration_count=Wordless()))
    assert "without text" in caplog.text
