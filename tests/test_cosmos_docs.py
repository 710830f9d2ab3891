"""What docs/cosmos.md says of provisioning, roles and refusals is what the code makes, asks for and raises.

The texts for `az` are run, with a stand-in that notes what it was told. Containers are then made in the test server as
the texts say, and compared with those that the library makes there for itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from azure.cosmos import PartitionKey
from azure.cosmos.aio import CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from eventckpt import CosmosEventStore, StreamId
from eventckpt.stores.conformance import make_event
from projections import open_engine

from .bicep import resources
from .cosmos_emulator import CosmosEmulator
from .test_docs import DOCS, ROOT, code, table

PAGE: Final = "cosmos.md"
DATABASE, EVENTS = "agents", "checkpoints"
CONTAINERS: Final = (EVENTS, f"{EVENTS}-projections", f"{EVENTS}-leases", f"{EVENTS}-sessions")
READER: Final = "00000000-0000-0000-0000-000000000001"
CONTRIBUTOR: Final = "00000000-0000-0000-0000-000000000002"
ROLES: Final = {"Data Reader": READER, "Data Contributor": CONTRIBUTOR}
READER_ACTIONS: Final = frozenset({"items/read", "executeQuery", "readChangeFeed"})
"""Beside `readMetadata`. Cosmos DB documentation, "Data plane security reference", September 2025."""
ACTIONS: Final = READER_ACTIONS | {"items/create", "items/replace", "items/upsert", "items/delete"}
"""Those of the page that an item store can need; it also has scripts, conflicts and masks."""

Container = dict[str, Any]


# Containers


def blocks(language: str) -> list[str]:
    """The code blocks of the page in a language."""
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def shell(*names: str) -> str:
    """The blocks that set these variables or call these commands first, one after the other."""
    chosen = [block for name in names for block in blocks("sh") if name in block]
    assert len(chosen) == len(names)
    return "\n".join(chosen)


def told_az(script: str, folder: Path, variables: Mapping[str, str]) -> list[dict[str, str]]:
    """What a script tells `az`, each call as its options; `command` is what comes before them."""
    tools = folder / "tools"
    tools.mkdir()
    noted = folder / "noted"
    note = f"import json, sys; print(json.dumps(sys.argv[1:]), file=open({str(noted)!r}, 'a'))"
    commands = {"az": [sys.executable, "-c", note], "python": [sys.executable]}
    for name, command in commands.items():
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {**os.environ, **variables, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-eu", "-c", script], cwd=folder, env=environment, check=True, timeout=120)
    return [options_of(json.loads(line)) for line in noted.read_text(encoding="utf-8").splitlines()]


def options_of(words: list[str]) -> dict[str, str]:
    first = next(index for index, word in enumerate(words) if word.startswith("--"))
    pairs = words[first:]
    return {"command": " ".join(words[:first]), **dict(zip(pairs[::2], pairs[1::2], strict=True))}


def containers_of_az(folder: Path) -> dict[str, Container]:
    """What the text for the Azure CLI makes, as the data plane names it."""
    made: dict[str, Container] = {}
    for options in told_az(shell("GROUP=my-group"), folder, {}):
        if options.pop("command") == "cosmosdb sql container create":
            assert (options.pop("--resource-group"), options.pop("--account-name")) == ("my-group", "my-account")
            assert options.pop("--database-name") == DATABASE
            made[options.pop("--name")] = {
                "partitionKey": {
                    "kind": "Hash",
                    "version": int(options.pop("--partition-key-version")),
                    "paths": [options.pop("--partition-key-path")],
                },
                "indexingPolicy": json.loads((folder / options.pop("--idx").removeprefix("@")).read_text()),
            }
            assert options == {}, "no expiry, and throughput is the account's or the database's"
    return made


def containers_of_bicep() -> dict[str, Container]:
    """What the Bicep file makes."""
    [source] = blocks("bicep")
    found = [each.body for each in resources(source) if each.type.endswith("/sqlDatabases/containers")]
    bodies = [body["properties"]["resource"] for body in found]
    assert [body["name"] for body in found] == [body["id"] for body in bodies]
    assert all(set(body["properties"]) == {"resource"} for body in found)
    return {body.pop("id"): body for body in bodies}


async def as_served(emulator: CosmosEmulator, database: str, name: str) -> Container:
    """What the service says of a container that was made."""
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        properties = await client.get_database_client(database).get_container_client(name).read()
    return {key: value for key, value in properties.items() if not key.startswith("_")}


async def made_by_hand(emulator: CosmosEmulator, database: str, containers: dict[str, Container]) -> None:
    async with CosmosClient(emulator.endpoint, emulator.key) as client:
        proxy = await client.create_database_if_not_exists(database)
        for name, settings in containers.items():
            key = settings["partitionKey"]
            await proxy.create_container(
                name,
                PartitionKey(key["paths"][0], version=key["version"]),
                indexing_policy=settings["indexingPolicy"],
            )


async def made_by_the_library(emulator: CosmosEmulator) -> dict[str, Container]:
    """The containers, each made by its first use, and that of sessions by its first save."""
    async with CosmosEmulatorStore(emulator) as store:
        await store.find("nothing")
        await store.runs().get(StreamId("nothing", "nothing"))
        await open_engine(store).documents.read("nothing")
        await store.sessions().append(make_event(StreamId("history", "session"), 1))
        return {name: await as_served(emulator, DATABASE, name) for name in CONTAINERS}


class CosmosEmulatorStore:
    """A store on a test server, closed at the end of its block."""

    def __init__(self, emulator: CosmosEmulator) -> None:
        self._store = CosmosEventStore(
            endpoint=emulator.endpoint, credential=emulator.key, database_name=DATABASE, container_name=EVENTS
        )

    async def __aenter__(self) -> CosmosEventStore:
        return self._store

    async def __aexit__(self, *exc_info: object) -> None:
        await self._store.close()


@pytest.mark.parametrize("text", ["az", "bicep"])
async def test_the_provisioning_texts_make_the_containers_that_the_library_makes(text: str, tmp_path: Path) -> None:
    containers = containers_of_az(tmp_path) if text == "az" else containers_of_bicep()
    async with CosmosEmulator() as emulator:
        expected = await made_by_the_library(emulator)
        await made_by_hand(emulator, "by-hand", containers)
        assert {name: await as_served(emulator, "by-hand", name) for name in containers} == expected


@pytest.mark.parametrize("text", ["az", "bicep"])
def test_the_provisioning_texts_ask_for_partition_keys_of_version_2(text: str, tmp_path: Path) -> None:
    containers = containers_of_az(tmp_path) if text == "az" else containers_of_bicep()
    assert [each["partitionKey"]["version"] for each in containers.values()] == [2] * len(CONTAINERS)


def test_the_table_of_containers_has_their_partition_keys() -> None:
    rows = [(code(name) or [EVENTS], code(key)) for name, key, *_ in table(PAGE, "Containers")]
    assert {name[0].replace("<name>", EVENTS): key for name, key in rows} == {
        name: each["partitionKey"]["paths"] for name, each in containers_of_bicep().items()
    }


# Roles


def roles_of_the_table() -> set[tuple[str, str, str]]:
    """Who has which role on which container, by the page's table."""
    who = {"the program that runs workflows": "PROGRAM", "the projector's worker": "WORKER"}
    who |= {"an auditor, who only looks": "AUDITOR"}
    return {
        (who[person.strip()], name, ROLES[cell.split(",")[0].strip()])
        for person, *cells in table(PAGE, "Identities and roles")
        if person.strip() in who
        for name, cell in zip(CONTAINERS, cells, strict=True)
        if cell.strip()
    }


