"""The conversations that the framework's own history providers keep, session by session: its files, and its container.

A folder or container may have been written by anybody. It is only read: no link is followed, nothing but a regular file
is opened, and no message is larger or deeper than one can be. What cannot be read is named, and the rest goes on.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from contextlib import aclosing, closing
from hashlib import sha256
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, TypeAlias, cast

from agent_framework import Message

from ..codec import MAX_DEPTH
from ..codec.messagepack import unpack
from ..errors import CheckpointDecodeError
from ..text import described, is_unicode, safe
from ..threads import in_thread
from .turns import message_of

__all__ = [
    "MAX_MESSAGE",
    "OF_FILES",
    "Entry",
    "HistoryDocuments",
    "HistoryFolder",
    "HistorySource",
    "OldMessage",
    "OldSession",
    "Unreadable",
]

MAX_MESSAGE: Final = 64 * 1024 * 1024
"""Bytes of a stored message: the framework writes no larger record, either."""

OF_FILES: Final = "file_history"
"""The framework's `FileHistoryProvider.DEFAULT_SOURCE_ID`; the class is experimental, and may be gone."""

_LINES: Final = ".jsonl"
_RECORDS: Final = ".msgpack"
_ENCODED: Final = "~session-"
_DIGEST: Final = "sha256-"
_UPPER: Final = str.maketrans(ascii_lowercase + ascii_uppercase, ascii_uppercase + ascii_lowercase)
"""The framework writes base 32 in small letters; in capitals it is none."""
_CHUNK: Final = 1024 * 1024
_HEADER: Final = 4  # bytes before a record, which say how long it is


class OldSession(NamedTuple):
    """A session in another store."""

    source_id: str
    session_id: str
    place: str = ""
    """What the source finds it by, where that is not its id."""


class OldMessage(NamedTuple):
    """A message in another store. Its id is its own or, where it had none, made from where it stands."""

    name: str
    message: Message
    size: int
    """Bytes that it has there."""


class Unreadable(NamedTuple):
    """A session or a message that a source has, and cannot give."""

    name: str
    """Where it is: a file, a line of one, or an item."""
    why: str


Entry: TypeAlias = OldMessage | Unreadable


class HistorySource(Protocol):
    """What is needed of another store of conversations."""

    def sessions(self) -> AsyncGenerator[OldSession | Unreadable, None]:
        """Its sessions, each once."""
        ...

    def messages(self, session: OldSession) -> AsyncGenerator[Entry, None]:
        """The messages of one of them, in order."""
        ...


class Rows(Protocol):
    """Runs a query with its parameters over a container: over all of it, or over one partition."""

    def __call__(
        self, text: str, parameters: Sequence[dict[str, object]], *, partition_key: str | None = None
    ) -> AsyncGenerator[dict[str, Any], None]: ...


class HistoryFolder:
    """The sessions of a `FileHistoryProvider`: a file for each, as JSON Lines or as MessagePack.

    Args:
        folder: where its files are.
        source_id: whose they are; the files do not say.
    """

    def __init__(self, folder: Path, source_id: str = OF_FILES) -> None:
        self._folder = folder
        self._source_id = source_id

    async def sessions(self) -> AsyncGenerator[OldSession | Unreadable, None]:
        """Those whose file's name tells their id. Of two files of one session the second is left out."""
        files: dict[str, str] = {}
        for name in await in_thread(self._names):
            session_id = _session_id_of(name.rpartition(".")[0])
            if session_id is None:
                yield Unreadable(safe(name), "its name tells no session: that of a long id is only a digest of it")
            elif (other := files.setdefault(session_id, name)) != name:
                yield Unreadable(safe(name), f"{safe(other)} is of the same session, {described(session_id)}")
            else:
                yield OldSession(self._source_id, session_id, name)

    async def messages(self, session: OldSession) -> AsyncGenerator[Entry, None]:
        """See `HistorySource`. Where a file cannot be read any further, that is the last entry."""
        entries = _entries(self._folder / session.place, session)
        try:
            while (entry := await in_thread(next, entries, None)) is not None:
                yield entry
        finally:
            await in_thread(entries.close)

    def _names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._folder) if name.endswith((_LINES, _RECORDS)))  # noqa: PTH208


def _session_id_of(stem: str) -> str | None:
    """The session whose file is called so, by the rule of the framework: an id that is no safe name is encoded.

    It encodes in base 32, and did in base 64 before; a long id it replaces by its digest, and then nothing tells it.
    """
    if not stem.startswith(_ENCODED):
        return stem if stem and is_unicode(stem) else None
    encoded = stem.removeprefix(_ENCODED)
    if encoded.startswith(_DIGEST):
        return None
    for decode in (_in_base_32, _in_base_64):
        try:
            return decode(encoded).decode("utf-8") or None
        except ValueError:  # not encoded so, or no text
            continue
    return None


def _in_base_32(encoded: str) -> bytes:
    return base64.b32decode(encoded.translate(_UPPER) + "=" * (-len(encoded) % 8))


def _in_base_64(encoded: str) -> bytes:
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)


def _entries(path: Path, session: OldSession) -> Generator[Entry, None, None]:
    """The messages in a file, one after the other."""
    try:
        with open(path, "rb", opener=_only_a_file) as file, closing(_parts(file, path.suffix == _LINES)) as parts:
            for part in parts:
                yield part if isinstance(part, Unreadable) else _read(part, path.suffix == _LINES, session)
    except OSError as error:
        yield Unreadable("", f"the file cannot be read: {safe(error)}")


