"""Checks the signature of a request: HMAC-SHA256 under the account key over verb, resource and date."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, unquote

from .errors import CosmosError

EMULATOR_KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
"""The key that every Cosmos emulator has; it is published and protects nothing."""


def check_signature(
    key: str, header: str | None, *, method: str, resource_type: str, resource_ids: Iterable[str], date: str
) -> None:
    """Refuses (401) a request not signed with this key, for the resource by its full name or its lower-cased rid."""
    fields = parse_qs(unquote(header or "").replace("+", "%2B"))
    kind, given = fields.get("type", [""])[0], fields.get("sig", [""])[0]
    if kind != "master":
        raise _unauthorized(f"authorization of type {kind!r}; this account takes its master key")
    expected = (_signature(key, method, resource_type, resource_id, date) for resource_id in resource_ids)
    if not any(hmac.compare_digest(signature.encode(), given.encode(errors="replace")) for signature in expected):
        raise _unauthorized("a signature that the account key does not give")


def authorization(key: str, method: str, resource_type: str, resource_id: str, date: str) -> str:
    """The header of a signed request, for clients that send plain HTTP."""
    signature = _signature(key, method, resource_type, resource_id, date)
    return quote(f"type=master&ver=1.0&sig={signature}", safe="")


def _signature(key: str, method: str, resource_type: str, resource_id: str, date: str) -> str:
    text = f"{method.lower()}\n{resource_type.lower()}\n{resource_id}\n{date.lower()}\n\n"
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def _unauthorized(found: str) -> CosmosError:
    return CosmosError(401, f"The input authorization token can't serve the request: found {found}.")
