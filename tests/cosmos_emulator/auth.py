"""Checks the signature of a request: HMAC-SHA256 under the account key over verb, resource and date."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote, unquote

from .errors import CosmosError

EMULATOR_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
"""The key that every Cosmos emulator has; it is published and protects nothing."""


def check_key(key: str) -> None:
    """Refuses (ValueError) an account key that could sign nothing."""
    try:
        base64.b64decode(key, validate=True)
    except ValueError:
        raise ValueError("The account key is not base64.") from None
    if not key:
        raise ValueError("The account key is empty.")


_LONGEST_SKEW = 15 * 60


def check_signature(
    key: str, header: str | None, *, method: str, resource_type: str, resource_ids: Iterable[str], date: str
) -> None:
    """Refuses (401) a request not signed with this key, for the resource by its full name or its lower-cased rid."""
    if header is None:
        raise CosmosError(
            401, "Required Header authorization is missing. Ensure to provide a valid Authorization token."
        )
    fields = {name: value for name, _, value in (part.partition("=") for part in unquote(header).split("&"))}
    kind, given = fields.get("type", ""), fields.get("sig", "")
    if kind != "master":
        raise _unauthorized(f"authorization of type {kind!r}; this account takes its master key")
    expected = (_signature(key, method, resource_type, resource_id, date) for resource_id in resource_ids)
    if not any(hmac.compare_digest(signature.encode(), given.encode(errors="replace")) for signature in expected):
        raise _unauthorized("a signature that the account key does not give")


def authorization(key: str, method: str, resource_type: str, resource_id: str, date: str) -> str:
    """The header of a signed request, for clients that send plain HTTP."""
    signature = _signature(key, method, resource_type, resource_id, date)
    return quote(f"type=master&ver=1.0&sig={signature}", safe="")


def check_date(date: str, now: float) -> None:
    """Refuses (403) a request whose date is more than 15 minutes from the server's, as the service does: "Access
    control in the Azure Cosmos DB SQL API" (REST reference). What is no date is refused as a wrong signature (401)."""
    moment = _moment(date)
    if moment is None:
        raise CosmosError(401, f"The request's date {date!r} is not valid.")
    if abs(moment - now) > _LONGEST_SKEW:
        raise CosmosError(
            403,
            "The authorization token is not valid at the current time. Please create another token and retry "
            f"(token start time: {date}, current server time: {formatdate(now, usegmt=True)}).",
        )


@lru_cache(maxsize=64)
def _moment(date: str) -> float | None:
    """What a date says; a client's requests of one second say the same."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _signature(key: str, method: str, resource_type: str, resource_id: str, date: str) -> str:
    text = f"{method.lower()}\n{resource_type.lower()}\n{resource_id}\n{date.lower()}\n\n"
    return base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(errors="replace"), "sha256")).decode()


def _unauthorized(found: str) -> CosmosError:
    return CosmosError(401, f"The input authorization token can't serve the request: found {found}.")
