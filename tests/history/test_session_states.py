"""What a session's state may hold: on every engine what `FileSessionStore` takes, and it comes back as from there."""

from __future__ import annotations

import uuid
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import pytest
from agent_framework import AgentSession, Content, FileSessionStore, Message, SessionStore, register_state_type
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from eventckpt import CheckpointEncodeError, SqliteSessionStore

from .sessions import Sessions, session_of

Form: TypeAlias = Literal["json", "msgpack"]
FORMS: tuple[Form, ...] = ("json", "msgpack")


@dataclass
class Point:
    """Registered, with callbacks of its own."""

    x: int
    y: Any


class Model(BaseModel):
    """Registered, a pydantic model."""

    name: str
    inner: dict[str, int] = {}


class WithToDict:
    """Not registered."""

    def __init__(self, value: object) -> None:
        self.value = value

    def to_dict(self) -> dict[str, object]:
        return {"type": "with_to_dict", "value": self.value}


class Unsupported:
    """Not registered, and without a `to_dict`."""


class Text(str):
    """A text of another type."""


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def _point_from(payload: Mapping[str, Any]) -> Point:
    return Point(payload["x"], payload["y"])


register_state_type(Point, type_id="eventckpt_tests_point", encoder=lambda p: {"x": p.x, "y": p.y}, decoder=_point_from)
register_state_type(Model, type_id="eventckpt_tests_model")

KEPT: dict[str, Any] = {
    "nothing": None,
    "flags": [True, False],
    "ints": [0, -1, 1 << 53, (1 << 63) - 1, -(1 << 63)],
    "floats": [0.0, -0.0, 1.5, 1e308, 5e-324],
    "a whole float": 1.0,
    "texts": ["", "café", "\x00\n\u2028", "😀", "x" * 10_000],
    "empty containers": [{}, [], ""],
    "nested": {"a": [{"b": [[["c"]]]}]},
    "odd keys": {"": 1, "$": 2, "type": 3, "a.b[0]": 4},
    "what a codec may mistake for its own": [{"$": "ref"}, {"$": "checkpoint", "v": 1}, {"__pickled__": "x"}],
    "a tuple, which becomes a list": (1, ("a", [2])),
    "a mapping of another type": OrderedDict(b=1, a=2),
    "int keys below the top, which become texts": {"a": {1: "one"}},
    "a message": Message(role="user", contents=["hi", Content.from_text("there")], message_id="m1"),
    "messages": [Message(role="assistant", contents=[]), {"in": Message(role="tool", contents=["x"])}],
    "a registered type": Point(1, [Point(2, None)]),
    "a registered model": Model(name="m", inner={"a": 1}),
    "an object with to_dict": WithToDict({"a": [1]}),
    "shared lists": [[1]] * 3,
}

REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "not a number": (float("nan"), ValueError),
    "infinity": ([float("inf")], ValueError),
    "minus infinity, deep": ({"a": [{"b": float("-inf")}]}, ValueError),
    "an object": (Unsupported(), TypeError),
    "an object, deep": ([{"a": Unsupported()}], TypeError),
    "bytes": (b"x", TypeError),
    "a set": ({1}, TypeError),
    "a date": (date(2026, 1, 1), TypeError),
    "a decimal": (Decimal(1), TypeError),
    "a complex number": (1j, TypeError),
    "a class": (Unsupported, TypeError),
    "a text of another type": (Text("x"), TypeError),
    "an enum": (Colour.RED, TypeError),
    "an int of another type": (Level.HIGH, TypeError),
    "an object with to_dict that holds one": (WithToDict(Unsupported()), TypeError),
    "a registered type that holds one": (Point(1, {2}), TypeError),
}


def plain(value: object) -> object:
    """A value and its types, to be compared with another."""
    if isinstance(value, dict):
        return dict, [(key, plain(item)) for key, item in cast("dict[object, object]", value).items()]
    if isinstance(value, list):
        return list, [plain(item) for item in cast("list[object]", value)]
    if isinstance(value, Message):
        return Message, plain(value.to_dict())
    if isinstance(value, Point):
        return Point, plain(value.x), plain(value.y)
    return type(value), repr(value)


