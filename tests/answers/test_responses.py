"""Which values answer a request of which type: in Python, and in JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Never, Optional, TypedDict, Union

import pytest
from agent_framework import (
    Content,
    Executor,
    InMemoryCheckpointStorage,
    Message,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    response_handler,
)
from pydantic import BaseModel

from eventckpt import (
    CheckpointEncodeError,
    CheckpointTypeNotAllowedError,
    ResponseTypeError,
    SqliteCheckpointStorage,
    answer,
    answer_from_json,
)


@dataclass
class Decision:
    approved: bool
    note: str = ""


@dataclass
class Order:
    lines: list[Decision]


class Review(BaseModel):
    stars: int
    at: datetime | None = None


@dataclass
class Visit:
    at: datetime
    people: tuple[Decision, ...] = ()


@dataclass
class Picky:
    """Its constructor refuses a number, by an error that pydantic does not expect."""

    number: int

    def __post_init__(self) -> None:
        {1: "one"}[self.number]


class Secret:
    """A class that no storage here allows."""


class Typed(TypedDict):
    a: int


class Colour(Enum):
    RED = "red"


class Money:
    """A class of the application's own, which JSON has no form of."""


TYPES: Final[dict[str, Any]] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "date": date,
    "dates": list[date],
    "moment": datetime,
    "time": time,
    "enum": Colour,
    "list": list,
    "list of str": list[str],
    "tuple": tuple[int, ...],
    "pair": tuple[int, str],
    "set": set[int],
    "dict of int": dict[str, int],
    "dict of str": dict[str, str],
    "dict by number": dict[int, str],
    "dict by float": dict[float, str],
    "nested dict": dict[str, dict[str, str]],
    "literal": Literal["yes", "no"],
    "number literal": Literal[1, 2],
    "enum literal": Literal[Colour.RED],
    "optional": Optional[int],  # noqa: UP045 - as applications write it
    "union": Union[int, str],  # noqa: UP007 - as applications write it
    "either": int | list[str],
    "bytes or str": bytes | str,
    "float or int": float | int,
    "dataclass": Decision,
    "dataclass with a moment": Visit,
    "dataclass or dict": Decision | dict[str, Any],
    "picky": Picky,
    "nested dataclass": Order,
    "dataclasses": list[Decision],
    "optional dataclass": Decision | None,
    "model": Review,
    "content": Content,
    "contents": list[Content],
    "message": Message,
    "own class": Money,
    "anything": Any,
    "object": object,
}
ALLOWED: Final = [
    f"{__name__}:{name}" for name in ("Colour", "Decision", "Money", "Order", "Picky", "Review", "Typed", "Visit")
]
TEXT: Final = {"type": "text", "text": "hello"}
MONEY: Final = Money()
NOON: Final = datetime(2026, 5, 31, 12, tzinfo=UTC)
NOON_IN_PARIS: Final = datetime(2026, 5, 31, 12, tzinfo=timezone(timedelta(hours=2)))
WRONG: Final = object()
"""In place of what a value is made into: it is refused."""


class Case(NamedTuple):
    name: str
    """Of the type."""
    given: Any
    python: Any
    """What the workflow gets of it as a value of Python."""
    json: Any
    """And as one of JSON."""


class NoJson:
    """In place of what JSON makes of a value that JSON has no form of."""


