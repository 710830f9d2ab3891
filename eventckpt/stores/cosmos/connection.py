"""From settings to a client: which account, database and container, and as whom.

Everything is checked before anything is sent. What the SDK is told wrongly it reports late and in its own words, or it
takes for a fault of the network and tries again.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import os
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict, cast, get_args
from urllib.parse import urlsplit
from urllib.request import getproxies

from agent_framework import SecretString, load_settings
from agent_framework.exceptions import SettingNotFoundError
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport
from azure.cosmos.aio import ContainerProxy, CosmosClient

from ... import settings as check
from ...text import described, may_hold_a_key, safe
from ...version import version

__all__ = ["CosmosCredential", "Priority", "Target", "share", "target"]

CosmosCredential = str | SecretString | TokenCredential | AsyncTokenCredential
"""An account key, or an identity."""

Priority: TypeAlias = Literal["High", "Low"]
"""Which requests the service throttles first where an account has priority-based execution: low ones. Elsewhere it
takes no notice."""

_PREFIX: Final = "AZURE_COSMOS_"
_BUCKETS: Final = 5  # of a container; the service refuses other numbers
_LONGEST_NAME: Final = 255  # characters; the service takes no more
_NUMBER: Final = re.compile("[0-9]{1,9}")
_NOT_IN_A_NAME: Final = "/\\?#"
_CONTROL: Final = frozenset({"Cc", "Zl", "Zp"})  # Unicode's categories of what ends a line or moves a cursor
_STEPS: Final = (".", "..")  # of a path: a URL with one is another URL
_APART: Final = (
    "Give endpoint, such as https://my-account.documents.azure.com:443/, and credential apart: both are parts of the "
    "connection string."
)


class Target(NamedTuple):
    """What the settings say."""

    client: CosmosClient | None
    """None where the container is given."""
    database_name: str
    container_name: str


class _Settings(TypedDict, total=False):
    endpoint: str | None
    database_name: str | None
    container_name: str | None
    key: SecretString | None
    priority: str | None
    throughput_bucket: str | None


def target(
    *,
    endpoint: str | None,
    database_name: str | None,
    container_name: str | None,
    credential: CosmosCredential | None,
    cosmos_client: CosmosClient | None = None,
    container_client: ContainerProxy | None = None,
    env_file_path: str | None = None,
    env_file_encoding: str | None = None,
    priority: Priority | None = None,
    throughput_bucket: int | None = None,
) -> Target:
    """See `CosmosEventStore`, whose arguments these are."""
    _check_share(priority, throughput_bucket)
    if (container_client or cosmos_client) is not None and (priority or throughput_bucket) is not None:
        raise ValueError(
            "priority and throughput_bucket are a client's, and one is given already: make that with them, as "
            "CosmosClient(…, priority='Low')."
        )
    if container_client is not None:
        check.instance(
            "container_client", container_client, ContainerProxy, what="an async container of azure.cosmos.aio"
        )
        database = str(container_client.database_link).rpartition("/")[2]
        return Target(None, database_name or database, container_client.id)
    if cosmos_client is not None:
        check.instance("cosmos_client", cosmos_client, CosmosClient, what="an async client of azure.cosmos.aio")
    identity = None if credential is None or isinstance(credential, (str, SecretString)) else _identity(credential)
    if env_file_path is not None:
        _env_file(env_file_path)
    if env_file_encoding is not None:
        check.text("env_file_encoding", env_file_encoding)
    given = {"endpoint": endpoint, "database_name": database_name, "container_name": container_name}
    for name, value in given.items():
        if value is not None:
            check.text(name, value)
    needed = [] if cosmos_client is not None else ["endpoint", "key"] if credential is None else ["endpoint"]
    found = _loaded(
        required_fields=["database_name", "container_name", *needed],
        key=credential if isinstance(credential, (str, SecretString)) else None,
        env_file_path=env_file_path,
        env_file_encoding=env_file_encoding,
        priority=priority,
        throughput_bucket=None if throughput_bucket is None else str(throughput_bucket),
        **given,
    )
    names = [_name(name, found.get(name)) for name in ("database_name", "container_name")]
    return Target(cosmos_client or _client(found, identity), *names)


def share(priority: str | None, bucket: str | None) -> dict[str, Any]:
    """`priority` and `throughput_bucket` as environment variables and files say it; nothing where they are empty.

    Raises:
        TypeError, ValueError: one of them is of the wrong form.
    """
    number = int(bucket) if bucket and _NUMBER.fullmatch(bucket) else bucket or None
    _check_share(priority or None, number)
    return {"priority": priority or None, "throughput_bucket": number}


def _check_share(priority: object, throughput_bucket: object) -> None:
    """How the requests of a client share what a container serves, with those of others."""
    if priority is not None:
        check.choice(f"priority (or {_PREFIX}PRIORITY)", priority, *get_args(Priority))
    if throughput_bucket is not None:
        name = f"throughput_bucket (or {_PREFIX}THROUGHPUT_BUCKET)"
        check.whole_number(name, throughput_bucket, least=1, most=_BUCKETS)


def _env_file(path: str | os.PathLike[str]) -> None:
    """A folder would be read as a file without settings."""
    if not isinstance(path, os.PathLike):
        check.text("env_file_path", path)
    if os.path.isdir(path):  # noqa: PTH112 - text or a path
        raise ValueError(f"env_file_path is a folder, not a file of settings: {described(path)}.")


def _loaded(**options: Any) -> _Settings:
    path, encoding = options["env_file_path"], options["env_file_encoding"]
    try:
        return load_settings(_Settings, env_prefix=_PREFIX, **options)
    except SettingNotFoundError:
        raise
    except (OSError, LookupError, TypeError, UnicodeError) as error:
        hidden = may_hold_a_key(safe(error))  # it quotes what was given
        said = type(error).__name__ if hidden else safe(error)
        raise ValueError(
            f"env_file_path {described(path)} cannot be read (env_file_encoding {described(encoding)}): {said}"
        ) from (None if hidden else error)


def _name(name: str, value: object) -> str:
    name = f"{name} (or {_PREFIX}{name.upper()})"
    text = check.text(name, value, longest=_LONGEST_NAME)
    if may_hold_a_key(text):
        raise ValueError(f"{name} looks like a key, or a connection string, and is not shown. {_APART}")
    if text in _STEPS or any(unicodedata.category(mark) in _CONTROL for mark in text):
        raise ValueError(f"{name} holds no control characters, and is not . or .., unlike {described(text)}.")
    if text.endswith(" ") or any(mark in text for mark in _NOT_IN_A_NAME):
        raise ValueError(
            f"{name} holds none of {' '.join(_NOT_IN_A_NAME)} and does not end in a space, unlike {described(text)}."
        )
    return text


def _endpoint(value: object) -> str:
    name = f"endpoint (or {_PREFIX}ENDPOINT)"
    text = check.text(name, value)
    check.no_connection_string(name, text, instead=_APART)
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        more = parts.username is not None or parts.path not in ("", "/") or any(mark in text for mark in "?#@\\")
    except ValueError:  # of a port that is no number, or of brackets that hold no address
        whole = more = False
    if not whole or more or not text.isprintable() or " " in text:
        raise ValueError(
            f"{name} is the URI of an account, such as https://my-account.documents.azure.com:443/, without a user, "
            f"path or query, not {described(text)}."
        )
    return text


def _key(key: SecretString | None) -> str:
    """The account key. It is a secret: no error quotes it."""
    name = f"credential (or {_PREFIX}KEY)"
    text = key.get_secret_value() if key is not None else ""
    try:
        decoded = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        decoded = b""
    if not decoded:
        raise ValueError(
            f"{name} is not an account key: it is no base64. Copy the whole key, or pass an identity such as "
            "DefaultAzureCredential()."
        )
    return text.strip()


def _identity(credential: object) -> AsyncTokenCredential:
    if isinstance(credential, type) or not callable(getattr(credential, "get_token", None)):
        what = f"the class {credential.__name__}" if isinstance(credential, type) else f"a {type(credential).__name__}"
        raise TypeError(f"credential is an account key, a SecretString or a token credential, not {what}.")
    return _as_async(cast("TokenCredential | AsyncTokenCredential", credential))


def _client(found: _Settings, identity: AsyncTokenCredential | None) -> CosmosClient:
    """Its default headers carry priority and bucket: so every request has them, and not only those that take them."""
    endpoint = _endpoint(found.get("endpoint"))
    if identity is not None and urlsplit(endpoint).scheme != "https":
        raise ValueError(
            f"endpoint (or {_PREFIX}ENDPOINT) is {described(endpoint)}, and an identity's tokens are only sent over "
            "https. Use https, or an account key."
        )
    return CosmosClient(
        endpoint,
        credential=_key(found.get("key")) if identity is None else identity,
        user_agent_suffix=_user_agent(),
        enable_compact_utf8_item_writes=True,
        transport=_transport(urlsplit(endpoint).scheme),
        **share(found.get("priority"), found.get("throughput_bucket")),
    )


def _transport(scheme: str) -> AsyncHttpTransport[Any, Any]:
    """The SDK's own, which is closed with its client, and heeds the settings for a proxy where there are any.

    To heed them, aiohttp hands each request to two threads of the loop's executor, one that reads the settings and one
    that reads .netrc: a third of a request's processor time, also where there is nothing to read. Of .netrc, only a
    proxy's password is of use: a request with one for the account itself, which brings its own authorization, fails.
    """
    return cast("AsyncHttpTransport[Any, Any]", AioHttpTransport(use_env_settings=scheme in getproxies()))


def _user_agent() -> str:
    installed = version()
    return f"eventckpt/{installed}" if installed else "eventckpt"


def _as_async(credential: TokenCredential | AsyncTokenCredential) -> AsyncTokenCredential:
    """The SDK's async client awaits its credential; a sync one is asked in a thread."""
    if isinstance(credential, AsyncTokenCredential) and inspect.iscoroutinefunction(credential.get_token):
        return credential
    return _Threaded(credential)


class _Threaded(AsyncTokenCredential):
    """A sync credential, asked in a thread of its own and once at a time: one that hangs, such as in a command that it
    runs, takes no thread from those that save, and only one of its own."""

    def __init__(self, credential: TokenCredential | AsyncTokenCredential) -> None:
        self._credential = credential
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="eventckpt-credential")

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        context = copy_context()
        asked = self._thread.submit(context.run, lambda: self._credential.get_token(*scopes, **options))
        token = await asyncio.wrap_future(asked)
        return await token if inspect.isawaitable(token) else token  # async after all, behind a plain function

    async def close(self) -> None: ...

    async def __aenter__(self) -> _Threaded:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...
