"""The one place where requests are sent again, and where what the service refuses becomes an error of ours.

Every request may be sent again: it reads, or it writes under an id that the content decides, or under a condition that
a repetition no longer meets. What a status means depends on its sub-status: 404 alone can say that an item is not
there, that its container is not, that a replica has not caught up, or that a container is still being made. The table
`REFUSALS` says for each what it is called, whether it passes, and what to tell the user; docs/cosmos.md has the same
table for people.

An operation of a port may send several requests: all of them together have so many seconds, and go a few at a time.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar, cast

import aiohttp
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError

from ...errors import (
    CheckpointStoreError,
    StoreFullError,
    StoreMissingError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from ...log import logger_of
from ...text import may_hold_a_key, safe
from ..change_feed import FeedRangeGoneError

__all__ = [
    "AT_ONCE",
    "MISSING_OWNER",
    "PATIENCE",
    "REFUSALS",
    "SESSION_AHEAD",
    "Answer",
    "Refusal",
    "ask",
    "each_by_itself",
    "hear",
    "is_late",
    "is_missing_item",
    "is_missing_owner",
    "is_session_ahead",
    "is_taken",
    "operation",
    "refusal_of",
    "said_by",
    "says_404",
    "translated",
]

logger: Final = logger_of("eventckpt")

_T = TypeVar("_T")

PATIENCE: Final = 30.0
"""Seconds that an operation has where a store says nothing else, the SDK's own attempts among them, which for some
refusals go on for minutes. Then the caller hears of it: a workflow should learn soon that its checkpoints are not being
saved."""
AT_ONCE: Final = 8
"""Requests that one operation sends side by side, however its steps are nested."""
TOKEN_PATIENCE = 3.0
"""Seconds for which a credential that gave no token is asked again: it may be a fault of the way to it, but mostly it
is a setting, which a person is waiting to hear of."""
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0

_LONGEST_WORDS: Final = 300  # characters of the service's own text in an error
_MISUNDERSTANDINGS: Final = 3
"""How often an answer may make no sense before the caller hears of it: a proxy on the way may give one once."""
_SENSELESS: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the SDK raises where an answer has another form than it expects; so do we."""
_CUT_OFF: Final = (OSError, EOFError, aiohttp.ClientError)
"""What comes from the way to the service past the SDK, which makes errors of its own of most of it."""
_OURS: Final = (AssertionError, CheckpointStoreError, FeedRangeGoneError)
"""What is raised in a request that means what it says."""

_MISSING_ITEM: Final = 0
_SESSION_NOT_AVAILABLE: Final = 1002
_OWNER_NOT_FOUND: Final = 1003