def test_the_roles_of_the_table_are_those_that_az_is_told_to_assign(tmp_path: Path) -> None:
    variables = {"GROUP": "g", "ACCOUNT": "a", "DATABASE": DATABASE, "CONTAINER": EVENTS}
    people = {name: name for name in ("PROGRAM", "WORKER", "AUDITOR")}
    calls = told_az(shell("grant()"), tmp_path, variables | people)
    assert {call["command"] for call in calls} == {"cosmosdb sql role assignment create"}
    scope = f"/dbs/{DATABASE}/colls/"
    assigned = [
        (call["--principal-id"], call["--scope"].removeprefix(scope), call["--role-definition-id"]) for call in calls
    ]
    assert sorted(assigned) == sorted(roles_of_the_table())


def test_the_roles_of_the_table_are_those_that_the_bicep_file_assigns() -> None:
    [source] = blocks("bicep")
    people = {"<programId>": "PROGRAM", "<workerId>": "WORKER", "<auditorId>": "AUDITOR"}
    assigned: list[tuple[str, str, str]] = []
    for each in resources(source):
        if each.type.endswith("/sqlRoleAssignments"):
            said = each.body["properties"]
            account, _, container = said["scope"].partition(f"/dbs/{DATABASE}/colls/")
            definition = said["roleDefinitionId"].removeprefix("<account.id>/sqlRoleDefinitions/")
            assert account == "<account.id>"
            assigned.append((people[said["principalId"]], container, definition))
    assert sorted(assigned) == sorted(roles_of_the_table())


