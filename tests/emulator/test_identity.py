"""The test server with identities: TLS, tokens that end, roles by data action, and what no role allows."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from azure.core.exceptions import ServiceRequestError
from azure.cosmos import CosmosClient as SyncCosmosClient
from azure.cosmos.aio import CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from tests.cosmos_emulator import CosmosEmulator, Identity
from tests.cosmos_emulator.clock import Clock
from tests.cosmos_emulator.roles import (
    CONTRIBUTOR,
    CREATE,
    DELETE,
    EXECUTE_QUERY,
    MANAGE_CONFLICTS,
    MANAGEMENT,
    NEEDS,
    READ,
    READ_CHANGE_FEED,
    READ_METADATA,
    READER,
    REPLACE,
    UPSERT,
    Role,
    Scope,
)
from tests.emulator.sdk import checks_of_the_account

WHO = "7e1a6f0c-0000-4000-8000-000000000001"
PLACE = "/dbs/shop/colls/one"
DOCS = f"{PLACE}/docs"
GLOBAL = "https://cosmos.azure.com"


@pytest.fixture
def clock(sdk_clock: Clock) -> Clock:
    return sdk_clock


@pytest.fixture
def identity(clock: Clock) -> Identity:
    return Identity(clock=clock)


@pytest.fixture
async def emulator(identity: Identity) -> AsyncIterator[CosmosEmulator]:
    async with CosmosEmulator(identity=identity) as emulator:
        emulator.provision("shop", "one", "/pk")
        with emulator.trusted():
            yield emulator


@pytest.fixture
async def client(emulator: CosmosEmulator, identity: Identity) -> AsyncIterator[CosmosClient]:
    async with CosmosClient(emulator.endpoint, emulator.key) as owner:
        container = owner.get_database_client("shop").get_container_client("one")
        await container.create_item({"id": "1", "pk": "a"})
        identity.assign(WHO, CONTRIBUTOR)
        async with CosmosClient(emulator.endpoint, identity.async_credential(WHO)) as client:
            yield client


class Answer(NamedTuple):
    status: int
    substatus: int
    message: str


async def send(
    emulator: CosmosEmulator,
    method: str,
    path: str,
    authorization: str | bytes | None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
) -> Answer:
    """One request, by no SDK."""
    given: dict[str, Any] = dict(headers or {})
    if authorization is not None:
        text = authorization.decode("utf-8", "surrogateescape") if isinstance(authorization, bytes) else authorization
        given["authorization"] = text
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
    url = emulator.endpoint.rstrip("/") + path
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=given, data=data) as answer:
        text = await answer.text()
        message = json.loads(text).get("message", "") if answer.status >= 400 else text
        return Answer(answer.status, int(answer.headers.get("x-ms-substatus", 0)), message)


def signed(identity: Identity, *, who: str = WHO, audience: str = GLOBAL, lifetime: float = 3600, **more: Any) -> str:
    """The authorization header of a principal."""
    return f"type=aad&ver=1.0&sig={identity.directory.mint(who, audience, lifetime=lifetime, **more).token}"


# ---- TLS


async def test_a_client_that_does_not_trust_the_certificate_sends_no_token(identity: Identity) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    async with CosmosEmulator(identity=identity) as emulator:
        client = CosmosClient(emulator.endpoint, identity.async_credential(WHO), retry_total=0)
        try:
            with pytest.raises(ServiceRequestError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.__aenter__()
        finally:
            await client.close()
        assert emulator.requests == []


async def test_the_certificate_of_one_server_is_not_that_of_another(identity: Identity) -> None:
    async with CosmosEmulator(identity=identity) as one, CosmosEmulator(identity=Identity()) as other:
        with one.trusted():
            assert (await send(one, "GET", "/", None)).status == 401
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await send(other, "GET", "/", None)


async def test_a_sync_client_trusts_it_by_the_environment_and_is_served(
    emulator: CosmosEmulator, identity: Identity, client: CosmosClient
) -> None:
    def use() -> list[Any]:
        with SyncCosmosClient(emulator.endpoint, identity.credential(WHO)) as sync:
            container = sync.get_database_client("shop").get_container_client("one")
            container.create_item({"id": "2", "pk": "a"})
            return [row["id"] for row in container.query_items("SELECT * FROM c", partition_key="a")]

    assert await asyncio.to_thread(use) == ["1", "2"]


READS_ONE_ITEM = textwrap.dedent("""
    import asyncio, sys, time
    from azure.core.credentials import AccessToken
    from azure.cosmos.aio import CosmosClient

    class Given:
        async def get_token(self, *scopes, **_): return AccessToken(sys.argv[2], int(time.time()) + 3600)
        async def close(self): ...
        async def __aenter__(self): return self
        async def __aexit__(self, *_): ...

    async def main():
        async with CosmosClient(sys.argv[1], Given(), retry_total=0) as client:
            print((await client.get_database_client("shop").get_container_client("one").read_item("1", "a"))["id"])

    asyncio.run(main())
