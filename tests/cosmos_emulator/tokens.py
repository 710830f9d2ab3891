"""Tokens as Microsoft Entra ID gives them, in form: claims, signed, with an end; and credentials that ask for them.

Signed with a secret of the server's own, since there is no directory to have a key pair.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from azure.core.credentials import AccessToken

_HEADER: Final = {"typ": "JWT", "alg": "HS256"}
_DEFAULT: Final = "/.default"


class Directory:
    """One tenant, which gives tokens to whoever is named.

    `clock` gives the time in seconds that tokens begin and end by.
    """

    def __init__(self, clock: Callable[[], float] = time.time, *, tenant: str = "the-tenant") -> None:
        self.clock = clock
        self.tenant = tenant
        self.minted: list[str] = []
        """Every token so far, in order."""
        self._secret = secrets.token_bytes(32)
        self._serial = itertools.count(1)

    def mint(self, principal: str, audience: str, *, lifetime: float, tenant: str | None = None) -> AccessToken:
        """A token for a principal's object id, intended for an audience."""
        now = self.clock()
        ends = int(now + lifetime)
        claims = {
            "aud": audience,
            "tid": tenant or self.tenant,
            "oid": principal,
            "nbf": int(now),
            "exp": ends,
            "uti": str(next(self._serial)),
        }
        text = f"{_encoded(_HEADER)}.{_encoded(claims)}"
        self.minted.append(f"{text}.{self._signature(text)}")
        return AccessToken(self.minted[-1], ends)

    def claims(self, token: str) -> dict[str, Any] | None:
        """What a token says; None where it is none, or was not signed here."""
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(self._signature(text).encode(), signature.encode(errors="replace")):
            return None
        return json.loads(_decoded(text.partition(".")[2]))

    def _signature(self, text: str) -> str:
        return _text(hmac.new(self._secret, text.encode(errors="replace"), hashlib.sha256).digest())


class Credential:
    """One principal's, as those of `azure.identity`: blocks while it asks. Each token lives for `lifetime` seconds.

    `audience` is what it asks a token for instead of what it is told, as with a wrong scope.
    """

    def __init__(
        self,
        directory: Directory,
        principal: str,
        *,
        lifetime: float = 3600.0,
        audience: str | None = None,
        tenant: str | None = None,
    ) -> None:
        self.lifetime = lifetime
        self.asked: list[str] = []
        """The scopes that it was asked for, in order."""
        self._directory = directory
        self._principal = principal
        self._audience = audience
        self._tenant = tenant

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked += scopes
        [scope] = scopes
        if not scope.endswith(_DEFAULT):
            raise ValueError(f"The scope {scope!r} does not end in {_DEFAULT}.")
        audience = self._audience or scope.removesuffix(_DEFAULT)
        return self._directory.mint(self._principal, audience, lifetime=self.lifetime, tenant=self._tenant)

    def close(self) -> None: ...


class AsyncCredential:
    """The same as those of `azure.identity.aio`."""

    def __init__(self, credential: Credential) -> None:
        self.inner = credential

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return self.inner.get_token(*scopes, **options)

    async def close(self) -> None: ...

    async def __aenter__(self) -> AsyncCredential:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None: ...


def _encoded(value: dict[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
