"""The emulator as an HTTP server: reads requests, applies faults, checks signatures, answers, and keeps the books."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .account import Account
from .auth import EMULATOR_KEY, check_date, check_key, check_signature
from .budgets import Budgets
from .charges import REFUSALS, REFUSED, THROTTLED, Charges, Prices
from .consistency import costs_twice, level_of
from .errors import CosmosError, bad_request
from .faults import Action, Delay, Drop, Faults, Respond
from .identity import Identity
from .operations import Operations, Reply
from .replicas import READS
from .routes import Call
from .sessions import reads_without_session
from .statuses import NAMED_FAULTS
from .storage import Container
from .switches import Switches
from .tls import Certificate, host, trusted

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_BROKEN_BODIES = (HttpProcessingError, web.RequestPayloadError)
"""What the body of a request may end in: chunks or compression that are not what they say."""
_ACTIVITY = re.compile(r"[0-9a-fA-F-]{32,36}")
_ITEM_KINDS = frozenset(
    {"create_item", "upsert_item", "read_item", "replace_item", "patch_item", "delete_item", "batch"}
)
"""Requests for single items, which cost something even where they are refused."""
_DATA_KINDS = _ITEM_KINDS | {"query", "list_items", "change_feed", "delete_items_of_key"}


_running: WeakValueDictionary[str, CosmosEmulator] = WeakValueDictionary()


@dataclass(frozen=True)
class RequestRecord:
    """One answered (or dropped) request."""

    kind: str
    method: str
    path: str
    status: int
    """0 where the connection was closed without an answer."""
    substatus: int
    charge: float
    request_bytes: int
    response_bytes: int
    headers: Mapping[str, str]
    """What the client sent."""

    @property
    def is_read(self) -> bool:
        """Whether it reads items or the feed, so that a replica may answer it."""
        return self.kind in READS

    @property
    def session_token(self) -> str | None:
        """The session token that the client sent."""
        return self.headers.get("x-ms-session-token")

    @property
    def container_path(self) -> str:
        """`dbs/…/colls/…` of the container that it went to."""
        return "/".join(self.path.split("/")[1:5])


class CosmosEmulator:
    """An Azure Cosmos DB for NoSQL account on localhost, in memory.

    `partitions` is the number of physical partitions that new containers begin with, for all or by container id.
    `clock` gives the time of writes and of expiry, in seconds; `monotonic` that of replicas that lag, of resources
    that appear late and of budgets. `switches` say which rules it keeps and what goes wrong with it; without, the
    environment does. With an `identity` it serves tokens beside the key, over TLS: `authority` is then the file with
    what a client has to trust, and `trusted()` has it trusted.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        key: str = EMULATOR_KEY,
        partitions: int | Mapping[str, int] = 1,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        switches: Switches | None = None,
        identity: Identity | None = None,
    ) -> None:
        check_key(key)
        if any(count < 1 for count in ([partitions] if isinstance(partitions, int) else partitions.values())):
            raise ValueError(f"A container begins with one physical partition or more, not {partitions!r}.")
        self.key = key
        self.switches = Switches.from_environment() if switches is None else switches
        self.charges = Charges()
        self.requests: list[RequestRecord] = []
        """Since the last `reset`, without bound: tests read all of them. A server that lives long wants a `reset`."""
        self.faults = Faults()
        self.identity = identity
        self.failures: list[Exception] = []
        """What no request should have caused; `stop` raises it."""
        self._certificate: Certificate | None = None
        self._host = "127.0.0.1" if identity is None else host()
        self._port = port
        self._account = Account(partitions, clock, self.switches, monotonic)
        self._account.prices = Prices(self.switches.charges, self.switches.regions)
        self._budgets = Budgets(self.switches.throttling, serverless=self.switches.serverless, clock=monotonic)
        self._account.serverless = self.switches.serverless
        self._operations = Operations(self._account, lambda: self.endpoint, self.switches, self._budgets)
        self._runner: web.AppRunner | None = None

    # ---- life

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/_emulator/{verb}", self._guarded(self._admin))
        app.router.add_route("*", r"/{path:[\s\S]*}", self._guarded(self._handle))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, auto_decompress=False)
        await self._runner.setup()
        self._certificate = None if self.identity is None else Certificate(self._host)
        context = None if self._certificate is None else self._certificate.context
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=context)
        await site.start()
        self._port = self._runner.addresses[0][1]
        _running[self.endpoint] = self

    async def stop(self) -> None:
        if _running.get(self.endpoint) is self:
            del _running[self.endpoint]
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._certificate is not None:
            self._certificate.close()
            self._certificate = None
        if self.failures:
            failures, self.failures = self.failures, []
            raise ExceptionGroup("The emulator could not answer some requests", failures)

    async def __aenter__(self) -> CosmosEmulator:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    @property
    def endpoint(self) -> str:
        if self.identity is None:
            return f"http://{self._host}:{self._port}/"
        return f"https://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}/"

    @property
    def authority(self) -> Path:
        """The file with the certificate that a client has to trust."""
        if self._certificate is None:
            raise RuntimeError("The server was given no identity, or does not run: there is no certificate.")
        return self._certificate.authority

    def trusted(self) -> AbstractContextManager[None]:
        """A block within which clients trust this server's certificate, and no other."""
        return trusted(self.authority, self._host)

    # ---- what tests reach for

    def container(self, database: str, container: str) -> Container:
        """A container's partitions and items, for a look behind the protocol."""
        return self._account.container(self._account.database(database), container)

    def provision(self, database: str, container: str, partition_key: str, **settings: Any) -> Container:
        """Makes a container, and its database, as the management plane does: by nobody's key or token."""
        if database not in self._account.databases:
            self._account.create_database({"id": database}, {})
        key = {"paths": [partition_key], "kind": "Hash", "version": 2}
        body = {"id": container, "partitionKey": key, **settings}
        return self._account.create_container(self._account.database(database), body, {})

    def ranges(self, database: str, container: str) -> list[str]:
        """The ids of a container's physical partitions, in key order."""
        return [partition.id for partition in self.container(database, container).partitions]

    def split(self, database: str, container: str, range_id: str = "0", *, at: str | None = None) -> list[str]:
        """Splits a physical partition, in the middle or at an effective key; the ids of the two children."""
        return [partition.id for partition in self.container(database, container).split(range_id, at)]

    def merge(self, database: str, container: str, first: str, second: str) -> str:
        """Merges two neighbouring physical partitions; the id of the result.

        No Python SDK lives to see this on the service: once partition merge is enabled on an account, "requests from
        other SDKs (…, any Python SDK, …) will be blocked and fail" ("Merge partitions (preview)", 5 December 2025),
        whether or not anything is merged. `faults.respond(name="merge_enabled")` is that account. What a reader does
        after a merge can be tried here all the same.
        """
        return self.container(database, container).merge(first, second).id

    @staticmethod
    def at(endpoint: str) -> CosmosEmulator | None:
        """The emulator of this process that serves at an endpoint."""
        return _running.get(endpoint)

    def catch_up(self) -> None:
        """A moment goes by: every replica has heard of what was written so far."""
        for database in self._account.databases.values():
            for container in database.containers.values():
                for partition in container.partitions:
                    if partition.history is not None:
                        partition.history.forget()

    def reads_without_session(self) -> list[RequestRecord]:
        """Reads since the last `reset` that came after a write to the same container and brought no session token of
        that container, so that a replica which lags may answer them. Whose write it was is not asked."""
        return reads_without_session(self.requests)

    def reset(self) -> None:
        """Forgets the charges and the requests so far; data and faults stay."""
        self.charges.reset()
        self.requests.clear()

    # ---- requests

    def _guarded(self, handler: Handler) -> Handler:
        """The handler, whose defects are answered as the service answers its own, and kept for `stop` to raise."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as refusal:
                error = CosmosError(refusal.status, refusal.reason)
            except Exception as failure:
                self.failures.append(failure)
                error = NAMED_FAULTS["internal_error"].error()
            return self._respond(_call(request, b""), _refusal(error, 0.0))

        return handle

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            call = _call(request, await request.read())
        except (web.HTTPRequestEntityTooLarge, *_BROKEN_BODIES) as error:
            return self._respond(_call(request, b""), _refusal(_unreadable(error), 0.0))
        except ConnectionResetError:  # the client left in the middle of the body: nobody is there to be answered
            self._record(_call(request, b""), Reply(0, charge=0.0))
            return web.Response(status=400)
        actions = self.faults.actions(call)
        for action in (action for action in actions if not action.applied):
            if (response := await self._suffer(request, call, action, 0.0)) is not None:
                return response
        reply = self._answer(call)
        for action in (action for action in actions if action.applied):
            if (response := await self._suffer(request, call, action, reply.charge)) is not None:
                return response
        return self._respond(call, reply)

    def _answer(self, call: Call) -> Reply:
        if call.kind == "account" and self.switches.clients_wait:
            self.catch_up()
        try:
            call.check(refusals=self.switches.refusals)
            self._authorize(call)
            if call.kind in _DATA_KINDS:
                level = level_of(call.headers.get("x-ms-consistency-level"), self.switches.consistency)
                call.strong = costs_twice(level)
            self._budgets.begin(call.kind)
            reply = self._operations.perform(call)
        except CosmosError as error:
            reply = _refusal(error, _price(call, error))
        except RecursionError:
            reply = _refusal(bad_request("The request is nested too deeply."), 0.0)
        if not self.switches.charges:
            reply.charge = 0.0
        self._budgets.spend(reply.charge)
        return reply

    def _authorize(self, call: Call) -> None:
        """By a token, on a server with identities; else by the account's key."""
        if self.identity is not None and self.identity.authorize(call, self._account, self.endpoint):
            return
        check_signature(
            self.key,
            call.headers.get("authorization"),
            method=call.method,
            resource_type=call.resource_type,
            resource_ids=call.resource_ids,
            date=call.headers.get("x-ms-date", ""),
        )
        check_date(call.headers.get("x-ms-date", ""), time.time())

    async def _suffer(
        self, request: web.Request, call: Call, action: Action, charge: float
    ) -> web.StreamResponse | None:
        """Carries out one fault; a response where it ends the request. Work already done is charged all the same."""
        match action:
            case Delay():
                await action.wait()
                return None
            case Drop():
                self._record(call, Reply(0, charge=charge))
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=500)  # never sent: the connection is gone
            case Respond():
                error = CosmosError(action.status, action.message, substatus=action.substatus, headers=action.headers)
                if action.names_container:
                    error.headers["x-ms-alt-content-path"] = "/".join(call.path.strip("/").split("/")[:4])
                return self._respond(call, _refusal(error, charge))

    def _respond(self, call: Call, reply: Reply) -> web.Response:
        self._record(call, reply)
        headers = {
            "x-ms-request-charge": f"{round(reply.charge, 2):g}",
            "x-ms-activity-id": _activity(call.headers.get("x-ms-activity-id")),
            "x-ms-serviceversion": "version=emulator",
            "x-ms-gatewayversion": "version=emulator",
            **reply.headers,
        }
        if reply.body:
            headers["Content-Type"] = "application/json"
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    def _record(self, call: Call, reply: Reply) -> None:
        charge = round(reply.charge, 2)
        self.charges.add(call.kind, charge)
        substatus = int(reply.headers.get("x-ms-substatus", 0))
        sizes = len(call.body), len(reply.body)
        record = RequestRecord(
            call.kind, call.method, call.path, reply.status, substatus, charge, *sizes, dict(call.headers)
        )
        self.requests.append(record)

    # ---- the admin route

    async def _admin(self, request: web.Request) -> web.Response:
        """`/_emulator/split`, `merge`, `ranges`, `charges`, `reset`: for a client in another process."""
        query, verb = request.query, request.match_info["verb"]
        try:
            if verb == "charges":
                return web.json_response({"total": self.charges.total, "by_kind": dict(self.charges.by_kind)})
            if verb == "reset":
                self.reset()
                return web.json_response({})
            place = query["database"], query["container"]
            if verb == "merge" and query["ranges"].count(",") != 1:
                raise bad_request("A merge takes two ranges.")
            if verb == "split":
                self.split(*place, query["range"], at=query.get("at"))
            elif verb == "merge":
                self.merge(*place, *query["ranges"].split(","))
            elif verb != "ranges":
                raise bad_request(f"The emulator has no command {verb!r}.")
            return web.json_response({"ranges": self.ranges(*place)})
        except KeyError as missing:
            return web.json_response({"message": f"The parameter {missing} is missing."}, status=400)
        except CosmosError as error:
            return web.json_response({"message": error.message}, status=error.status)


def _call(request: web.Request, body: bytes) -> Call:
    return Call(request.method, request.raw_path.partition("?")[0], request.headers, body)


def _unreadable(error: Exception) -> CosmosError:
    return (NAMED_FAULTS["too_large"] if isinstance(error, web.HTTPException) else NAMED_FAULTS["malformed"]).error()


def _activity(given: str | None) -> str:
    """The client's id of the request where it is one; else a new one."""
    return given if given and _ACTIVITY.fullmatch(given) else str(uuid.uuid4())


def _price(call: Call, error: CosmosError) -> float:
    if error.status == 429:
        return THROTTLED
    return REFUSED if call.kind in _ITEM_KINDS and error.status in REFUSALS else 0.0


def _refusal(error: CosmosError, charge: float) -> Reply:
    body = json.dumps({"code": error.code, "message": error.message, **error.details}).encode()
    headers = {**error.headers, "x-ms-substatus": str(error.substatus)} if error.substatus else dict(error.headers)
    return Reply(error.status, body, charge, headers)


async def serve(emulator: CosmosEmulator, stopped: asyncio.Event) -> None:
    """Runs until the event is set."""
    async with emulator:
        print(emulator.endpoint, flush=True)
        await stopped.wait()
