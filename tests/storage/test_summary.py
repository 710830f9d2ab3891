"""The summary in a header is total: every checkpoint has one, and it is small."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint, WorkflowEvent, WorkflowMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventckpt.events import NO_SUMMARY, PendingRequest, Summary
from eventckpt.storage.summary import MAX_NAME, MAX_SIZE, MAX_STATE_KEYS, summarize


class Hostile:
    """Whatever is asked of it, it raises; only its identity can be had."""

    __hash__ = object.__hash__

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def _fail(self, *args: object) -> Any:
        raise RuntimeError("called")

    __str__ = __repr__ = __len__ = __iter__ = __bool__ = __lt__ = __eq__ = __getitem__ = __contains__ = _fail  # type: ignore[assignment]


class HostileMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(cls) -> str:
        raise RuntimeError("called")


class HostileClass(metaclass=HostileMeta):
    pass


class NamedByAnObject:
    __module__: Any = 5


class LoudText(str):
    __hash__ = object.__hash__  # so that no dict asks whether two are equal

    def _fail(self, *args: object) -> Any:
        raise RuntimeError("called")

    __str__ = __repr__ = startswith = encode = __eq__ = __lt__ = __len__ = __getitem__ = _fail  # type: ignore[assignment]


class LoudDict(dict[Any, Any]):
    def _fail(self, *args: object) -> Any:
        raise RuntimeError("called")

    items = keys = values = get = __iter__ = __len__ = __getitem__ = __contains__ = _fail  # type: ignore[assignment]


class LoudList(list[Any]):
    def _fail(self, *args: object) -> Any:
        raise RuntimeError("called")

    __iter__ = __len__ = __getitem__ = copy = _fail  # type: ignore[assignment]


class LoudMessage(WorkflowMessage):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class LoudEvent(WorkflowEvent[Any]):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def request(request_type: Any = int) -> WorkflowEvent[Any]:
    return WorkflowEvent(
        "request_info", request_id="r", source_executor_id="asks", request_type=request_type, response_type=str
    )


def answer(to: object) -> WorkflowMessage:
    return WorkflowMessage(data=1, source_id="a", original_request_info_event=to)  # type: ignore[arg-type]


ATOMS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "int": lambda: 7,
    "huge int": lambda: 10**5000,
    "nan": lambda: float("nan"),
    "text": lambda: "text",
    "surrogate": lambda: "\ud800",
    "executors": lambda: "_executor_state",
    "reserved": lambda: "_x",
    "loud text": lambda: LoudText("text"),
    "loud executors": lambda: LoudText("_executor_state"),
    "bytes": lambda: b"x",
    "hostile": Hostile,
    "hostile class": lambda: HostileClass,
    "class without a name": lambda: NamedByAnObject,
    "alias": lambda: list[int],
    "message": lambda: answer(None),
    "answer": lambda: answer(request()),
    "answer to something": lambda: answer({"request_id": 1}),
    "answer to somebody hostile": lambda: answer(Hostile()),
    "answer to another event": lambda: answer(WorkflowEvent("output", data=1)),
    "loud message": lambda: LoudMessage.__new__(LoudMessage),
    "empty message": lambda: WorkflowMessage.__new__(WorkflowMessage),
    "loud event": lambda: LoudEvent.__new__(LoudEvent),
    "empty event": lambda: WorkflowEvent.__new__(WorkflowEvent),
    "output": lambda: WorkflowEvent("output", data=1),
    "request": request,
    "request of something hostile": lambda: request(Hostile()),
    "request of a hostile class": lambda: request(HostileClass),
    "request of a class without a name": lambda: request(NamedByAnObject),
    "request of text": lambda: request("t"),
    "request of an alias": lambda: request(list[int]),
}
"""What a checkpoint may hold, by name: hypothesis prints what it draws, and these cannot be printed."""

atoms = st.sampled_from(sorted(ATOMS))
keys = st.one_of(atoms, st.text(st.characters(codec=None), max_size=5))
mapping_types = st.sampled_from([dict, LoudDict])
list_types = st.sampled_from([list, LoudList, tuple])
plans = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(mapping_types, st.lists(st.tuples(keys, inner), max_size=3)),
        st.tuples(list_types, st.lists(inner, max_size=3)),
    ),
    max_leaves=5,
)
mappings = st.one_of(plans, st.tuples(mapping_types, st.lists(st.tuples(keys, plans), max_size=4)))


def made(plan: Any) -> Any:
    if isinstance(plan, str):
        return ATOMS[plan]() if plan in ATOMS else plan
    kind, parts = plan
    if issubclass(kind, dict):
        return kind((key, made(part)) for name, part in parts if is_hashable(key := made(name)))
    return kind(map(made, parts))


def is_hashable(value: object) -> bool:
    return type(value).__hash__ is not None


def checkpoint(**fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(workflow_name="w", graph_signature_hash="g", **fields)


def is_stored_as_it_is(summary: Summary) -> bool:
    packed, json = msgspec.msgpack.encode(summary), msgspec.json.encode(summary)
    return msgspec.msgpack.decode(packed, type=Summary) == msgspec.json.decode(json, type=Summary) == summary


@settings(deadline=5_000, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(state=mappings, messages=mappings, pending=mappings)
def test_every_checkpoint_has_a_summary_that_every_engine_keeps(state: Any, messages: Any, pending: Any) -> None:
    assert is_stored_as_it_is(
        summarize(checkpoint(state=made(state), messages=made(messages), pending_request_info_events=made(pending)))
    )


def test_a_checkpoint_without_any_field_has_an_empty_summary() -> None:
    assert summarize(WorkflowCheckpoint.__new__(WorkflowCheckpoint)) is NO_SUMMARY


def test_keys_that_cannot_be_sorted_are_listed_all_the_same() -> None:
    summary = summarize(checkpoint(messages={1: [None], "a": [{}, {}], None: 5}, state={2: 0, "b": 0, (1, 2): 0}))
    assert summary.messages == {"1": 1, "None": 0, "a": 2}
    assert summary.state_keys == ("2", "b", "builtins:tuple")


def test_keys_that_read_alike_are_counted_together() -> None:
    assert summarize(checkpoint(messages={1: [0], "1": [0, 0]})).messages == {"1": 3}


def test_a_question_of_another_shape_is_listed_by_its_id() -> None:
    summary = summarize(checkpoint(pending_request_info_events={"r1": {"data": "test"}, "r2": request()}))
    assert summary.pending_requests == (
        PendingRequest(request_id="r1", source_executor_id="", request_type=""),
        PendingRequest(
            request_id="r2", source_executor_id="asks", request_type="builtins:int", response_type="builtins:str"
        ),
    )


def test_names_are_cut_and_what_is_left_out_is_counted() -> None:
    long = summarize(checkpoint(state={"x" * 10 * MAX_NAME: 0}))
    assert long.state_keys == ("x" * MAX_NAME,)
    many = summarize(checkpoint(state={f"{n:04}" + "x" * MAX_NAME: 0 for n in range(2 * MAX_STATE_KEYS)}))
    assert len(many.state_keys) == many.more_state_keys == MAX_STATE_KEYS


@pytest.mark.parametrize(
    "name", ["", "x" * MAX_NAME, "\x00" * MAX_NAME, "\U0001f600" * 99, '"' * MAX_NAME], ids=range(5)
)
@pytest.mark.parametrize("field", ["messages", "pending_request_info_events", "executors"])
def test_a_header_stays_smaller_than_an_item_whatever_is_in_the_checkpoint(field: str, name: str) -> None:
    very_many: dict[str, Any] = {f"{n:06}{name}": request() for n in range(3_000 if name else 30_000)}
    fields = {"state": {"_executor_state": very_many}} if field == "executors" else {field: very_many}
    written = json.dumps(msgspec.to_builtins(summarize(checkpoint(**fields))))  # the longest form, all of it ASCII
    assert MAX_SIZE / 8 < len(written) < MAX_SIZE


def test_thousands_of_questions_are_all_listed() -> None:
    pending = {f"{n:036}": request() for n in range(5_000)}
    assert len(summarize(checkpoint(pending_request_info_events=pending)).pending_requests) == 5_000
