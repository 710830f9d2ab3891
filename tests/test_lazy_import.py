"""The Azure SDK is an optional extra: only the Cosmos DB engine imports it, and only when it is asked for."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import eventckpt

pytestmark = pytest.mark.slow  # a process for each name

COSMOS = {"CosmosCheckpointStorage", "CosmosEventStore"}

WITHOUT_AZURE = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"azure", "aiohttp"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
"""

USE_SQLITE = """
import asyncio
import eventckpt
import projections
from agent_framework import WorkflowCheckpoint
from eventckpt import EventCheckpointStorage, SqliteCheckpointStorage, SqliteEventStore

async def use():
    async with SqliteCheckpointStorage("checkpoints.db") as storage:
        first = WorkflowCheckpoint(workflow_name="w", graph_signature_hash="g")
        await storage.for_run("r").save(first)
        await storage.delete(first.checkpoint_id)
        assert await storage.list_checkpoints(workflow_name="w") == []
        assert await storage.get_latest(workflow_name="w") is None

asyncio.run(use())
"""

OF_AZURE = """
import sys
print(sorted({name.partition(".")[0] for name in sys.modules} & {"azure", "aiohttp"}))
"""


def run(folder: Path, *scripts: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, which has imported nothing yet."""
    script = "\n".join(map(textwrap.dedent, scripts))
    root = Path(eventckpt.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{script}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def said(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_sqlite_and_the_projections_import_nothing_of_azure(tmp_path: Path) -> None:
    assert said(run(tmp_path, USE_SQLITE, OF_AZURE)) == "[]"


def test_everything_but_the_cosmos_engine_works_without_azure(tmp_path: Path) -> None:
    said(run(tmp_path, WITHOUT_AZURE, USE_SQLITE))


@pytest.mark.parametrize("name", sorted(COSMOS))
def test_the_cosmos_names_are_imported_when_they_are_asked_for(tmp_path: Path, name: str) -> None:
    assert said(run(tmp_path, f"from eventckpt import {name}; print({name}.__name__)")) == name
    assert said(run(tmp_path, f"import eventckpt; print(eventckpt.{name}.__name__)")) == name


@pytest.mark.parametrize("use", ["from eventckpt import {}", "import eventckpt; eventckpt.{}"])
@pytest.mark.parametrize("name", sorted(COSMOS))
def test_without_azure_the_cosmos_names_say_what_to_install(tmp_path: Path, name: str, use: str) -> None:
    process = run(tmp_path, WITHOUT_AZURE, use.format(name))
    assert process.returncode == 1
    last = process.stderr.strip().splitlines()[-1]
    assert last == (
        f"ModuleNotFoundError: {name} needs the Azure SDK, which is not installed: "
        "pip install '.[cosmos]', in a checkout"
    )


DEAR = ("agent_framework._agents", "agent_framework._tools", "pydantic", "opentelemetry.metrics", "eventckpt.audit")


def test_to_import_the_package_imports_none_of_what_takes_longer_than_itself(tmp_path: Path) -> None:
    there = f"import sys, eventckpt; print([name for name in {DEAR} if name in sys.modules])"
    assert said(run(tmp_path, there)) == "[]"


@pytest.mark.parametrize("use", ["eventckpt.CheckpointAudit", "eventckpt.audit.CheckpointAudit"])
def test_the_audit_is_there_when_it_is_asked_for(tmp_path: Path, use: str) -> None:
    assert said(run(tmp_path, f"import eventckpt; print({use}.__name__)")) == "CheckpointAudit"


def test_every_public_name_is_listed_and_there() -> None:
    assert set(eventckpt.__all__) >= COSMOS
    assert set(dir(eventckpt)) >= set(eventckpt.__all__)
    assert eventckpt.__all__ == sorted(eventckpt.__all__)
    for name in eventckpt.__all__:
        assert getattr(eventckpt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'CosmosStore'"):
        eventckpt.CosmosStore  # noqa: B018