CASES: Final = [
    Case("bool", True, True, True),
    Case("bool", 1, WRONG, WRONG),
    Case("bool", "true", WRONG, WRONG),
    Case("bool", None, WRONG, WRONG),
    Case("int", 7, 7, 7),
    Case("int", True, True, WRONG),  # in Python a bool is an int, and the framework says so
    Case("int", "7", WRONG, WRONG),
    Case("int", 7.0, WRONG, WRONG),
    Case("float", 1.5, 1.5, 1.5),
    Case("float", 1, 1.0, 1.0),
    Case("float", "1.5", WRONG, WRONG),
    Case("float", 10**400, WRONG, WRONG),
    Case("str", "yes", "yes", "yes"),
    Case("str", 7, WRONG, WRONG),
    Case("bytes", b"yes", b"yes", NoJson),
    Case("bytes", "yes", WRONG, b"yes"),
    Case("date", date(2026, 5, 31), date(2026, 5, 31), NoJson),
    Case("date", "2026-05-31", WRONG, date(2026, 5, 31)),
    Case("date", "31st of May", WRONG, WRONG),
    Case("dates", [date(2026, 5, 31)], [date(2026, 5, 31)], NoJson),
    Case("dates", ["2026-05-31"], WRONG, [date(2026, 5, 31)]),
    Case("moment", NOON, NOON, NoJson),
    Case("moment", "2026-05-31T12:00:00Z", WRONG, NOON),
    Case("moment", "2026-05-31T12:00:00+02:00", WRONG, NOON_IN_PARIS),
    Case("moment", "2026-05-31T12:00:00", WRONG, NOON.replace(tzinfo=None)),
    Case("time", "12:00:00+02:00", WRONG, NOON_IN_PARIS.timetz()),
    Case("time", time(12), time(12), NoJson),
    Case("enum", Colour.RED, Colour.RED, NoJson),
    Case("enum", "red", WRONG, Colour.RED),
    Case("enum", "blue", WRONG, WRONG),
    Case("list", ["a", 1], ["a", 1], ["a", 1]),
    Case("list", "a", WRONG, WRONG),
    Case("list of str", ["a"], ["a"], ["a"]),
    Case("list of str", [], [], []),
    Case("list of str", ["a", 1], WRONG, WRONG),
    Case("list of str", "a", WRONG, WRONG),
    Case("tuple", (1, 2), (1, 2), (1, 2)),
    Case("tuple", [1, 2], (1, 2), (1, 2)),
    Case("tuple", [1, "2"], WRONG, WRONG),
    Case("pair", [1, "a"], (1, "a"), (1, "a")),
    Case("pair", [1], WRONG, WRONG),
    Case("set", {1}, {1}, NoJson),
    Case("set", [1, 1], {1}, {1}),
    Case("set", ["1"], WRONG, WRONG),
    Case("dict of int", {"a": 1}, {"a": 1}, {"a": 1}),
    Case("dict of int", {"a": "1"}, WRONG, WRONG),
    Case("dict of str", {"1": "a"}, {"1": "a"}, {"1": "a"}),
    Case("dict of str", {1: "a"}, WRONG, {"1": "a"}),
    Case("dict of str", {None: "a"}, WRONG, {"null": "a"}),
    Case("dict by number", {1: "a"}, {1: "a"}, {1: "a"}),
    Case("dict by number", {"1": "a"}, WRONG, {1: "a"}),
    Case("dict by number", {"a": "b"}, WRONG, WRONG),
    Case("dict by float", {2**53: "a"}, {float(2**53): "a"}, {float(2**53): "a"}),
    Case("dict by float", {"a": "b"}, WRONG, WRONG),
    Case("nested dict", {"a": {"1": "x"}}, {"a": {"1": "x"}}, {"a": {"1": "x"}}),
    Case("nested dict", {"a": {1: "x", "1": "y"}}, WRONG, NoJson),
    Case("number literal", 1, 1, 1),
    Case("number literal", True, WRONG, WRONG),
    Case("number literal", 1.0, WRONG, WRONG),
    Case("enum literal", Colour.RED, Colour.RED, NoJson),
    Case("enum literal", "red", WRONG, Colour.RED),
    Case("literal", "yes", "yes", "yes"),
    Case("literal", "Yes", WRONG, WRONG),
    Case("optional", None, None, None),
    Case("optional", 1, 1, 1),
    Case("optional", "1", WRONG, WRONG),
    Case("union", "1", "1", "1"),
    Case("union", 1.5, WRONG, WRONG),
    Case("either", ["a"], ["a"], ["a"]),
    Case("either", [1], WRONG, WRONG),
    Case("bytes or str", "a", "a", "a"),
    Case("bytes or str", b"a", b"a", NoJson),
    Case("bytes or str", 1, WRONG, WRONG),
    Case("float or int", 1, 1, 1),
    Case("float or int", "1", WRONG, WRONG),
    Case("dataclass with a moment", {"at": NOON}, Visit(NOON), NoJson),
    Case("dataclass with a moment", {"at": "2026-05-31T12:00:00Z"}, WRONG, Visit(NOON)),
    Case(
        "dataclass with a moment",
        {"at": NOON, "people": [{"approved": True}]},
        Visit(NOON, (Decision(True),)),
        NoJson,
    ),
    Case("dataclass or dict", {"approved": True}, {"approved": True}, {"approved": True}),
    Case("dataclass or dict", 1, WRONG, WRONG),
    Case("picky", {"number": 1}, Picky(1), Picky(1)),
    Case("picky", {"number": 2}, WRONG, WRONG),
    Case("dataclass", Decision(True), Decision(True), NoJson),
    Case("dataclass", {"approved": True}, Decision(True), Decision(True)),
    Case("dataclass", {"approved": "yes"}, WRONG, WRONG),
    Case("dataclass", {"approved": True, "notes": "a misspelt field"}, WRONG, WRONG),
    Case("dataclass", {}, WRONG, WRONG),
    Case("dataclass", True, WRONG, WRONG),
    Case("nested dataclass", {"lines": [{"approved": True}]}, Order([Decision(True)]), Order([Decision(True)])),
    Case("nested dataclass", {"lines": [{"approved": 1}]}, WRONG, WRONG),
    Case("dataclasses", [{"approved": True}], [Decision(True)], [Decision(True)]),
    Case("dataclasses", [{"approved": True}, True], WRONG, WRONG),
    Case("optional dataclass", None, None, None),
    Case("optional dataclass", {"approved": True}, Decision(True), Decision(True)),
    Case("model", Review(stars=5), Review(stars=5), NoJson),
    Case("model", {"stars": 5}, Review(stars=5), Review(stars=5)),
    Case("model", {"stars": "five"}, WRONG, WRONG),
    Case("model", {"stars": "5"}, Review(stars=5), Review(stars=5)),  # the model's own matter, as for the framework
    Case("model", {"stars": 5, "at": "2026-05-31T12:00:00Z"}, Review(stars=5, at=NOON), Review(stars=5, at=NOON)),
    Case("content", "hello", Content.from_text("hello"), Content.from_text("hello")),
    Case("content", TEXT, Content.from_text("hello"), Content.from_text("hello")),
    Case("content", {"text": "hello"}, WRONG, WRONG),
    Case("content", 7, WRONG, WRONG),
    Case("contents", [TEXT], [Content.from_text("hello")], [Content.from_text("hello")]),
    Case("contents", [TEXT, 7], WRONG, WRONG),
    Case("message", Message("user", ["hello"]), Message("user", ["hello"]), NoJson),
    Case("message", {"role": "user", "contents": [TEXT]}, Message("user", ["hello"]), Message("user", ["hello"])),
    Case("own class", MONEY, MONEY, NoJson),
    Case("own class", {}, WRONG, WRONG),
    Case("anything", {"a": [1]}, {"a": [1]}, {"a": [1]}),
    Case("anything", MONEY, MONEY, NoJson),
    Case("object", "a", "a", "a"),
]