""")


async def test_another_process_trusts_it_by_ssl_cert_file_alone(
    emulator: CosmosEmulator, identity: Identity, client: CosmosClient, clock: Clock
) -> None:
    clock.now = time.time()  # the other process has its own
    token = identity.directory.mint(WHO, GLOBAL, lifetime=3600).token
    arguments = [sys.executable, "-c", READS_ONE_ITEM, emulator.endpoint, token]
    trusting = {name: value for name, value in os.environ.items() if name != "REQUESTS_CA_BUNDLE"}
    blind = {name: value for name, value in trusting.items() if name != "SSL_CERT_FILE"}

    def run(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(arguments, env=variables, capture_output=True, text=True, timeout=60, check=False)

    trusts, does_not = await asyncio.gather(asyncio.to_thread(run, trusting), asyncio.to_thread(run, blind))
    assert trusts.stdout.split() == ["1"], trusts.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in does_not.stderr


async def test_the_sdk_takes_no_path_of_an_authority(identity: Identity) -> None:
    """Should it come to take one, `tls.trusted` is not needed any more."""
    async with CosmosEmulator(identity=identity) as emulator:
        options = {"connection_verify": str(emulator.authority), "retry_total": 0}
        client = CosmosClient(emulator.endpoint, identity.async_credential(WHO), **options)
        try:
            with pytest.raises(ServiceRequestError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.__aenter__()
        finally:
            await client.close()


async def test_the_account_names_the_address_that_it_is_served_at(emulator: CosmosEmulator, identity: Identity) -> None:
    identity.assign(WHO, READER)
    answer = await send(emulator, "GET", "/", signed(identity))
    assert json.loads(answer.message)["writableLocations"][0]["databaseAccountEndpoint"] == emulator.endpoint


# ---- tokens


async def test_the_sdk_asks_for_a_token_of_the_account_and_keeps_it_until_it_ends(
    emulator: CosmosEmulator, identity: Identity, clock: Clock
) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    credential = identity.async_credential(WHO, lifetime=600)
    async with CosmosClient(emulator.endpoint, credential) as client:
        container = client.get_database_client("shop").get_container_client("one")
        await container.create_item({"id": "1", "pk": "a"})
        host = emulator.endpoint.removeprefix("https://").rpartition(":")[0].strip("[]")
        assert credential.inner.asked == [f"https://{host}/.default"]
        await checks_of_the_account()
        clock.now += 600
        await container.read_item("1", "a")
    assert len(credential.inner.asked) == 2
    assert {record.status for record in emulator.requests} <= {200, 201, 304}


async def test_a_token_that_has_ended_is_refused_with_both_times(
    emulator: CosmosEmulator, identity: Identity, clock: Clock
) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    header = signed(identity, lifetime=60)
    clock.now += 59
    assert (await send(emulator, "GET", PLACE, header)).status == 200
    clock.now += 1
    answer = await send(emulator, "GET", PLACE, header)
    assert (answer.status, answer.substatus) == (401, 0)
    assert answer.message == (
        "Request blocked by Auth emulator : Provided AAD token has been expired since [01/15/2027 08:01:00 AM (UTC)]. "
        "Current server time is [01/15/2027 08:01:00 AM (UTC)]. Please refresh the AAD token."
    )


async def test_a_token_from_the_future_is_refused(emulator: CosmosEmulator, identity: Identity, clock: Clock) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    header = signed(identity)
    clock.now -= 60
    assert (await send(emulator, "GET", PLACE, header)).status == 401


@pytest.mark.parametrize(
    ("audience", "accepted"),
    [
        ("https://{host}", True),
        (GLOBAL, True),
        ("https://{host}/", False),
        ("https://management.azure.com", False),
        ("http://{host}", False),
    ],
)
async def test_a_token_is_for_this_account_to_the_letter(
    emulator: CosmosEmulator, identity: Identity, audience: str, accepted: bool
) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    host = emulator.endpoint.removeprefix("https://").rpartition(":")[0].strip("[]")
    answer = await send(emulator, "GET", PLACE, signed(identity, audience=audience.format(host=host)))
    if accepted:
        assert answer.status == 200
    else:
        assert (answer.status, answer.substatus) == (401, 5008)
        assert f"is intended for [{audience.format(host=host)}]" in answer.message
        assert f"accepts tokens intended for [https://{host}, {GLOBAL}]" in answer.message


async def test_a_token_of_another_tenant_is_refused_by_name(emulator: CosmosEmulator, identity: Identity) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    answer = await send(emulator, "GET", PLACE, signed(identity, tenant="somewhere-else"))
    assert (answer.status, answer.substatus) == (401, 5007)
    assert "issued by the authority [somewhere-else] which is not trusted" in answer.message


async def test_a_revoked_token_is_refused_and_the_sdk_then_asks_for_another(
    emulator: CosmosEmulator, identity: Identity, client: CosmosClient
) -> None:
    container = client.get_database_client("shop").get_container_client("one")
    identity.revoke()
    with pytest.raises(CosmosHttpResponseError, match="has been revoked") as refused:
        await container.read_item("1", "a")
    assert (refused.value.status_code, refused.value.sub_status) == (401, 5013)
    assert (await container.read_item("1", "a"))["id"] == "1"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "type=aad",
        "type=aad&ver=1.0&sig=",
        "type=aad&ver=1.0&sig=a.b.c",
        "type=aad&ver=1.0&sig=..",
        "type=aad&ver=1.0&sig=%FF%FE.%00.%80",
        "type=aad&type=master&ver=1.0&sig=x",
        "Bearer eyJ0eXAiOiJKV1QifQ.e30.x",
        "type=resource&ver=1.0&sig=x",
        b"type=aad&ver=1.0&sig=\xff\xfe.\xff.\xff",
        b"type=master&ver=1.0&sig=\xff\xfe",
        b"\xff\xfe",
        "type=aad&ver=1.0&sig=" + "x" * 5000,
    ],
)
async def test_a_header_that_is_no_token_is_refused(
    emulator: CosmosEmulator, identity: Identity, header: str | bytes
) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    for path in ("/", PLACE, DOCS):
        assert (await send(emulator, "GET", path, header)).status == 401
    assert (await send(emulator, "GET", PLACE, None)).status == 401


async def test_a_token_whose_claims_were_changed_is_refused(emulator: CosmosEmulator, identity: Identity) -> None:
    identity.assign("somebody", CONTRIBUTOR)
    header, _, signature = signed(identity, who="nobody").rpartition(".")
    other = signed(identity, who="somebody").rpartition(".")[0]
    assert (await send(emulator, "GET", PLACE, f"{other}.{signature}")).status == 401
    assert (await send(emulator, "GET", PLACE, f"{header}.{signature}")).status == 403  # unchanged: nobody's


async def test_a_server_without_identities_refuses_tokens(identity: Identity) -> None:
    async with CosmosEmulator() as plain:
        plain.provision("shop", "one", "/pk")
        assert (await send(plain, "GET", PLACE, signed(identity))).status == 401


# ---- keys


async def test_keys_count_beside_identities_unless_they_are_switched_off(clock: Clock) -> None:
    for keys in (True, False):
        async with CosmosEmulator(identity=Identity(clock=clock, keys=keys)) as emulator:
            with emulator.trusted():
                client = CosmosClient(emulator.endpoint, emulator.key)
                try:
                    if keys:
                        await client.__aenter__()
                        continue
                    with pytest.raises(CosmosHttpResponseError, match="Local Authorization is disabled") as refused:
                        await client.__aenter__()
                    assert (refused.value.status_code, refused.value.sub_status) == (401, None)
                finally:
                    await client.close()


# ---- roles


class Case(NamedTuple):
    """A request and the data actions that it needs."""

    method: str
    path: str
    needs: tuple[str, ...]
    status: int = 200
    headers: Mapping[str, str] = {}
    body: Any = None


KEY = {"x-ms-documentdb-partitionkey": '["a"]'}
EVERYWHERE = {"x-ms-documentdb-query-enablecrosspartition": "true"}
QUERY = {"x-ms-documentdb-isquery": "true", "Content-Type": "application/query+json"}
TEXT = {"query": "SELECT * FROM c"}
ITEM = {"id": "1", "pk": "a"}
PATCH = {"operations": [{"op": "set", "path": "/n", "value": 1}]}
BATCH = {**KEY, "x-ms-cosmos-is-batch-request": "true", "x-ms-cosmos-batch-atomic": "true"}
ONE_OF_EACH = [
    {"operationType": "Create", "resourceBody": {"id": "2", "pk": "a"}},
    {"operationType": "Upsert", "resourceBody": {"id": "3", "pk": "a"}},
    {"operationType": "Read", "id": "1"},
    {"operationType": "Replace", "id": "1", "resourceBody": ITEM},
    {"operationType": "Delete", "id": "1"},
]
FEED = {"A-IM": "Incremental feed", "x-ms-documentdb-partitionkeyrangeid": "0"}
PLAN = {"x-ms-cosmos-is-query-plan-request": "True", "x-ms-cosmos-supported-query-features": "Aggregate"}

CASES: dict[str, Case] = {
    "account": Case("GET", "/", (READ_METADATA,)),
    "list_databases": Case("GET", "/dbs", (READ_METADATA,)),
    "query_databases": Case("POST", "/dbs", (READ_METADATA,), headers=QUERY, body=TEXT),
    "read_database": Case("GET", "/dbs/shop", (READ_METADATA,)),
    "list_containers": Case("GET", "/dbs/shop/colls", (READ_METADATA,)),
    "query_containers": Case("POST", "/dbs/shop/colls", (READ_METADATA,), headers=QUERY, body=TEXT),
    "read_container": Case("GET", PLACE, (READ_METADATA,)),
    "read_ranges": Case("GET", f"{PLACE}/pkranges", (READ_METADATA,)),
    "create_item": Case("POST", DOCS, (CREATE,), 201, KEY, {"id": "2", "pk": "a"}),
    "upsert_item": Case("POST", DOCS, (UPSERT,), 200, {**KEY, "x-ms-documentdb-is-upsert": "true"}, ITEM),
    "read_item": Case("GET", f"{DOCS}/1", (READ,), headers=KEY),
    "replace_item": Case("PUT", f"{DOCS}/1", (REPLACE,), headers=KEY, body=ITEM),
    "patch_item": Case("PATCH", f"{DOCS}/1", (READ, REPLACE), headers=KEY, body=PATCH),
    "delete_item": Case("DELETE", f"{DOCS}/1", (DELETE,), 204, KEY),
    "delete_items_of_key": Case("POST", f"{PLACE}/operations/partitionkeydelete", (DELETE,), 200, KEY),
    "query": Case("POST", DOCS, (EXECUTE_QUERY, READ_CHANGE_FEED), headers={**QUERY, **KEY}, body=TEXT),
    "query_plan": Case("POST", DOCS, (EXECUTE_QUERY, READ_CHANGE_FEED), headers={**QUERY, **PLAN}, body=TEXT),
    "list_items": Case("GET", DOCS, (EXECUTE_QUERY, READ_CHANGE_FEED)),
    "change_feed": Case("GET", DOCS, (READ_CHANGE_FEED,), headers=FEED),
    "list_conflicts": Case("GET", f"{PLACE}/conflicts", (MANAGE_CONFLICTS,)),
    "query_conflicts": Case("POST", f"{PLACE}/conflicts", (MANAGE_CONFLICTS,), headers=QUERY | EVERYWHERE, body=TEXT),
    "read_conflict": Case("GET", f"{PLACE}/conflicts/x", (MANAGE_CONFLICTS,), 404),
    "delete_conflict": Case("DELETE", f"{PLACE}/conflicts/x", (MANAGE_CONFLICTS,), 404),
    "batch": Case("POST", DOCS, (CREATE, UPSERT, READ, REPLACE, DELETE), 200, BATCH, ONE_OF_EACH),
}
MANAGING: dict[str, Case] = {
    "create_database": Case("POST", "/dbs", (), body={"id": "new"}),
    "delete_database": Case("DELETE", "/dbs/shop", ()),
    "create_container": Case("POST", "/dbs/shop/colls", (), body={"id": "new", "partitionKey": {"paths": ["/pk"]}}),
    "replace_container": Case("PUT", PLACE, (), body={"id": "one", "partitionKey": {"paths": ["/pk"]}}),
    "delete_container": Case("DELETE", PLACE, ()),
    "list_offers": Case("GET", "/offers", ()),
    "query_offers": Case("POST", "/offers", (), headers=QUERY, body=TEXT),
    "read_offer": Case("GET", "/offers/x", ()),
    "replace_offer": Case("PUT", "/offers/x", (), body={}),
}
WHOLE_ACCOUNT = {"list_databases", "query_databases"}
WHOLE_DATABASE = {"read_database", "list_containers", "query_containers"}


async def ask(emulator: CosmosEmulator, identity: Identity, case: Case) -> Answer:
    answer = await send(emulator, case.method, case.path, signed(identity), case.headers, case.body)
    assert answer.status != 500, answer
    return answer


async def one_item(emulator: CosmosEmulator) -> None:
    async with CosmosClient(emulator.endpoint, emulator.key) as owner:
        await owner.get_database_client("shop").get_container_client("one").create_item(dict(ITEM))
    emulator.reset()


def test_every_kind_of_request_has_a_case() -> None:
    assert set(CASES) == {*NEEDS, "batch"}
    assert set(MANAGING) == MANAGEMENT


@pytest.mark.parametrize("kind", CASES)
async def test_a_request_needs_its_data_actions_and_no_other(
    emulator: CosmosEmulator, identity: Identity, kind: str
) -> None:
    await one_item(emulator)
    case = CASES[kind]
    role = Role.of("just this", *case.needs)
    for missing in case.needs:
        identity.assign(WHO, role.without(missing))
        answer = await ask(emulator, identity, case)
        assert (answer.status, answer.substatus) == (403, 5301)
        where = "any scope" if kind == "account" else f"resource [{_resource(case)}]"
        assert answer.message == (
            f"Request blocked by Auth emulator : Request is blocked because principal [{WHO}] does not have required "
            f"RBAC permissions to perform action [{missing}] on {where}. Learn more: "
            "https://aka.ms/cosmos-native-rbac."
        )
        identity.unassign(WHO)
    identity.assign(WHO, role)
    assert (await ask(emulator, identity, case)).status == case.status
    assert {record.kind for record in emulator.requests} == {kind}
    assert {use.action for use in identity.used} == set(case.needs)


def _resource(case: Case) -> str:
    if case.path == "/dbs":
        return "/"
    return "/".join(case.path.strip("/").split("/")[: 2 if "/colls/" not in case.path else 4])


@pytest.mark.parametrize("kind", MANAGING)
async def test_no_role_allows_what_is_the_management_planes(
    emulator: CosmosEmulator, identity: Identity, kind: str
) -> None:
    identity.assign(WHO, CONTRIBUTOR)
    case = MANAGING[kind]
    answer = await ask(emulator, identity, case)
    assert (answer.status, answer.substatus) == (403, 5300)
    assert answer.message == (
        f"Request blocked by Auth emulator : The given request [{case.method} {case.path}] cannot be authorized by AAD "
        "token in data plane. Learn more: https://aka.ms/cosmos-native-rbac."
    )
    assert [record.kind for record in emulator.requests] == [kind]
    assert emulator.ranges("shop", "one") == ["0"]  # nothing was done


@pytest.mark.parametrize("kind", CASES)
async def test_the_reader_reads_and_the_contributor_does_everything_else(
    emulator: CosmosEmulator, identity: Identity, kind: str
) -> None:
    await one_item(emulator)
    case = CASES[kind]
    for role, allowed in ((READER, set(case.needs) <= READER.actions), (CONTRIBUTOR, True)):
        identity.unassign(WHO)
        identity.assign(WHO, role)
        assert (await ask(emulator, identity, case)).status == (case.status if allowed else 403)


@pytest.mark.parametrize("kind", CASES)
async def test_a_role_holds_where_it_was_assigned_and_below(
    emulator: CosmosEmulator, identity: Identity, kind: str
) -> None:
    await one_item(emulator)
    emulator.provision("shop", "two", "/pk")
    case = CASES[kind]
    for scope in ("/dbs/elsewhere", "/dbs/shop/colls/two", "/dbs/elsewhere/colls/one"):
        identity.unassign(WHO)
        identity.assign(WHO, CONTRIBUTOR, scope)
        # Of the account's own settings everybody learns who may learn of something in it.
        assert (await ask(emulator, identity, case)).status == (200 if kind == "account" else 403)
    below = {PLACE, "/dbs/shop", "/"}
    if kind in WHOLE_DATABASE:
        below = {"/dbs/shop", "/"}
    elif kind in WHOLE_ACCOUNT:
        below = {"/"}
    for scope in {PLACE, "/dbs/shop", "/"} - below:
        identity.unassign(WHO)
        identity.assign(WHO, CONTRIBUTOR, scope)
        assert (await ask(emulator, identity, case)).status == 403
    identity.unassign(WHO)
    identity.assign(WHO, CONTRIBUTOR, sorted(below)[-1])
    assert (await ask(emulator, identity, case)).status == case.status


async def test_roles_of_one_principal_add_up(emulator: CosmosEmulator, identity: Identity) -> None:
    identity.assign(WHO, READER, "/dbs/shop")
    identity.assign(WHO, Role.of("writes", CREATE), PLACE)
    identity.assign("somebody else", CONTRIBUTOR)
    for kind, status in (("create_item", 201), ("query", 200), ("replace_item", 403)):
        assert (await ask(emulator, identity, CASES[kind])).status == status


async def test_a_container_is_the_same_by_its_name_and_by_its_rid(emulator: CosmosEmulator, identity: Identity) -> None:
    await one_item(emulator)
    container = emulator.container("shop", "one")
    link = "/" + container.document["_self"].rstrip("/")
    identity.assign(WHO, READER, PLACE)
    case = CASES["read_item"]
    assert (await ask(emulator, identity, case._replace(path=f"{link}/docs/1"))).status == 200
    identity.unassign(WHO)
    answer = await ask(emulator, identity, case._replace(path=f"{link}/docs/1"))
    assert "on resource [dbs/shop/colls/one]" in answer.message


async def test_whoever_has_the_right_hears_that_something_is_missing_and_nobody_else(
    emulator: CosmosEmulator, identity: Identity
) -> None:
    case = CASES["read_container"]._replace(path="/dbs/shop/colls/nowhere")
    assert (await ask(emulator, identity, case)).status == 403
    identity.assign(WHO, READER, "/dbs/shop/colls/nowhere")
    assert (await ask(emulator, identity, case)).status == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b"[null]", b"[[]]", b'[{"operationType":{}}]', b'[{"operationType":"X"}]', b'{"a":1}'],
)
async def test_a_batch_that_is_none_is_refused_whatever_the_role(
    emulator: CosmosEmulator, identity: Identity, body: bytes
) -> None:
    for role, statuses in ((CONTRIBUTOR, {200, 207, 400}), (READER, {400, 403})):
        identity.unassign(WHO)
        identity.assign(WHO, role)
        assert (await ask(emulator, identity, CASES["batch"]._replace(body=body))).status in statuses


def test_wildcards_give_one_level_and_no_action_is_made_up() -> None:
    containers = "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers"
    assert Role.of("x", f"{containers}/*").allows(READ_CHANGE_FEED)
    assert not Role.of("x", f"{containers}/*").allows(READ)
    assert Role.of("x", f"{containers}/items/*").allows(READ)
    assert not Role.of("x", f"{containers}/items/*").allows(EXECUTE_QUERY)
    for action in (f"{containers}/write", "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/*", "*", ""):
        with pytest.raises(ValueError, match="does not correspond to any valid SQL data action"):
            Role.of("x", action)


@pytest.mark.parametrize("path", ["", "dbs/shop", "/dbs", "/dbs/", "/dbs/shop/", "/dbs/shop/colls", "/colls/one"])
def test_a_scope_is_of_three_kinds(path: str) -> None:
    with pytest.raises(ValueError, match="A scope is"):
        Scope.of(path)


def test_the_folder_of_the_certificate_goes_with_the_server(identity: Identity) -> None:
    async def run() -> Path:
        async with CosmosEmulator(identity=identity) as emulator:
            assert emulator.authority.exists()
            return emulator.authority

    assert not asyncio.run(run()).parent.exists()