class Answer(Exception):  # noqa: N818 - no error to who asked for it
    """The service answered with a status that the caller of `ask` understands, and raises it no further."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Refusal(NamedTuple):
    """What one answer of the service means."""

    name: str
    """What the service calls it."""
    passes: bool
    """Whether the same request may succeed a little later."""
    error: type[CheckpointStoreError]
    advice: str


_ROLE: Final = (
    "It needs the role 'Cosmos DB Built-in Data Contributor', or one that may read, query, write and delete items as "
    "docs/cosmos.md lists it: az cosmosdb sql role assignment create --resource-group … --account-name … --scope / "
    "--principal-id … --role-definition-id 00000000-0000-0000-0000-000000000002"
)
_SIGN_IN: Final = (
    "A key must be the account's own, and keys may be switched off there. An identity must be of the account's tenant "
    "and signed in; no role helps here."
)
_AGAIN: Final = "Trying again is safe."
_THROUGHPUT: Final = f"{_AGAIN} Raise the throughput of the container, or send less at a time."
_HEALTH: Final = f"{_AGAIN} See the service's health if it stays so."


def _passing(name: str, advice: str = _HEALTH) -> Refusal:
    return Refusal(name, True, StoreUnavailableError, advice)


REFUSALS: Final[Mapping[tuple[int, int | None], Refusal]] = {
    (400, None): Refusal("bad request", False, CheckpointStoreError, ""),
    (401, None): Refusal("unauthorized", False, StoreReadOnlyError, _SIGN_IN),
    (403, None): Refusal("forbidden", False, StoreReadOnlyError, _ROLE),
    (403, 3): _passing("write forbidden", f"{_AGAIN} Another region is becoming the one that writes."),
    (403, 1008): _passing("database account not found", f"{_AGAIN} A region of the account is being added or removed."),
    (403, 1014): Refusal(
        "logical partition full",
        False,
        StoreFullError,
        "A run is one logical partition, and those hold 20 GB. Go on in a new run: `eventckpt fork` begins one at any "
        "checkpoint. A run that is pruned before it is full stays small; one that is full takes no record of it.",
    ),
    (403, 5300): Refusal(
        "an identity cannot create",
        False,
        StoreReadOnlyError,
        "Identities read and write items, whatever their role; databases and containers are made with an account key, "
        "or with az, Bicep or the portal.",
    ),
    (403, 5301): Refusal("role missing", False, StoreReadOnlyError, _ROLE),
    (404, None): _passing("not found", f"{_AGAIN} A replica may not have heard of it yet."),
    (404, _SESSION_NOT_AVAILABLE): _passing(
        "read session not available",
        "No replica has come as far as what this store has seen, and it was not asked to answer from before that. "
        f"Nothing that was acknowledged is lost. {_AGAIN} If it stays so, a failover may have lost the newest writes: "
        "make a new store.",
    ),
    (404, _OWNER_NOT_FOUND): Refusal("owner not found", False, StoreMissingError, "The container does not exist."),
    (404, 1013): _passing("container is being created"),
    (408, None): _passing("request timeout"),
    (410, None): _passing("gone"),
    (410, 1000): _passing("name cache is stale"),
    (410, 1002): _passing("partition key range gone"),
    (410, 1007): _passing("partition is being split"),
    (410, 1008): _passing("partition is being migrated"),
    (413, None): Refusal(
        "too large", False, CheckpointStoreError, "An item has at most 2 MB: the header alone exceeds it."
    ),
    (429, None): _passing("too many requests", _THROUGHPUT),
    (429, 3200): _passing("too many request units", _THROUGHPUT),
    (429, 3201): _passing(
        "too many metadata requests",
        f"{_AGAIN} An account answers few requests about databases and containers: keep one storage for many runs, "
        "rather than making one for each.",
    ),
    (429, 3212): _passing(
        "throughput bucket exceeded",
        f"{_AGAIN} The bucket that this store was given has a share of the container's throughput: raise that share.",
    ),
    (449, None): _passing("retry with"),
    (500, None): _passing("internal error"),
    (502, None): _passing("bad gateway"),
    (503, None): _passing("service unavailable"),
    (504, None): _passing("gateway timeout"),
}
"""By status and sub-status; None: any other sub-status. Sources: "HTTP status codes for Azure Cosmos DB", and the pages
of the service's troubleshooting guide for each status; not verified on an account."""

MISSING_OWNER: Final = REFUSALS[404, _OWNER_NOT_FOUND]
"""There is no such container, or database."""
SESSION_AHEAD: Final = REFUSALS[404, _SESSION_NOT_AVAILABLE]
"""No replica has come as far as the read's session token."""
_OTHER: Final = Refusal("refused", False, CheckpointStoreError, "")
_NO_ANSWER: Final = _passing("no answer", f"{_AGAIN} Check the endpoint and the network if it stays so.")
_NO_TOKEN: Final = Refusal("no token", True, StoreReadOnlyError, "The credential gives no token: sign in, or check it.")
_FIREWALL: Final = Refusal(
    "firewall",
    False,
    StoreReadOnlyError,
    "The account's firewall does not let this address in: add it, or use the private endpoint.",
)


def refusal_of(error: AzureError) -> Refusal:
    """What an error of the SDK means. There is an answer for each."""
    status = _status_of(error)
    if status is None:
        return _NO_TOKEN if isinstance(error, ClientAuthenticationError) else _NO_ANSWER
    if status == 403 and not _sub_status_of(error) and "firewall" in str(error.message).lower():
        return _FIREWALL
    return _row(status, _sub_status_of(error))


def _row(status: int, sub_status: int) -> Refusal:
    return REFUSALS.get((status, sub_status)) or REFUSALS.get((status, None)) or _OTHER


def is_missing_item(error: Exception) -> bool:
    """Whether the service says that it has no such item, and nothing else.

    This and the next ones take errors of the SDK, and ours by what they were translated from.
    """
    return _said(error) == (404, _MISSING_ITEM)


def is_missing_owner(error: Exception) -> bool:
    """Whether the service says that it has no such container, or database."""
    return _said(error) == (404, _OWNER_NOT_FOUND)


def is_session_ahead(error: Exception) -> bool:
    """Whether no replica has come as far as the read's session token."""
    return _said(error) == (404, _SESSION_NOT_AVAILABLE)


def says_404(error: Exception) -> bool:
    """Whether the service said so, whatever it added: of a database or a container that is missing it says several
    things."""
    return _said(error)[0] == 404