class Asker(Executor):
    """Asks for a value of the type that it is told, and gives what it got."""

    def __init__(self, got: list[Any]) -> None:
        super().__init__(id="asker")
        self._got = got

    @handler
    async def ask(self, name: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(name, Typed if name == "typed" else TYPES[name], request_id="what")

    @response_handler
    async def answered(self, name: str, response: Any, ctx: WorkflowContext[Never, str]) -> None:
        self._got.append(response)


def build(got: list[Any]) -> Workflow:
    return WorkflowBuilder(start_executor=Asker(got), name="asking").build()


def plain(value: Any) -> Any:
    """A value as it is compared: the framework's classes compare by identity."""
    return [plain(each) for each in value] if isinstance(value, list) else getattr(value, "to_dict", lambda: value)()


def _id(case: Case) -> str:
    return f"{case.name} {case.given!r}"[:60]


async def _answered(path: Path, case: Case, response: Any, answering: Any) -> Any:
    """What a workflow gets of a response; WRONG where it is refused and nothing was done."""
    async with SqliteCheckpointStorage(path / "store.db", allowed_checkpoint_types=ALLOWED) as storage:
        await build([]).run(case.name, checkpoint_storage=storage.for_run("run"))
        before = await storage.store.last("asking", "run")
        got: list[Any] = []
        try:
            await answering(storage, "run", {"what": response}, workflow=build(got))
        except ResponseTypeError:
            assert await storage.store.last("asking", "run") == before
            assert got == []
            return WRONG
        return got[0]


def _check(got: Any, expected: Any) -> None:
    if expected is WRONG or got is WRONG:
        assert got is expected
    else:
        assert type(got) is type(expected)
        assert plain(got) == plain(expected)


@pytest.mark.parametrize("case", CASES, ids=_id)
async def test_a_value_of_python_is_of_the_type_or_becomes_one_or_is_refused(case: Case, tmp_path: Path) -> None:
    _check(await _answered(tmp_path, case, case.given, answer), case.python)


@pytest.mark.parametrize("case", [case for case in CASES if case.json is not NoJson], ids=_id)
async def test_a_value_of_json_is_made_into_one_of_the_type_or_is_refused(case: Case, tmp_path: Path) -> None:
    _check(await _answered(tmp_path, case, json.loads(json.dumps(case.given)), answer_from_json), case.json)


@pytest.mark.parametrize("case", CASES, ids=_id)
async def test_what_the_framework_takes_is_taken(case: Case) -> None:
    storage, got = InMemoryCheckpointStorage(), list[Any]()
    await build([]).run(case.name, checkpoint_storage=storage)
    latest = await storage.get_latest(workflow_name="asking")
    assert latest is not None
    try:
        await build(got).run(
            checkpoint_id=latest.checkpoint_id, checkpoint_storage=storage, responses={"what": case.given}
        )
    except (ValueError, OverflowError):
        return  # what the framework refuses may still be a value of JSON
    _check(got[0], case.python)


@pytest.mark.parametrize(
    ("name", "given", "answering"),
    [
        ("dict by float", {2**53: "a", 2**53 + 1: "b"}, answer),  # of which the framework would lose one
        ("dict by number", {"1": "a", "01": "b"}, answer_from_json),
        ("dict by float", {"1": "a", "1.0": "b"}, answer_from_json),
    ],
)
async def test_two_keys_do_not_become_one(name: str, given: Any, answering: Any, tmp_path: Path) -> None:
    assert await _answered(tmp_path, Case(name, given, WRONG, WRONG), given, answering) is WRONG


@pytest.mark.parametrize("answering", [answer, answer_from_json])
async def test_a_typed_dict_is_refused_since_the_framework_could_not_go_on_with_it(
    answering: Any, tmp_path: Path
) -> None:
    assert await _answered(tmp_path, Case("typed", None, WRONG, WRONG), {"a": 1}, answering) is WRONG


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (lambda: None, CheckpointEncodeError),
        (Secret(), CheckpointTypeNotAllowedError),
        ([{"deep": [lambda: None]}], CheckpointEncodeError),
        (_deep(5_000), CheckpointEncodeError),
    ],
    ids=["a function", "a type that is not allowed", "within", "too deep"],
)
async def test_what_a_checkpoint_cannot_hold_is_refused_before_anything_is_done(
    given: object, error: type[Exception], tmp_path: Path
) -> None:
    async with SqliteCheckpointStorage(tmp_path / "store.db", allowed_checkpoint_types=ALLOWED) as storage:
        await build([]).run("anything", checkpoint_storage=storage.for_run("run"))
        before = await storage.store.last("asking", "run")
        got: list[Any] = []
        with pytest.raises(error):
            await answer(storage, "run", {"what": given}, workflow=build(got))
        assert (await storage.store.last("asking", "run"), got) == (before, [])


def test_every_type_is_met_with_a_right_value_and_every_narrow_one_with_a_wrong_one() -> None:
    right = {case.name for case in CASES if case.python is not WRONG}
    wrong = {case.name for case in CASES if case.python is WRONG}
    assert right == set(TYPES)
    assert set(TYPES) - wrong == {"anything", "object", "message", "optional dataclass"}
