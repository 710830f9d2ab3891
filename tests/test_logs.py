"""Whatever comes from a store or a checkpoint, a log record is one line of printable text."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointEncodeError, SqliteCheckpointStorage, StoreUnavailableError
from eventckpt.chain import sealed
from eventckpt.events import CheckpointEvent
from eventckpt.log import escaped, logger_of
from eventckpt.text import described, safe
from projections import LatestProjection
from projections.worker.logs import log_as_json

from .engines import Engine
from .projections.driven_clock import DrivenClock

HOSTILE = "a\n2026-01-01 ERROR forged\r\x1b[2J\x1b]0;title\x07\x9b31m\u202etxt.exe\u2028b\x7f\x00"
NAMES = ("\x1b", "\n", "\r", "\x07", "\x9b", "\u202e", "\u2028", "\x7f", "\x00")


class Unloadable:
    """Says hostile things when it is taken apart, or put together."""

    def __reduce__(self) -> Any:
        raise RuntimeError(HOSTILE)


class Speechless:
    def __repr__(self) -> str:
        raise RuntimeError(HOSTILE)


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n")) and not any(
        line.startswith("2026-01-01 ERROR forged") for line in text.split("\n")
    )


def checkpoint(previous: str | None = None, **fields: Any) -> WorkflowCheckpoint:
    given = {"workflow_name": HOSTILE, "graph_signature_hash": "graph", "previous_checkpoint_id": previous}
    return WorkflowCheckpoint(**given | fields)


def hook(saved: WorkflowCheckpoint, error: Exception) -> None:
    raise ValueError(HOSTILE)


async def log_everything(engine: Engine) -> None:
    """Make the storages log all that they log about hostile names."""
    storage = engine.storage(on_save_error=hook)
    run = storage.for_run(HOSTILE)
    first = checkpoint(checkpoint_id=HOSTILE)
    await run.save(first)
    with pytest.raises(CheckpointEncodeError):
        await run.save(checkpoint(state={HOSTILE: Unloadable()}))
    with pytest.raises(CheckpointEncodeError):
        await run.save(checkpoint(graph_signature_hash=HOSTILE, version=5))  # type: ignore[arg-type, misc]
    await engine.storage().for_run(HOSTILE).save(checkpoint())  # a fork
    await storage.save(checkpoint(HOSTILE + "elsewhere"))  # an unknown parent
    unknown = CheckpointEvent(
        type="checkpoint", workflow_name=HOSTILE, run_id=HOSTILE, seq=7, checkpoint_id="", timestamp="", recorded_at=""
    )
    with pytest.raises(StoreUnavailableError) as raised:
        await LatestProjection(storage.store).apply([sealed(unknown)])
    assert is_harmless(str(raised.value))


@pytest.mark.filterwarnings("ignore")
async def test_no_record_of_a_storage_obeys_what_it_is_given(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "eventckpt")
    await log_everything(engine)
    ours = [record for record in caplog.records if record.name.startswith("eventckpt")]
    said = "\n".join(record.getMessage() for record in ours)
    for about in ("was not saved", "on_save_error failed", "goes on as run", "is not in this store", "came after seq"):
        assert about in said
    assert "forged" in said
    for record in ours:
        assert record.getMessage().isprintable()
        assert is_harmless(logging.Formatter().format(record))


async def test_a_json_log_says_the_same_and_every_line_is_ascii(
    engine: Engine, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    log_as_json("DEBUG")
    try:
        await log_everything(engine)
        logging.getLogger("somebody.else").error("%s", HOSTILE)
        try:
            raise LookupError(HOSTILE)
        except LookupError:
            logging.getLogger("somebody.else").exception("lone \ud800")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.getLogger("eventckpt").setLevel(logging.NOTSET)
    lines = capsys.readouterr().err.splitlines()
    records = [json.loads(line) for line in lines]
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert {"eventckpt", "eventckpt.projections", "somebody.else"} <= {record["logger"] for record in records}
    assert any("error" in record for record in records)
    for record in records:
        assert record["message"].isprintable()
        assert is_harmless(record.get("error", ""))


def test_a_record_keeps_its_format_and_its_numbers(caplog: pytest.LogCaptureFixture) -> None:
    logger = logger_of("eventckpt.tests")
    logger.warning("%s and %r after %d of %.2f: %s", "a\nb", "a\nb", 3, 1.5, None)
    logger.warning("%(name)s", {"name": "a\nb"})
    logger.warning("%s", 10**5000)
    logger.warning("%s", "x" * 10**6)
    first, second, third, fourth = caplog.records
    assert first.getMessage() == "a\\nb and 'a\\nb' after 3 of 1.50: None"
    assert first.msg == "%s and %r after %d of %.2f: %s"
    assert second.getMessage() == "a\\nb"
    assert "without text" in third.getMessage()
    assert len(fourth.getMessage()) < 10_000


@pytest.mark.parametrize("value", [HOSTILE, "\ud800", 10**5000, Speechless(), type, b"\x00", None], ids=type)
def test_safe_text_is_printable_whatever_it_is_made_from(value: object) -> None:
    assert safe(value).isprintable()
    assert described(value).isprintable()
    assert safe(safe(value)) == safe(value)


def test_harmless_text_is_left_as_it_is() -> None:
    assert safe("größe ☃ 日本") == "größe ☃ 日本"


async def test_the_projectors_commands_escape_what_they_print(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with SqliteCheckpointStorage(path) as storage:
        await storage.for_run(HOSTILE + "[red]").save(checkpoint())
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from projections.worker import app; app()", "compare", "--store", str(path)),
        stdout=asyncio.subprocess.PIPE,
    )
    printed = (await ran.communicate())[0].decode()
    assert ran.returncode == 1
    assert "[red]" in "".join(printed.split())
    assert not any(name in printed.replace("\n", "") for name in NAMES)


def test_what_another_package_warns_of_goes_through_our_logger_once_in_a_minute_and_nowhere_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, theirs = DrivenClock(), logging.getLogger("foreign.part")
    with escaped("foreign", logger_of("eventckpt.test"), clock=clock):
        for seconds in (0, 1, 60):
            clock.advance(seconds)
            theirs.warning("away: %s", HOSTILE)
            theirs.info("told nobody")
    assert [record.name for record in caplog.records] == ["eventckpt.test", "eventckpt.test"]
    assert all(is_harmless(record.getMessage()) and "away" in record.getMessage() for record in caplog.records)
    theirs.warning("again")
    assert caplog.records[-1].name == "foreign.part"