def actions_of_the_table() -> dict[tuple[str, str], set[str]]:
    """The data actions that each uses on each container, by the page's second table."""
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    section = text.partition("\n## Identities and roles\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (the program|the worker|an auditor) \| `([\w-]+)` \| (.*) \|$", section, flags=re.MULTILINE)
    who = {"the program": "PROGRAM", "the worker": "WORKER", "an auditor": "AUDITOR"}
    return {(who[person], container): set(code(cell)) for person, container, cell in rows}


def test_each_role_allows_the_data_actions_that_are_listed_for_it() -> None:
    actions = actions_of_the_table()
    granted = {(who, container): role for who, container, role in roles_of_the_table()}
    assert set(actions) == set(granted)
    for place, used in actions.items():
        assert used <= (READER_ACTIONS if granted[place] == READER else ACTIONS), place


@pytest.mark.parametrize(
    ("file", "who", "container"),
    [
        ("workflows", "PROGRAM", "checkpoints"),
        ("workflows", "PROGRAM", "checkpoints-sessions"),
        ("projector-events", "WORKER", "checkpoints"),
        ("projector-projections", "WORKER", "checkpoints-projections"),
        ("projector-leases", "WORKER", "checkpoints-leases"),
    ],
)
def test_the_role_files_hold_the_data_actions_that_are_listed(file: str, who: str, container: str) -> None:
    assert actions_of_the_file(file) == actions_of_the_table()[who, container]


def test_the_role_for_maintenance_is_the_programs_and_may_replace_and_delete() -> None:
    more = {"items/replace", "items/delete"}
    assert actions_of_the_file("maintenance") == actions_of_the_file("workflows") | more


def actions_of_the_file(name: str) -> set[str]:
    """What a file of docs/roles allows beside reading metadata, as the page writes it."""
    role = json.loads((DOCS / "roles" / f"{name}.json").read_text())
    prefix = "Microsoft.DocumentDB/databaseAccounts/"
    actions = {
        action.removeprefix(prefix) for permission in role["Permissions"] for action in permission["DataActions"]
    }
    assert "readMetadata" in actions
    return {action.removeprefix("sqlDatabases/containers/") for action in actions - {"readMetadata"}}


def test_no_wider_role_is_given_than_the_data_actions_ask_for() -> None:
    actions = actions_of_the_table()
    contributors = {(who, container) for who, container, role in roles_of_the_table() if role == CONTRIBUTOR}
    assert {place for place, used in actions.items() if used - READER_ACTIONS} == contributors


# Refusals

OTHER: Final = 999_999
"""A sub-status that has no meaning."""
_FIREWALL: Final = (
    "Request originated from IP 192.0.2.1 through public internet. This is blocked by your Cosmos DB account firewall "
    "settings. More info: https://aka.ms/cosmosdb-tsg-forbidden"
)


def refused(status: int, sub_status: str) -> CosmosHttpResponseError:
    """The SDK's error for a row of the table."""
    number, _, named = sub_status.partition(", ")
    error = CosmosHttpResponseError(status_code=status, message=_FIREWALL if named == "firewall" else "no")
    error.sub_status = OTHER if number == "any" else int(number)
    return error


@pytest.mark.parametrize(
    "row", table(PAGE, "Errors and retries"), ids=lambda row: f"{row[0]}/{row[1]}".replace(" ", "")
)
def test_what_a_status_means_is_what_the_page_says(row: list[str]) -> None:
    requests = pytest.importorskip("eventckpt.stores.cosmos.requests", reason="the table is not in this tree yet")
    status, sub_status, called, again, error, _ = (cell.strip() for cell in row)
    refusal = requests.refusal_of(refused(int(status), sub_status))
    said = (called, again == "yes", code(error)[0])
    assert said == (refusal.name, refusal.passes, refusal.error.__name__)


def test_the_page_has_every_status_that_the_code_knows() -> None:
    requests = pytest.importorskip("eventckpt.stores.cosmos.requests", reason="the table is not in this tree yet")
    rows = {(int(row[0]), row[1].strip()) for row in table(PAGE, "Errors and retries")}
    known = {(status, "any" if sub is None else str(sub)) for status, sub in requests.REFUSALS}
    assert known - rows <= {(404, "any")}, "404 without a sub-status is 404/0 on the page"