def _only_a_file(path: str, flags: int) -> int:
    """Opens a regular file: following a link might leave the folder, and reading a pipe or a device might never end."""
    opened = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError("it is not a regular file")
    return opened


class _Part(NamedTuple):
    """The bytes of a message, and where in the file they are."""

    name: str
    data: bytes


def _parts(file: BinaryIO, is_lines: bool) -> Generator[_Part | Unreadable, None, None]:
    return _lines(file) if is_lines else _records(file)


def _lines(file: BinaryIO) -> Generator[_Part | Unreadable, None, None]:
    number = 0
    while line := file.readline(MAX_MESSAGE + 1):
        number += 1
        name = f"line {number}"
        if len(line) > MAX_MESSAGE:
            while line and not line.endswith(b"\n"):
                line = file.readline(_CHUNK)
            yield Unreadable(name, f"it is longer than {MAX_MESSAGE:,} bytes")
        elif not line.isspace():
            yield _Part(name, line.strip())


def _records(file: BinaryIO) -> Generator[_Part | Unreadable, None, None]:
    number = 0
    while header := file.read(_HEADER):
        number += 1
        name = f"record {number}"
        size = int.from_bytes(header, "big")
        if len(header) == _HEADER and not 0 < size <= MAX_MESSAGE:
            yield Unreadable(name, f"it says that it has {size:,} bytes, so nothing tells where the next one begins")
            return
        data = file.read(size)
        if len(header) < _HEADER or len(data) < size:
            yield Unreadable(name, "the file ends inside of it")
            return
        yield _Part(name, data)


def _read(part: _Part, is_json: bool, session: OldSession) -> Entry:
    try:
        payload = json.loads(part.data) if is_json else unpack(part.data)
    except (ValueError, RecursionError, CheckpointDecodeError) as error:
        return Unreadable(part.name, f"it is not valid {'JSON' if is_json else 'MessagePack'}: {safe(error)}")
    where = f"{session.session_id}\n{part.name}\n".encode()
    return _entry(payload, part.name, sha256(where + part.data).hexdigest()[:32], len(part.data))


class HistoryDocuments:
    """The sessions in the container of upstream's `CosmosHistoryProvider`.

    Args:
        rows: runs a query there.
        source_ids: whose sessions; none: all, each under its own source.
    """

    def __init__(self, rows: Rows, source_ids: Collection[str] = ()) -> None:
        self._rows = rows
        self._chosen = " AND ARRAY_CONTAINS(@sources, c.source_id)" if source_ids else ""
        self._sources: list[dict[str, object]] = [{"name": "@sources", "value": sorted(source_ids)}]

    async def sessions(self) -> AsyncGenerator[OldSession | Unreadable, None]:
        """First the items that are in no session, or have no place in it; then the sessions, as the pages come."""
        sources = self._sources if self._chosen else []
        whole = "IS_STRING(c.session_id) AND IS_STRING(c.source_id)"
        stray = f"SELECT c.id FROM c WHERE NOT ({whole} AND IS_NUMBER(c.sort_key)){self._chosen}"
        async with aclosing(self._rows(stray, sources)) as rows:
            async for row in rows:
                yield Unreadable(f"item {described(row.get('id'))}", "it lacks a session_id, source_id or sort_key")
        seen: set[OldSession] = set()
        distinct = f"SELECT DISTINCT c.source_id, c.session_id FROM c WHERE {whole}{self._chosen}"
        async with aclosing(self._rows(distinct, sources)) as rows:
            async for row in rows:
                session = OldSession(row["source_id"], row["session_id"])
                if session not in seen:
                    seen.add(session)
                    yield session

    async def messages(self, session: OldSession) -> AsyncGenerator[Entry, None]:
        """See `HistorySource`. They come in the order in which upstream's provider gives them.

        That is the service's own among equal sort keys, which are many: nanoseconds, kept as doubles, are multiples of
        256. By the ids of the items, which are random, a question could come to stand behind its answer.
        """
        text = (
            "SELECT c.id, c.message FROM c WHERE c.session_id = @session AND c.source_id = @source "
            "AND IS_NUMBER(c.sort_key) ORDER BY c.sort_key ASC"
        )
        named: list[dict[str, object]] = [
            {"name": "@session", "value": session.session_id},
            {"name": "@source", "value": session.source_id},
        ]
        async with aclosing(self._rows(text, named, partition_key=session.session_id)) as rows:
            async for row in rows:
                item_id, message = str(row.get("id")), row.get("message")
                yield _entry(message, f"item {described(item_id)}", item_id, len(json.dumps(message)))


def _entry(payload: object, name: str, otherwise: str, size: int) -> Entry:
    """The message that was stored, with an id; or why it is none.

    Args:
        payload: what was stored.
        name: where it was.
        otherwise: its id, where it has none.
        size: bytes that it has there.
    """
    if _is_too_deep(payload):
        return Unreadable(name, f"it nests deeper than {MAX_DEPTH} levels")
    try:
        message = message_of(payload)
    except CheckpointDecodeError as error:
        return Unreadable(name, safe(error))
    if message.message_id is None:
        message.message_id = otherwise
    return OldMessage(name, message, size)


def _is_too_deep(payload: object) -> bool:
    level: list[Any] = [payload]
    for _ in range(MAX_DEPTH):
        level = [inside for node in level for inside in _inside(node)]
        if not level:
            return False
    return True


def _inside(node: Any) -> Collection[Any]:
    if isinstance(node, dict):
        return cast("dict[str, Any]", node).values()
    return cast("list[Any]", node) if isinstance(node, list) else ()
