"""The samples on Cosmos DB, run as a user runs them, and what docs/cosmos.md says of provisioning."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from eventckpt import CosmosEventStore, StreamId
from eventckpt.stores.cosmos import INDEXING_POLICY, PARTITION_KEY
from eventckpt.stores.cosmos.items import header_of
from eventckpt.stores.cosmos.runs import PROJECTION_INDEXING

from .conftest import cosmos_account
from .engines import Engine
from .test_samples import SAMPLES, columns, section

pytestmark = pytest.mark.slow  # a process for each sample

ROOT = SAMPLES.parent
SETTINGS = ("ENDPOINT", "KEY", "DATABASE_NAME", "CONTAINER_NAME")


async def quickstart(*options: str | Path, folder: Path = SAMPLES, **settings: str) -> subprocess.CompletedProcess[str]:
    """The sample in another process, with these AZURE_COSMOS_* settings and no others in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_COSMOS_")}
    environment |= {f"AZURE_COSMOS_{name}": value for name, value in settings.items()}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, folder / "cosmos_quickstart.py", *options],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def printed(ended: subprocess.CompletedProcess[str]) -> str:
    """What the sample prints, if it ended well and had nothing to complain about."""
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


def account(endpoint: str, key: str) -> dict[str, str]:
    """Settings for a container of its own."""
    return dict(zip(SETTINGS, (endpoint, key, "eventckpt-tests", f"samples-{uuid.uuid4()}"), strict=True))


async def logged(settings: dict[str, str], text: str) -> list[int]:
    """The seqs in the container of the run that the sample named."""
    run_id = re.search(r"of run '(.+?)'", text)
    assert run_id is not None
    endpoint, key, database_name, container_name = (settings[name] for name in SETTINGS)
    async with CosmosEventStore(
        endpoint=endpoint, credential=key, database_name=database_name, container_name=container_name
    ) as store:
        return [header.seq async for header in store.headers(StreamId("incident-review", run_id[1]))]


# The quickstart


async def test_the_quickstart_needs_no_account_and_leaves_no_emulator_behind() -> None:
    text = printed(await quickstart())

    assert section(text, "THE FIRST PROCESS")[-3:] == [
        "reader done",
        "analyst done",
        "planner begins, and the process dies of SIGKILL",
    ]
    assert section(text, "THE SECOND PROCESS") == [
        "resumes from superstep 2",
        "planner done",
        "reviewer done",
        "editor done",
    ]
    rows = columns(section(text, "THE LOG OF THE RUN"))
    assert [(row[0], row[8]) for row in rows] == [
        *((str(seq), "first process") for seq in (1, 2, 3)),
        *((str(seq), "second process") for seq in (4, 5, 6)),
    ]
    assert section(text, "THE RESULT")[0] == "Incident 4471: card payments refused on the night of 11 June"
    assert [line[:3] for line in section(text, "CHECKED")] == ["yes"] * 4
    assert "uses the test server of the checkout (tests/cosmos_emulator), and no account" in text
    endpoint = urlsplit(re.search(r"http://\S+", text)[0])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(endpoint.hostname, endpoint.port)


async def test_the_quickstart_uses_the_account_that_the_environment_names() -> None:
    async with cosmos_account() as (endpoint, key):
        settings = account(endpoint, key)
        text = printed(await quickstart(**settings))

        assert "test server" not in text
        assert await logged(settings, text) == [1, 2, 3, 4, 5, 6]


async def test_the_test_server_is_used_beside_an_account_where_it_is_asked_for() -> None:
    text = printed(await quickstart("--emulator", ENDPOINT="http://nowhere.invalid/"))

    assert "uses the test server of the checkout" in text


async def test_without_a_checkout_and_an_account_the_quickstart_says_what_it_needs(tmp_path: Path) -> None:
    alone = tmp_path / "samples"
    shutil.copytree(SAMPLES, alone)

    ended = await quickstart(folder=alone)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "needs the checkout, with tests/cosmos_emulator" in ended.stderr
    assert "AZURE_COSMOS_ENDPOINT may name an account" in ended.stderr


async def test_the_quickstart_takes_its_settings_from_a_file(tmp_path: Path) -> None:
    async with cosmos_account() as (endpoint, key):
        settings = account(endpoint, key)
        file = tmp_path / "settings.env"
        file.write_text("".join(f"AZURE_COSMOS_{name}={value}\n" for name, value in settings.items()))
        text = printed(await quickstart("--env-file", file, ENDPOINT="http://nowhere.invalid/"))

        assert await logged(settings, text) == [1, 2, 3, 4, 5, 6]


