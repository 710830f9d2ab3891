"""The one place where requests are sent again, and where what the service refuses becomes an error of ours.

Every request may be sent again: it reads, or it writes under an id that the content decides, or under a condition that
a repetition no longer meets. What a status means depends on its sub-status: 404 alone can say that an item is not
there, that its container is not, that a replica has not caught up, or that a container is still being made. The table
`REFUSALS` says for each what it is called, whether it passes, and what to tell the user; docs/cosmos.md has the same
table for people.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar, cast

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.cosmos.exceptions import CosmosHttpResponseError

from ...errors import (
    CheckpointStoreError,
    StoreFormatError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from ...log import logger_of
from ...text import may_hold_a_key, safe

__all__ = [
    "REFUSALS",
    "Refusal",
    "ask",
    "hear",
    "is_late",
    "is_missing_item",
    "is_missing_owner",
    "is_session_ahead",
    "refusal_of",
    "said_by",
    "says_404",
    "status_of",
    "sub_status_of",
    "translated",
]

logger: Final = logger_of("eventckpt")

_T = TypeVar("_T")

PATIENCE = 30.0
"""Seconds for which a request is sent again, the SDK's own attempts among them, which for some refusals go on for
minutes. Then the caller hears of it: a workflow should learn soon that its checkpoints are not being saved."""
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

_MISSING_ITEM: Final = 0
_SESSION_NOT_AVAILABLE: Final = 1002
_OWNER_NOT_FOUND: Final = 1003


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
    (404, _OWNER_NOT_FOUND): Refusal("owner not found", False, StoreFormatError, "The container does not exist."),
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
    (449, None): _passing("retry with"),
    (500, None): _passing("internal error"),
    (502, None): _passing("bad gateway"),
    (503, None): _passing("service unavailable"),
    (504, None): _passing("gateway timeout"),
}
"""By status and sub-status; None: any other sub-status. Sources: "HTTP status codes for Azure Cosmos DB", and the pages
of the service's troubleshooting guide for each status; not verified on an account."""

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
    status = status_of(error)
    if status is None:
        return _NO_TOKEN if isinstance(error, ClientAuthenticationError) else _NO_ANSWER
    if status == 403 and not sub_status_of(error) and "firewall" in str(error.message).lower():
        return _FIREWALL
    return _row(status, sub_status_of(error))


def _row(status: int, sub_status: int) -> Refusal:
    return REFUSALS.get((status, sub_status)) or REFUSALS.get((status, None)) or _OTHER


def is_missing_item(error: AzureError) -> bool:
    """Whether the service says that it has no such item, and nothing else."""
    return status_of(error) == 404 and sub_status_of(error) == _MISSING_ITEM


def is_missing_owner(error: AzureError) -> bool:
    """Whether the service says that it has no such container, or database."""
    return status_of(error) == 404 and sub_status_of(error) == _OWNER_NOT_FOUND


def is_session_ahead(error: AzureError) -> bool:
    """Whether no replica has come as far as the read's session token."""
    return status_of(error) == 404 and sub_status_of(error) == _SESSION_NOT_AVAILABLE


def says_404(error: Exception) -> bool:
    """Whether the service said so, whatever it added: of a database or a container that is missing it says several
    things. Takes our own errors, too, by what they were translated from."""
    said = error if isinstance(error, AzureError) else error.__cause__
    return isinstance(said, AzureError) and status_of(said) == 404


def is_late(error: AzureError) -> bool:
    """Whether it may pass where a container was just made, or its database: it takes a moment to be known."""
    return is_missing_owner(error) or refusal_of(error).passes


def status_of(error: AzureError) -> int | None:
    """The status that the service answered with; None where it did not answer."""
    return (error.status_code or None) if isinstance(error, CosmosHttpResponseError) else None


def sub_status_of(error: AzureError) -> int:
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


async def ask(
    request: Callable[[], Awaitable[_T]],
    where: str,
    *,
    answers: Collection[int] = (),
    passes: Callable[[AzureError], bool] = lambda error: refusal_of(error).passes,
    patience: float | None = None,
) -> _T:
    """Send a request, again after refusals that pass, and no earlier than the service asks for.

    Args:
        request: sends it, each time anew.
        where: whom it is sent to, for errors.
        answers: statuses that the caller understands: they are raised as they are. A 404 is one only where it says that
            an item is missing.
        passes: whether an error may be gone a little later.
        patience: seconds for which it is sent again; None: `PATIENCE`.

    Raises:
        CosmosHttpResponseError: one of `answers`.
        CheckpointStoreError: any other error of the SDK, translated; it passes no more, or not within `PATIENCE`.
    """
    started, pause = time.monotonic(), FIRST_PAUSE
    last: AzureError | None = None
    senseless = 0
    heard = _Heard()
    _heard.set(heard)
    longest = PATIENCE if patience is None else patience
    while True:
        try:
            async with asyncio.timeout(max(0.0, started + longest - time.monotonic())):
                return await request()
        except TimeoutError as error:
            raise _unanswered(where, time.monotonic() - started, heard) from (last or error)
        except _SENSELESS as error:
            senseless += 1
            if senseless == _MISUNDERSTANDINGS:
                raise StoreUnavailableError(
                    f"Cosmos DB on {where} gave an answer that makes no sense "
                    f"({type(error).__name__}: {shown(str(error))}). {_HEALTH}"
                ) from error
            wait = pause
        except AzureError as error:
            status = status_of(error)
            if status in answers and (status != 404 or is_missing_item(error)):
                raise
            if status == 401 and (last is None or status_of(last) != 401):
                last = error  # a token may end on the way; the SDK lets it go, and does not ask again by itself
                continue
            enough = min(longest, TOKEN_PATIENCE) if refusal_of(error) is _NO_TOKEN else longest
            wait = max(pause * random.uniform(0.5, 1), _wished_pause(error))  # noqa: S311 - jitter
            if not passes(error) or time.monotonic() + wait > started + enough:
                raise translated(error, where, time.monotonic() - started) from error
            logger.debug("Cosmos DB answered %s; asking again in %.2f s", said_by(error), wait)
            last = error
        await asyncio.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


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
    status, words = status_of(error), shown(str(error.message))
    if status is None:
        return f"{type(error).__name__}, {words}"
    return f"{_number(status, sub_status_of(error))} ({refusal_of(error).name}), {words}"


def _wished_pause(error: AzureError) -> float:
    """Seconds that the service asks to wait for."""
    headers = cast("Mapping[str, Any]", getattr(error, "headers", None) or {})
    wish = str(headers.get("x-ms-retry-after-ms", "0"))
    return int(wish) / 1000 if re.fullmatch("[0-9]{1,9}", wish) else 0.0
