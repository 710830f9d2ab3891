"""Requests as an identity: whose token it is, whether it still counts, and what its roles allow.

The words are the service's, from errors that its users quote:

* 401: expired (cosmos-explorer issue 2038, 2025-01; sdk-for-js 22620), audience 5008 (sdk-for-java 42800, 2024-11),
  authority 5007 (dotnet-v3 3339, 2022-07), revoked 5013 (dotnet-v3's own tests, 2026), keys that are switched off
  (ads-extension 120, 2024-11, substatus 0). The substatus of an expired token is not quoted anywhere: 0 here. One
  report has 403/5300 for it (sdk-for-python 45886, 2026-03), without the body; all that have the body have 401.
* 403: 5301 for a role that is missing (dotnet-v3 3110 and 3638, which has the names of the resource), 5300 for
  what no role allows (efcore 32197; `POST /offers` in dotnet-v3 4653, 2024-08).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from .account import Account
from .errors import CosmosError
from .roles import MANAGEMENT, Role, Scope, needs
from .routes import Call
from .tokens import AsyncCredential, Credential, Directory

_GLOBAL_AUDIENCE: Final = "https://cosmos.azure.com"
_MORE: Final = "Learn more: https://aka.ms/cosmos-native-rbac."
_BLOCKED: Final = "Request blocked by Auth emulator"

AUDIENCE: Final = 5008
AUTHORITY: Final = 5007
REVOKED: Final = 5013
NOT_IN_DATA_PLANE: Final = 5300
NO_PERMISSION: Final = 5301


@dataclass(frozen=True)
class Use:
    """A right that a request needed and had."""

    principal: str
    action: str
    resource: str


class Identity:
    """Who may do what on an account. `keys=False` is the account's `disableLocalAuth`.

    Roles are of the account (its data plane), and add up: each assignment is a role, for a principal, at a scope.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, keys: bool = True) -> None:
        self.clock = clock
        self.keys = keys
        self.directory = Directory(clock)
        self.used: Counter[Use] = Counter()
        """What requests needed and were allowed, for a look at how much of a role is used."""
        self._assignments: list[tuple[str, Role, Scope]] = []
        self._revoked: set[str] = set()

    # ---- what tests do

    def assign(self, principal: str, role: Role, scope: str = "/") -> None:
        """As `az cosmosdb sql role assignment create`; seen at once, where the service takes minutes."""
        self._assignments.append((principal, role, Scope.of(scope)))

    def unassign(self, principal: str) -> None:
        """Takes every role from a principal."""
        self._assignments = [each for each in self._assignments if each[0] != principal]

    def revoke(self) -> None:
        """Every token so far counts no more, though its time has not come."""
        self._revoked.update(self.directory.minted)

    def credential(self, principal: str, **options: Any) -> Credential:
        """A sync credential; see `Credential`."""
        return Credential(self.directory, principal, **options)

    def async_credential(self, principal: str, **options: Any) -> AsyncCredential:
        """An async credential; see `Credential`."""
        return AsyncCredential(Credential(self.directory, principal, **options))

    def actions_used(self, principal: str, container: str) -> set[str]:
        """The data actions that a principal needed on a container so far, and was allowed."""
        ends = f"/colls/{container}"
        return {use.action for use in self.used if use.principal == principal and use.resource.endswith(ends)}

    # ---- what the server asks

    def authorize(self, call: Call, account: Account, endpoint: str) -> bool:
        """Whether the request came with a token, which then has the rights it needs; else a key is to be looked at.

        Raises:
            CosmosError: 401 where the token or the key does not count, 403 where a right is missing.
        """
        header = call.headers.get("authorization")
        if not header:
            raise CosmosError(
                401, "Required Header authorization is missing. Ensure a valid Authorization token is passed."
            )
        fields = parse_qs(unquote(header))
        if fields.get("type") != ["aad"]:
            if not self.keys:
                raise CosmosError(401, "Local Authorization is disabled. Use an AAD token to authorize all requests.")
            return False
        self._check_rights(self._principal(fields.get("sig", [""])[0], endpoint), call, account)
        return True

    def _principal(self, token: str, endpoint: str) -> str:
        """The object id that the token is of, if it counts here and now."""
        claims = self.directory.claims(token)
        if claims is None:
            raise CosmosError(401, f"{_BLOCKED} : Provided AAD token is not one of this account's directory.")
        if claims["tid"] != self.directory.tenant:
            raise CosmosError(
                401,
                f"{_BLOCKED} : Provided AAD token was issued by the authority [{claims['tid']}] which is not trusted "
                "by this database account. Please ensure the token has been issued by the AAD tenant(s) "
                f"[{self.directory.tenant}].",
                substatus=AUTHORITY,
            )
        self._check_audience(claims["aud"], endpoint)
        self._check_time(claims)
        if token in self._revoked:
            raise CosmosError(401, f"{_BLOCKED} : Provided AAD token has been revoked.", substatus=REVOKED)
        return claims["oid"]

    def _check_audience(self, audience: str, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        host = parts.netloc.rpartition(":")[0].strip("[]")  # the SDK asks for the host without its brackets
        accepted = [f"https://{host}", _GLOBAL_AUDIENCE]
        if audience not in accepted:  # to the letter: the service refuses one with a slash at its end
            raise CosmosError(
                401,
                f"{_BLOCKED} : Provided AAD token is intended for [{audience}]. This database account accepts tokens "
                f"intended for [{', '.join(accepted)}].",
                substatus=AUDIENCE,
            )

    def _check_time(self, claims: dict[str, Any]) -> None:
        now = self.clock()
        if now < claims["nbf"]:
            raise CosmosError(401, f"{_BLOCKED} : Provided AAD token is not valid before [{_moment(claims['nbf'])}].")
        if now >= claims["exp"]:
            raise CosmosError(
                401,
                f"{_BLOCKED} : Provided AAD token has been expired since [{_moment(claims['exp'])}]. Current server "
                f"time is [{_moment(now)}]. Please refresh the AAD token.",
            )

    def _check_rights(self, principal: str, call: Call, account: Account) -> None:
        if call.kind in MANAGEMENT:
            raise CosmosError(
                403,
                f"{_BLOCKED} : The given request [{call.method} {call.path}] cannot be authorized by AAD token in data "
                f"plane. {_MORE}",
                substatus=NOT_IN_DATA_PLANE,
            )
        resource = _resource(call, account)
        for action in needs(call):
            if not self._allows(principal, action, None if call.kind == "account" else resource):
                where = "any scope" if call.kind == "account" else f"resource [{resource}]"
                raise CosmosError(
                    403,
                    f"{_BLOCKED} : Request is blocked because principal [{principal}] does not have required RBAC "
                    f"permissions to perform action [{action}] on {where}. {_MORE}",
                    substatus=NO_PERMISSION,
                )
            self.used[Use(principal, action, str(resource))] += 1

    def _allows(self, principal: str, action: str, resource: Scope | None) -> bool:
        """`None`: at whatever scope. The account's own settings are for everybody who may read something's."""
        return any(
            role.allows(action) and (resource is None or scope.covers(resource))
            for who, role, scope in self._assignments
            if who == principal
        )


def _resource(call: Call, account: Account) -> Scope:
    """What a request is about, by names, however its path names it."""
    if call.segments[:1] != ("dbs",) or len(call.segments) < 2:
        return Scope()
    database, container = call.segment(1), call.container
    try:
        found = account.database(database)
        database = found.document["id"]
        if container is not None:
            container = account.container(found, container).document["id"]
    except CosmosError:  # it is not there: whoever has the right hears of that from the operation
        pass
    return Scope(database, container)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m/%d/%Y %I:%M:%S %p (UTC)")