async def test_the_quickstart_fails_where_the_account_refuses_it() -> None:
    async with cosmos_account() as (endpoint, key):
        settings = account(endpoint, key[::-1].strip("=") + "==")
        ended = await quickstart(**settings)

    assert ended.returncode == 1
    assert "refused the identity" in ended.stderr


async def test_the_emulator_and_a_file_of_settings_exclude_each_other(tmp_path: Path) -> None:
    ended = await quickstart("--emulator", "--env-file", tmp_path / "settings.env")
    assert ended.returncode == 2
    assert "settings of its own" in ended.stderr


# The Foundry agents


@pytest.fixture
def foundry(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SAMPLES)
    return importlib.import_module("cosmos_foundry_agents")


def scripted(*answers: str | Exception) -> tuple[Any, list[str]]:
    """A chat client that gives these answers, and what it was asked."""
    left, asked = list(answers), []

    def script(question: str) -> str:
        asked.append(question)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return importlib.import_module("scripted_chat").ScriptedChatClient(script), asked


async def test_the_agents_write_and_review(foundry: ModuleType, engine: Engine) -> None:
    client, asked = scripted("A kettel.", "A kettle.")
    run = engine.storage().for_run("note-1")

    assert await foundry.work(client, run, "a kettle") == "A kettle."
    assert asked[0] == "a kettle"
    assert len(asked) == 2


async def test_a_restart_does_not_ask_the_first_agent_again(foundry: ModuleType, engine: Engine) -> None:
    client, _ = scripted("A kettel.", ConnectionError("the model is gone"))
    with pytest.raises(Exception, match="the model is gone"):
        await foundry.work(client, engine.storage().for_run("note-1"), "a kettle")

    client, asked = scripted("A kettle.")
    run = engine.storage().for_run("note-1")
    assert await foundry.work(client, run, "something else") == "A kettle."
    assert len(asked) == 1
    assert await foundry.work(scripted()[0], run, "something else") is None


@pytest.mark.skipif(importlib.util.find_spec("agent_framework_foundry") is not None, reason="Foundry is installed")
async def test_without_the_foundry_package_the_error_names_it(foundry: ModuleType) -> None:
    with pytest.raises(ModuleNotFoundError, match="agent-framework-foundry"):
        await foundry.main("note-1", "a kettle")


def test_the_samples_pass_the_type_check() -> None:
    files = [*SAMPLES.glob("cosmos_*.py"), *SAMPLES.glob("web_service/*.py")]
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if not checked.stdout.startswith("{"):
        pytest.skip("pyright cannot run here; `make lint` says why")
    found = json.loads(checked.stdout)
    assert found["summary"]["filesAnalyzed"] == len(files)
    # The namespace package of the framework knows the name only where the package behind it is installed.
    missing = '"FoundryChatClient" is unknown import symbol'
    assert {each["message"] for each in found["generalDiagnostics"]} - {missing} == set()


# What docs/cosmos.md says of provisioning


def block(language: str) -> str:
    """The page's block in a language."""
    page = (ROOT / "docs" / "cosmos.md").read_text(encoding="utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def listed(bicep: str, name: str) -> list[str]:
    """The paths in a list of the template."""
    found = re.search(rf"^( *){name}: \[\n(.*?)^\1\]$", bicep, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, f"no {name} in the template"
    return re.findall(r"path: '([^']+)'", found[2])


def test_the_bicep_template_makes_the_container_that_the_engine_would_make() -> None:
    bicep = block("bicep")
    partitioned = re.search(r"partitionKey: \{.*paths: \[ '([^']+)' \] \}", bicep)

    assert partitioned is not None
    assert partitioned[1] == PARTITION_KEY
    for name in ("includedPaths", "excludedPaths"):
        assert listed(bicep, name) == [entry["path"] for entry in INDEXING_POLICY[name]]
    composites = [part["path"] for index in INDEXING_POLICY.get("compositeIndexes", []) for part in index]
    assert (listed(bicep, "compositeIndexes") if composites else []) == composites
    assert f"indexingMode: '{INDEXING_POLICY['indexingMode']}'" in bicep


def test_the_page_names_every_indexed_path() -> None:
    page = (ROOT / "docs" / "cosmos.md").read_text(encoding="utf-8")
    named = re.search(r"^## Indexing policy$(.*?)^## ", page, flags=re.MULTILINE | re.DOTALL)
    assert named is not None
    policies = (INDEXING_POLICY, PROJECTION_INDEXING)
    paths = [entry["path"] for policy in policies for entry in policy["includedPaths"]]
    assert re.findall(r"`(/[^`]+)`", named[1]) == paths


def test_the_example_item_has_the_properties_of_an_event() -> None:
    event = header_of(json.loads(block("json")))
    assert event.payload is not None, "the example is not what the engine would read as an event"
    assert event.stream == StreamId("doubling", "order-42")
