"""Reading the framework's own stores of conversations: what their providers give is given, and no more opened."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from agent_framework import FileHistoryProvider, HistoryProvider, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventckpt.history.import_history import import_history
from eventckpt.history.other_stores import (
    MAX_MESSAGE,
    Entry,
    HistoryDocuments,
    HistoryFolder,
    HistorySource,
    OldMessage,
    OldSession,
    Unreadable,
)

from ..old_histories import CALLED, Container, answer, question, said, upstreams_container

pytestmark = pytest.mark.filterwarnings("ignore:.*FileHistoryProvider is experimental")

Format = Literal["json", "msgpack"]
FORMATS: tuple[Format, ...] = ("json", "msgpack")


async def sessions_of(source: HistorySource) -> list[OldSession]:
    return [each async for each in source.sessions() if isinstance(each, OldSession)]


async def unreadable_in(source: HistorySource) -> list[Unreadable]:
    return [each async for each in source.sessions() if isinstance(each, Unreadable)]


async def entries_of(source: HistorySource) -> list[Entry]:
    """Those of the only session."""
    [session] = await sessions_of(source)
    return [entry async for entry in source.messages(session)]


async def messages_of(source: HistorySource) -> list[Message]:
    return [entry.message for entry in await entries_of(source) if isinstance(entry, OldMessage)]


# Files


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize(
    "session_id",
    ["plain", "a.b-c_9", "A", "a/b", "../up", "/etc/passwd", "CON", "con.txt", " blank ", "ü", "日本", ".dot", "a\nb",
     "~session-x", "x" * 240, "é" * 50],
)  # fmt: skip
async def test_a_session_of_files_is_found_by_its_own_id_with_its_messages(
    tmp_path: Path, written: Format, session_id: str
) -> None:
    old = FileHistoryProvider(tmp_path, serialization_format=written)
    await old.save_messages(session_id, CALLED)
    source = HistoryFolder(tmp_path, "mine")
    assert [session[:2] for session in await sessions_of(source)] == [("mine", session_id)]
    assert said(await messages_of(source)) == said(await old.get_messages(session_id))


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=25))
@example("aeaq")
async def test_any_id_is_found_that_is_not_too_long_for_a_files_name(
    tmp_path_factory: pytest.TempPathFactory, session_id: str
) -> None:
    folder = tmp_path_factory.mktemp("old")
    await FileHistoryProvider(folder).save_messages(session_id, [question()])
    assert [session.session_id for session in await sessions_of(HistoryFolder(folder))] == [session_id]


async def test_what_had_no_session_is_in_the_one_that_the_framework_calls_default(tmp_path: Path) -> None:
    await FileHistoryProvider(tmp_path).save_messages(None, [question()])
    assert await sessions_of(HistoryFolder(tmp_path)) == [OldSession("file_history", "default", "default.jsonl")]


@pytest.mark.parametrize("session_id", ["A", "ü", "a/b", "x y z", "日本"])
async def test_a_name_that_an_earlier_framework_encoded_is_read_too(tmp_path: Path, session_id: str) -> None:
    encoded = base64.urlsafe_b64encode(session_id.encode()).decode().rstrip("=")
    (tmp_path / f"~session-{encoded}.jsonl").write_text("", encoding="utf-8")
    assert [session.session_id for session in await sessions_of(HistoryFolder(tmp_path))] == [session_id]


@pytest.mark.parametrize(
    "name", ["~session-.jsonl", "~session-§.jsonl", "~session-77777777.jsonl", ".jsonl", b"\xff.jsonl"]
)
async def test_a_file_whose_name_tells_no_session_is_named(tmp_path: Path, name: str | bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_text("", encoding="utf-8")
    [left] = await unreadable_in(HistoryFolder(tmp_path))
    assert "its name tells no session" in left.why
    assert left.name.isprintable()


async def test_of_a_long_id_the_framework_keeps_a_digest_only(tmp_path: Path) -> None:
    await FileHistoryProvider(tmp_path).save_messages("Ü" * 200, [question()])
    [left] = await unreadable_in(HistoryFolder(tmp_path))
    assert left.name.startswith("~session-sha256-")
    assert "that of a long id is only a digest of it" in left.why


async def test_of_two_files_of_one_session_the_second_is_left_out(tmp_path: Path) -> None:
    for written in FORMATS:
        await FileHistoryProvider(tmp_path, serialization_format=written).save_messages("s", [question(written)])
    source = HistoryFolder(tmp_path)
    assert [message.text for message in await messages_of(source)] == ["json"]
    assert await unreadable_in(source) == [Unreadable("s.msgpack", "s.jsonl is of the same session, 's'")]


async def test_the_ids_that_messages_are_given_are_the_same_each_time_and_no_two_are(tmp_path: Path) -> None:
    old = FileHistoryProvider(tmp_path)
    await old.save_messages("s", [question(), answer(), question(), answer(), answer(message_id="mine")])
    first, again = [[message.message_id for message in await messages_of(HistoryFolder(tmp_path))] for _ in range(2)]
    assert first == again
    assert len(set(first)) == 5
    assert first[-1] == "mine"
    (tmp_path / "s.jsonl").rename(tmp_path / "t.jsonl")
    assert not set(first[:-1]) & {message.message_id for message in await messages_of(HistoryFolder(tmp_path))}


GOOD = question().to_dict()

BAD: dict[str, Any] = {
    "a list": [],
    "a number": 5,
    "nothing": None,
    "no role": {"type": "message", "contents": []},
    "a role that is no text": GOOD | {"role": ["user"]},
    "an id that is no text": GOOD | {"message_id": {"a": 1}},
    "contents that are no list": GOOD | {"contents": 5},
    "a content that is none": GOOD | {"contents": [{"type": "text", "text": {}}, 5]},
    "a content without a type": GOOD | {"contents": [{"text": "x"}]},
    "another class": GOOD | {"type": "agent_response"},
    "fields of another class": GOOD | {"unheard_of": 1},
    "too deep": GOOD | {"additional_properties": {"deep": json.loads("[" * 300 + "]" * 300)}},
}


def line_of(payload: Any) -> bytes:
    return json.dumps(payload).encode() + b"\n"


def record_of(payload: Any) -> bytes:
    data = msgspec.msgpack.encode(payload)
    return len(data).to_bytes(4, "big") + data


WRITERS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "json": ("jsonl", line_of),
    "msgpack": ("msgpack", record_of),
}


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_message_is_named_and_the_others_are_given(tmp_path: Path, written: Format, kind: str) -> None:
    suffix, encoded = WRITERS[written]
    (tmp_path / f"s.{suffix}").write_bytes(encoded(GOOD) + encoded(BAD[kind]) + encoded(GOOD))
    first, bad, last = await entries_of(HistoryFolder(tmp_path))
    assert isinstance(first, OldMessage)
    assert isinstance(last, OldMessage)
    assert isinstance(bad, Unreadable), bad
    assert bad.name == ("line 2" if written == "json" else "record 2")


@pytest.mark.parametrize(
    "line",
    [b"{", b"\xff", b"[" * 100_000, b'{"role": ' + b"9" * 5000 + b"}", b"{}" * 2, b'{"role": "user", "contents": ["'],
    ids=lambda line: line[:10].decode("latin-1"),
)
async def test_a_line_that_is_no_json_is_named_and_the_others_are_given(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "s.jsonl").write_bytes(line_of(GOOD) + line + b"\n\n  \r\n" + line_of(GOOD))
    first, bad, last = await entries_of(HistoryFolder(tmp_path))
    assert isinstance(bad, Unreadable)
    assert bad.name == "line 2"
    assert "is not valid JSON" in bad.why
    assert [entry.name for entry in (first, last)] == ["line 1", "line 5"]


async def test_a_line_longer_than_any_message_is_passed_over(tmp_path: Path) -> None:
    with (tmp_path / "s.jsonl").open("wb") as file:
        file.seek(MAX_MESSAGE + 10)
        file.write(b"\n" + line_of(GOOD))
    long, good = await entries_of(HistoryFolder(tmp_path))
    assert long == Unreadable("line 1", "it is longer than 67,108,864 bytes")
    assert good.name == "line 2"


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        (b"\0", "the file ends inside of it"),
        (b"\0\0\0\x05ab", "the file ends inside of it"),
        (b"\0\0\0\0", "it says that it has 0 bytes"),
        (b"\xff\xff\xff\xff", "it says that it has 4,294,967,295 bytes"),
        (b"\0\0\0\x01\xc1", "it is not valid MessagePack"),
        (b"\0\0\0\x02\x81\x90", "it is not valid MessagePack"),
    ],
)
async def test_a_record_that_is_cut_or_none_is_named_behind_those_before(tmp_path: Path, rest: bytes, why: str) -> None:
    (tmp_path / "s.msgpack").write_bytes(record_of(GOOD) + rest)
    good, bad = await entries_of(HistoryFolder(tmp_path))
    assert isinstance(good, OldMessage)
    assert isinstance(bad, Unreadable)
    assert bad.name == "record 2"
    assert why in bad.why


@pytest.mark.parametrize("suffix", ["jsonl", "msgpack"])
async def test_only_regular_files_of_the_folder_are_opened(tmp_path: Path, suffix: str) -> None:
    folder, outside = tmp_path / "old", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(WRITERS["json"][1](GOOD))
    (folder / f"link.{suffix}").symlink_to(outside)
    (folder / f"device.{suffix}").symlink_to("/dev/zero")
    (folder / f"loop.{suffix}").symlink_to(folder / f"loop.{suffix}")
    (folder / f"folder.{suffix}").mkdir()
    os.mkfifo(folder / f"pipe.{suffix}")
    source = HistoryFolder(folder)
    sessions = await sessions_of(source)
    assert len(sessions) == 5
    for session in sessions:
        [entry] = [entry async for entry in source.messages(session)]
        assert isinstance(entry, Unreadable), session
        assert "the file cannot be read" in entry.why


# A container


@pytest.fixture
async def container() -> AsyncGenerator[Container, None]:
    async with upstreams_container() as container:
        yield container


async def test_a_container_gives_each_session_of_each_source_as_upstream_does(container: Container) -> None:
    written: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for source_id in ("azure_cosmos_history", "other"):
        async with container.provider(source_id) as old:
            for session_id in ("s", "a/b ü"):
                await old.save_messages(session_id, [*CALLED, question(source_id), answer(session_id)])
                await old.save_messages(session_id, [question("again"), answer()])
                written[source_id, session_id] = said(await old.get_messages(session_id))
    async with container.opened() as opened:
        source = HistoryDocuments(opened.rows)
        sessions = await sessions_of(source)
        assert sorted(session[:2] for session in sessions) == sorted(written)
        for session in sessions:
            entries = [entry async for entry in source.messages(session)]
            assert said([entry.message for entry in entries if isinstance(entry, OldMessage)]) == written[session[:2]]
            assert all(isinstance(entry, OldMessage) and entry.message.message_id for entry in entries)
        assert {session.source_id for session in await sessions_of(HistoryDocuments(opened.rows, ["other"]))} == {
            "other"
        }


def item(number: int, **fields: Any) -> dict[str, Any]:
    whole = {"id": f"i{number}", "session_id": "s", "source_id": "a", "sort_key": 7, "message": GOOD}
    return {name: value for name, value in (whole | fields).items() if value is not ...}


async def test_among_equal_sort_keys_the_order_is_upstreams_and_not_that_of_random_ids(container: Container) -> None:
    async with container.provider("a") as old:
        await old.save_messages("made", [question()])
        ids = ["z", "m", "a", "q"]
        await container.put(*(item(0, id=name, message=question(name).to_dict()) for name in ids))
        upstreams = [message.text for message in await old.get_messages("s")]
    async with container.opened() as opened:
        source = HistoryDocuments(opened.rows)
        found = [entry async for entry in source.messages(OldSession("a", "s"))]
    assert [entry.message.text for entry in found if isinstance(entry, OldMessage)] == upstreams
    assert sorted(upstreams) != upstreams


async def test_an_item_of_no_session_or_without_a_place_in_one_is_named(container: Container) -> None:
    async with container.provider("a") as old:
        await old.save_messages("s", [question()])
    await container.put(
        item(1, source_id=...),
        item(2, source_id=5),
        item(3, sort_key=...),
        item(4, sort_key="7"),
        item(5, session_id=5),
    )
    async with container.opened() as opened:
        assert {left.name for left in await unreadable_in(HistoryDocuments(opened.rows))} == {
            f"item 'i{number}'" for number in (1, 2, 3, 4, 5)
        }
        assert len(await entries_of(HistoryDocuments(opened.rows))) == 1
        assert {left.name for left in await unreadable_in(HistoryDocuments(opened.rows, ["a"]))} == {
            f"item 'i{number}'" for number in (3, 4, 5)
        }


async def test_an_item_whose_message_is_none_is_named_and_the_others_are_given(container: Container) -> None:
    async with container.provider("b") as old:
        await old.save_messages("made", [question()])
    bad = [payload for kind, payload in BAD.items() if kind != "too deep"]  # the service takes 128 levels
    await container.put(
        item(0, sort_key=0),
        *(item(place, sort_key=place, message=payload) for place, payload in enumerate(bad, 1)),
        item(99, sort_key=99),
        item(100, sort_key=100, message=...),
    )
    async with container.opened() as opened:
        entries = await entries_of(HistoryDocuments(opened.rows, ["a"]))
    assert [entry.name for entry in entries if isinstance(entry, OldMessage)] == ["item 'i0'", "item 'i99'"]
    assert len(entries) == len(bad) + 3


# Into turns


class Turns(HistoryProvider):
    """A provider that keeps what it is given, call by call."""

    def __init__(self) -> None:
        super().__init__("turns")
        self.saved: list[list[Message]] = []

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        return [message for turn in self.saved for message in turn]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.saved.append(list(messages))


async def imported_turns(folder: Path, messages: Sequence[Message]) -> list[str]:
    """The roles of each turn, by their first letters."""
    (folder / "s.jsonl").write_bytes(b"".join(line_of(message.to_dict()) for message in messages))
    turns = Turns()
    done = await import_history(HistoryFolder(folder), lambda _: turns)
    assert (done.messages, done.added, done.left_out) == (len(messages), len(messages), ())
    return ["".join(message.role[0] for message in turn) for turn in turns.saved]


@pytest.mark.parametrize(
    "turns",
    [
        ["u"],
        ["ua"],
        ["ua", "ua", "u"],
        ["uata"],
        ["sua", "sua"],
        ["suua", "ua"],
        ["a", "ua"],
        ["ata", "u"],
    ],
    ids="-".join,
)
async def test_a_turn_ends_with_the_last_answer_before_the_next_question(tmp_path: Path, turns: list[str]) -> None:
    roles = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}
    messages = [Message(roles[role], [role]) for turn in turns for role in turn]
    assert await imported_turns(tmp_path, messages) == turns


async def test_a_turn_is_never_of_more_than_so_many_messages_or_bytes(tmp_path: Path) -> None:
    assert [len(turn) for turn in await imported_turns(tmp_path, [question()] * 2500)] == [1000, 1000, 500]
    large = [question("x" * 5 * 1024 * 1024)] * 4
    assert [len(turn) for turn in await imported_turns(tmp_path, large)] == [3, 1]
