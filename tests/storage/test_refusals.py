"""What a storage refuses (docs/semantics.md), on every engine, and who hears of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventckpt import (
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
)

from ..engines import Engine
from .checkpoints import FRAGILE, NOT_ALLOWED, WORKFLOW, Fragile, NotAllowed, chain_of, checkpoint, ids

# What is refused


async def test_a_type_that_is_not_allowed_is_refused_at_save_and_at_load(engine: Engine) -> None:
    saved = checkpoint(state={"value": NotAllowed()})
    with pytest.raises(CheckpointTypeNotAllowedError, match="allowed_checkpoint_types") as at_save:
        await engine.storage().save(saved)
    assert at_save.value.type_key == NOT_ALLOWED
    await engine.storage(allowed_checkpoint_types=[NOT_ALLOWED]).save(saved)
    strict = engine.storage()
    for read in (strict.load(saved.checkpoint_id), strict.get_latest(workflow_name=WORKFLOW)):
        with pytest.raises(CheckpointTypeNotAllowedError, match=saved.checkpoint_id) as at_load:
            await read
        assert at_load.value.type_key == NOT_ALLOWED


async def test_an_undecodable_latest_never_gives_way_to_an_older_one(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED]).for_run("r")
    [first] = await chain_of(storage, 1)
    await storage.save(checkpoint(first, state={"value": NotAllowed()}))
    with pytest.raises(CheckpointTypeNotAllowedError):
        await engine.storage().for_run("r").get_latest(workflow_name=WORKFLOW)


async def test_a_list_leaves_out_what_it_cannot_decode_and_says_so(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED])
    first = checkpoint()
    second = checkpoint(first, state={"value": NotAllowed()})
    third = checkpoint(second)
    for each in (first, second, third):
        await storage.save(each)
    strict = engine.storage()
    assert await strict.list_checkpoints(workflow_name=WORKFLOW) == [first, third]
    assert second.checkpoint_id in caplog.text
    assert len(await ids(strict)) == 3


async def test_what_could_not_be_loaded_again_is_refused_at_save(engine: Engine) -> None:
    storage = engine.storage(allowed_checkpoint_types=[FRAGILE])
    fragile = Fragile()
    fragile.__dict__["x"] = 1
    with pytest.raises(CheckpointEncodeError, match="not loaded again"):
        await storage.save(checkpoint(state={"value": fragile}))
    assert await ids(storage) == []


@pytest.mark.parametrize("fields", [{"checkpoint_id": ""}, {"workflow_name": ""}, {"checkpoint_id": "\ud800"}])
async def test_a_checkpoint_without_a_proper_name_is_refused(engine: Engine, fields: dict[str, str]) -> None:
    with pytest.raises(CheckpointEncodeError, match=next(iter(fields))):
        await engine.storage().save(checkpoint(**fields))


@pytest.mark.parametrize("name", ["x" * 256, "x" * 300, "x\n" * 200, "é" * 100_000])
async def test_a_checkpoint_id_too_long_to_name_a_run_is_refused_unless_bound(engine: Engine, name: str) -> None:
    told: list[Exception] = []
    storage = engine.storage(on_save_error=lambda _, error: told.append(error))
    long = checkpoint(checkpoint_id=name)
    with pytest.raises(CheckpointEncodeError, match=rf"checkpoint_id .* 255 .* {len(name):,}") as refusal:
        await storage.save(long)
    assert told == [refusal.value]
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 500
    assert await ids(storage) == []
    if len(name) < 1000:
        await storage.for_run("r").save(long)
        assert await storage.load(long.checkpoint_id) == long
        following = checkpoint(long, checkpoint_id=f"{name}2")
        await storage.save(following)  # its run has a name
        assert await storage.load(following.checkpoint_id) == following
        await storage.save(checkpoint(checkpoint_id="y" * 255))


@pytest.mark.parametrize("value", [None, {}, {"checkpoint_id": "a"}, "checkpoint", [], WorkflowCheckpoint])
@pytest.mark.parametrize("run_id", [None, "r"])
async def test_something_else_than_a_checkpoint_is_not_saved(engine: Engine, run_id: str | None, value: Any) -> None:
    told: list[Exception] = []
    storage = engine.storage(on_save_error=lambda _, error: told.append(error))
    target = storage if run_id is None else storage.for_run(run_id)
    with pytest.raises(TypeError, match=f"^save takes a WorkflowCheckpoint, not a {type(value).__name__}\\.$"):
        await target.save(value)
    assert told == []
    assert await ids(storage) == []


def test_options_are_checked_when_the_storage_is_made(engine: Engine) -> None:
    with pytest.raises(ValueError, match="on_conflict"):
        engine.storage(on_conflict="merge")
    with pytest.raises(ValueError, match="module:qualname"):
        engine.storage(allowed_checkpoint_types=["my_app.models.MyState"])
    with pytest.raises(TypeError, match="one string"):
        engine.storage(allowed_checkpoint_types="my_app.models:MyState")


# Who hears of it


async def test_a_failed_save_is_logged_counted_and_handed_to_the_hook(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str, Exception]] = []
    storage = engine.storage(on_save_error=lambda saved, error: heard.append((saved.checkpoint_id, error)))
    refused = checkpoint(state={"value": NotAllowed()})
    with pytest.raises(CheckpointTypeNotAllowedError) as raised:
        await storage.for_run("order-7").save(refused)
    assert heard == [(refused.checkpoint_id, raised.value)]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert refused.checkpoint_id in record.getMessage()
    assert "order-7" in record.getMessage()


async def test_a_hook_that_fails_hides_nothing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    def hook(saved: WorkflowCheckpoint, error: Exception) -> None:
        raise RuntimeError("hook")

    with pytest.raises(CheckpointTypeNotAllowedError):
        await engine.storage(on_save_error=hook).save(checkpoint(state={"value": NotAllowed()}))
    assert "on_save_error failed" in caplog.text


async def test_the_hook_hears_nothing_of_saves_that_succeed(engine: Engine) -> None:
    heard: list[Exception] = []
    await chain_of(engine.storage(on_save_error=lambda saved, error: heard.append(error)), 2)
    assert heard == []


def totals(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    """Sums and counts by metric name and outcome."""
    found: dict[tuple[str, str], float] = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    value = getattr(point, "value", None) or getattr(point, "count", 0)
                    found[metric.name, str((point.attributes or {}).get("outcome", ""))] = value
    return found


async def test_every_metric_counts(engine: Engine, metric_reader: InMemoryMetricReader) -> None:
    before = totals(metric_reader)
    storage = engine.storage(allowed_checkpoint_types=[NOT_ALLOWED])
    [saved] = await chain_of(storage.for_run("r"), 1)
    await storage.for_run("r").save(saved)
    await chain_of(engine.storage().for_run("r"), 1)
    await storage.save(odd := checkpoint(state={"value": NotAllowed()}))
    strict = engine.storage()
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.save(odd)
    with pytest.raises(CheckpointTypeNotAllowedError):
        await strict.load(odd.checkpoint_id)
    await strict.load(saved.checkpoint_id)
    after = totals(metric_reader)
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["eventckpt.saves", "saved"] == 2
    assert grown["eventckpt.saves", "repeated"] == 1
    assert grown["eventckpt.saves", "forked"] == 1
    assert grown["eventckpt.saves", "failed"] == 1
    assert grown["eventckpt.save.duration", "failed"] == 1
    assert grown["eventckpt.loads", "loaded"] == 1
    assert grown["eventckpt.loads", "failed"] == 1
    assert grown["eventckpt.stored", ""] > 100