def is_late(refusal: Refusal) -> bool:
    """Whether it may pass where a container was just made, or its database: it takes a moment to be known."""
    return refusal is MISSING_OWNER or refusal.passes


async def is_taken(creation: Awaitable[object]) -> bool:
    """Send what creates an item; whether its id was taken. Any other refusal is for `ask`, which this is a part of."""
    try:
        await creation
    except CosmosResourceExistsError:
        return True
    return False


def _said(error: BaseException) -> tuple[int | None, int]:
    """The status and the sub-status that an error is about."""
    cause = error if isinstance(error, AzureError) else error.__cause__
    return (_status_of(cause), _sub_status_of(cause)) if isinstance(cause, AzureError) else (None, 0)


def _status_of(error: AzureError) -> int | None:
    """The status that the service answered with; None where it did not answer."""
    return (error.status_code or None) if isinstance(error, CosmosHttpResponseError) else None


def _sub_status_of(error: AzureError) -> int:
    """What the service adds to the status; 0 where it adds nothing."""
    return int(getattr(error, "sub_status", None) or 0)


class _Heard:
    """The last answer to a request that was no success; the SDK repeats some for minutes before it tells."""

    status = 0
    sub_status = 0


_heard: ContextVar[_Heard | None] = ContextVar("_heard", default=None)


def hear(status: int, headers: Mapping[str, Any]) -> None:
    """Take note of an answer on the wire: each of the SDK's own attempts brings one."""
    heard = _heard.get()
    if heard is not None and status >= 400:
        sub_status = str(headers.get("x-ms-substatus", ""))
        heard.status = status
        heard.sub_status = int(sub_status) if re.fullmatch("[0-9]{1,6}", sub_status) else 0


class _Operation(NamedTuple):
    """What one operation has left."""

    seconds: float
    until: float | None
    """When its time is over, by the monotonic clock; None: each request has `seconds` by itself."""
    turns: asyncio.Semaphore

    @classmethod
    def begun(cls, seconds: float) -> _Operation:
        return cls(seconds, time.monotonic() + seconds, asyncio.Semaphore(AT_ONCE))


_operation: ContextVar[_Operation | None] = ContextVar("_operation", default=None)


@contextmanager
def operation(seconds: float, *, many: bool = False) -> Generator[None, None, None]:
    """The time of one operation: what is asked within has so many seconds in all. One within another is a part of it.

    Args:
        seconds: how many.
        many: whether it sends as many requests as the data asks for. No number of seconds is right for those: each has
            as many by itself.
    """
    outer = _operation.get()
    doing = outer or _Operation.begun(seconds)
    _operation.set(doing._replace(until=None) if many else doing)
    try:
        yield
    finally:
        _operation.set(outer)


def each_by_itself() -> AbstractContextManager[None]:
    """For the steps of an operation that the data decides the number of: each request has all of its time."""
    doing = _operation.get()
    return nullcontext() if doing is None else operation(doing.seconds, many=True)


async def ask(
    request: Callable[[], Awaitable[_T]],
    where: str,
    *,
    answers: Collection[int] = (),
    passes: Callable[[Refusal], bool] = lambda refusal: refusal.passes,
    patience: float | None = None,
) -> _T:
    """Send a request, again after refusals that pass, and no earlier than the service asks for.

    Args:
        request: sends it, each time anew.
        where: whom it is sent to, for errors.
        answers: statuses that the caller understands. A 404 is one only where it says that an item is missing.
        passes: whether what is refused may be granted a little later.
        patience: seconds for which it is sent again; None: for as long as the operation has time, which it never has
            more than.

    Raises:
        Answer: one of `answers`.
        CheckpointStoreError: whatever else goes wrong, translated; it passes no more, or not within the time.
    """
    doing = _operation.get() or _Operation.begun(PATIENCE)
    async with doing.turns:
        left = doing.seconds if doing.until is None else max(0.0, doing.until - time.monotonic())
        longest = left if patience is None else min(patience, left)
        return await _until_served(request, where, answers, passes, longest)