async def through(store: SessionStore, session: AgentSession) -> object:
    """What comes back of a session, with its types."""
    await store.set("session-1", session)
    stored = await store.get("session-1")
    assert stored is not None
    return stored.session_id, plain(stored.service_session_id), plain(stored.state)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT)
async def test_a_state_comes_back_as_from_files(sessions: Sessions, tmp_path: Path, form: Form, value: object) -> None:
    session = session_of(value=value, beside=[value, {"again": value}])
    files = FileSessionStore(tmp_path / "files", serialization_format=form)
    assert await through(sessions.store(), session) == await through(files, session)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "service_session_id",
    [None, "resp-1", "", {}, {"response_id": "resp-1", "nested": {"a": [1, None]}}, OrderedDict(a=1)],
    ids=repr,
)
async def test_the_id_of_the_service_comes_back_as_from_files(
    sessions: Sessions, tmp_path: Path, form: Form, service_session_id: Any
) -> None:
    session = AgentSession(session_id="a", service_session_id=service_session_id)
    files = FileSessionStore(tmp_path / "files", serialization_format=form)
    assert await through(sessions.store(), session) == await through(files, session)


@pytest.mark.filterwarnings("ignore:AgentSession state value:RuntimeWarning")
@pytest.mark.parametrize(("value", "error"), REFUSED.values(), ids=REFUSED)
async def test_what_files_refuse_is_refused_by_its_place(
    sessions: Sessions, tmp_path: Path, value: object, error: type[Exception]
) -> None:
    store = sessions.store()
    for refusing in (store, FileSessionStore(tmp_path / "files")):
        with pytest.raises(error, match=r"state\.value"):
            await refusing.set("session-1", session_of(value=value))
        assert await refusing.get("session-1") is None


@pytest.mark.parametrize("key", [1, None, 1.5, b"a", Text("a"), ("a",)], ids=repr)
async def test_a_key_that_is_no_text_is_refused_where_files_disagree(sessions: Sessions, key: Any) -> None:
    with pytest.raises(TypeError, match=r"A key of the session's state"):
        await sessions.store().set("session-1", session_of() if key == () else _with_key(key))


def _with_key(key: Any) -> AgentSession:
    session = session_of()
    session.state[key] = 1
    return session


@pytest.mark.parametrize("value", [float("nan"), {1: "a"}, {"a": Unsupported()}], ids=repr)
async def test_an_id_of_the_service_that_would_not_come_back_is_refused(sessions: Sessions, value: Any) -> None:
    session = AgentSession(session_id="a", service_session_id={"id": value})
    with pytest.raises((TypeError, ValueError), match=r"service_session_id\.id"):
        await sessions.store().set("session-1", session)


async def test_a_state_deeper_than_a_checkpoint_may_be_is_refused_and_nothing_is_written(sessions: Sessions) -> None:
    deep: list[Any] = []
    for _ in range(250):
        deep = [deep]
    store = sessions.store()
    with pytest.raises(CheckpointEncodeError, match="deep"):
        await store.set("session-1", session_of(deep=deep))
    assert await store.get("session-1") is None


async def test_a_model_that_is_not_registered_is_warned_of_as_by_files(sessions: Sessions, tmp_path: Path) -> None:
    for store in (sessions.store(), FileSessionStore(tmp_path / "files")):
        name = f"Unregistered{uuid.uuid4().hex}"  # which the framework registers for the whole process
        model: Any = type(name, (BaseModel,), {"__annotations__": {"value": str}})
        with pytest.warns(DeprecationWarning, match="Cold-start deserialization"):
            await store.set("session-1", session_of(value=model(value="legacy")))


TEXTS = st.text(st.characters(codec="utf-8"))
INTS = st.integers(-(1 << 63), (1 << 63) - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INTS | TEXTS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(state=st.dictionaries(TEXTS, JSON, max_size=4))
async def test_whatever_json_can_say_comes_back_as_from_files(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("states")
    session = session_of()
    session.state.update(state)
    async with SqliteSessionStore(folder / "sessions.db", synchronous="OFF") as store:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await through(store, session) == await through(FileSessionStore(folder), session)