async def _until_served(
    request: Callable[[], Awaitable[_T]],
    where: str,
    answers: Collection[int],
    passes: Callable[[Refusal], bool],
    longest: float,
) -> _T:
    started, pause = time.monotonic(), FIRST_PAUSE
    last: AzureError | None = None
    senseless = 0
    heard = _Heard()
    _heard.set(heard)
    while True:
        limit = asyncio.timeout(max(0.0, started + longest - time.monotonic()))
        try:
            async with limit:
                return await request()
        except AzureError as error:
            status = _status_of(error)
            if status is not None and status in answers and (status != 404 or is_missing_item(error)):
                raise Answer(status) from error
            if status == 401 and (last is None or _status_of(last) != 401):
                last = error  # a token may end on the way; the SDK lets it go, and does not ask again by itself
                continue
            refusal = refusal_of(error)
            enough = min(longest, TOKEN_PATIENCE) if refusal is _NO_TOKEN else longest
            wait = max(pause * random.uniform(0.5, 1), _wished_pause(error))  # noqa: S311 - jitter
            if not passes(refusal) or time.monotonic() + wait > started + enough:
                raise translated(error, where, time.monotonic() - started) from error
            logger.debug("Cosmos DB answered %s; asking again in %.2f s", said_by(error), wait)
            last = error
        except _OURS:
            raise
        except Exception as error:  # what else the SDK, the way or a credential raises: never past here
            if limit.expired():
                raise _unanswered(where, time.monotonic() - started, heard) from (last or error)
            senseless += isinstance(error, _SENSELESS)
            if senseless == _MISUNDERSTANDINGS or not isinstance(error, _SENSELESS + _CUT_OFF):
                raise _not_understood(error, where) from error
            wait = pause
            if time.monotonic() + wait > started + longest:
                raise _cut_off(error, where, time.monotonic() - started) from error
        await asyncio.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def _not_understood(error: Exception, where: str) -> CheckpointStoreError:
    said = f"{type(error).__name__}: {shown(str(error))}"
    if isinstance(error, _SENSELESS):
        return StoreUnavailableError(f"Cosmos DB on {where} gave an answer that makes no sense ({said}). {_HEALTH}")
    return CheckpointStoreError(
        f"A request to Cosmos DB on {where} failed with what no request should ({said}). If the store was given a "
        "client, a container or a credential, look there: whether it was closed, or gives no token."
    )


def _cut_off(error: Exception, where: str, seconds: float) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"Cosmos DB on {where} could not be reached for {seconds:.0f} s: {type(error).__name__}, {shown(str(error))}. "
        f"{_NO_ANSWER.advice}"
    )


def _unanswered(where: str, seconds: float, heard: _Heard) -> StoreUnavailableError:
    """What to tell where time is over before the SDK has told anything."""
    if not heard.status:
        return StoreUnavailableError(f"Cosmos DB on {where} gave no answer for {seconds:.0f} s. {_HEALTH}")
    refusal = _row(heard.status, heard.sub_status)
    return StoreUnavailableError(
        f"Cosmos DB on {where} did not serve for {seconds:.0f} s: {_number(heard.status, heard.sub_status)} "
        f"({refusal.name}). {refusal.advice or _HEALTH}"
    )


def _number(status: int, sub_status: int) -> str:
    return f"{status}/{sub_status}" if sub_status else f"{status}"


def shown(words: str) -> str:
    """Somebody's words, on one line and not too many. A key that they repeat stays a secret."""
    if may_hold_a_key(words):
        return "its words are not shown, as they may hold a key"
    return safe(" ".join(words.split())[:_LONGEST_WORDS]).rstrip(".")


def translated(error: AzureError, where: str, seconds: float = 0.0) -> CheckpointStoreError:
    """What to tell the user."""
    refusal, said = refusal_of(error), said_by(error)
    if refusal is _NO_TOKEN:
        what = f"The credential gives no token for {where}: {said}"
    elif refusal.error is StoreReadOnlyError:
        what = f"Cosmos DB refused the identity on {where}: {said}"
    elif refusal.passes:
        what = f"Cosmos DB on {where} could not be reached or did not serve for {seconds:.0f} s: {said}"
    else:
        what = f"Cosmos DB refused a request on {where}: {said}"
    return refusal.error(f"{what}. {refusal.advice}".rstrip())


def said_by(error: AzureError) -> str:
    """The service's words on one line."""
    status, words = _status_of(error), shown(str(getattr(error, "message", error)))
    if status is None:
        return f"{type(error).__name__}, {words}"
    return f"{_number(status, _sub_status_of(error))} ({refusal_of(error).name}), {words}"


def _wished_pause(error: AzureError) -> float:
    """Seconds that the service asks to wait for."""
    headers = cast("Mapping[str, Any]", getattr(error, "headers", None) or {})
    wish = str(headers.get("x-ms-retry-after-ms", "0"))
    return int(wish) / 1000 if re.fullmatch("[0-9]{1,9}", wish) else 0.0
