"""What a checkpoint cannot hold is refused for the right reason: the advice in the error can be followed, and helps."""

from __future__ import annotations

import collections
import concurrent.futures
import io
import itertools
import queue
import re
import sqlite3
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError, CheckpointEncodeError, CheckpointTypeNotAllowedError
from eventckpt.allowlist import type_key
from tests import checkpoint_types as app
from tests import refused_types as refused
from tests.fidelity import checkpoint, loaded

NO_DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "a_lock": (threading.Lock, "Leave it out of the state"),
    "a_reentrant_lock": (threading.RLock, "Leave it out of the state"),
    "a_thread_local": (threading.local, "Leave it out of the state"),
    "a_stream": (lambda: io.TextIOWrapper(io.BytesIO()), "Leave it out of the state"),
    "a_connection": (lambda: _closed_connection(), "Leave it out of the state"),
    "a_socket_like_iterator": (lambda: iter([1]), "Store plain values instead"),
    "a_generator": (lambda: (n for n in ()), "Store the list of what it yields"),
    "a_function": (lambda: refused.make_one, "Store what it is to be called with"),
    "a_lambda": (lambda: lambda: 0, "Store what it is to be called with"),
    "a_module": (lambda: sys, "Leave it out of the state"),
    "a_regular_expression": (lambda: re.compile("x"), "Store its pattern and flags"),
    "a_memory_view": (lambda: memoryview(b"x"), r"Store bytes\\(…\\) of it"),
    "dict_keys": (lambda: {}.keys(), r"Store list\\(…\\) of it"),
    "dict_values": (lambda: {}.values(), r"Store list\\(…\\) of it"),
    "dict_items": (lambda: {}.items(), r"Store list\\(…\\) of it"),
    "a_mapping_proxy": (lambda: types.MappingProxyType({}), r"Store dict\\(…\\) of it"),
    "a_weak_reference": (lambda: weakref.ref(app.Point), "Leave it out of the state"),
    "a_frame": (sys._getframe, "Leave it out of the state"),
    "not_implemented": (lambda: NotImplemented, "Store None, or a text"),
    "a_type_variable": (lambda: app.T, "Use the class that it stands for"),
    "a_new_type": (lambda: UserId, "Use the class that it stands for"),
    "a_match": (lambda: re.match("x", "x"), "Store what was found"),
    "a_bound_method": (lambda: app.Node("x").add, "Store what it is to be called with"),
    "an_event": (threading.Event, "Leave it out of the state"),
    "a_condition": (threading.Condition, "Leave it out of the state"),
    "a_queue": (queue.Queue, "Leave it out of the state"),
    "a_future": (concurrent.futures.Future, "Leave it out of the state"),
    "an_unpacked_tuple": (lambda: tuple[int, *tuple[str, ...]], "Use a class"),
    "a_literal_of_very_many": (lambda: typing.Literal[tuple(map(str, range(300)))], "Give the type a name"),
    "a_forward_reference": (lambda: typing.List["Point"], "Use a class"),  # noqa: UP006, F821
    "an_annotation": (lambda: typing.Annotated[int, "x"], "Use a class"),
    "a_signature": (lambda: typing.Callable[[int], str], "Use a class"),
    "a_zone_without_a_key": (lambda: _zone_from_a_file(), r"Store ZoneInfo\\(key\\)"),
}


UserId = typing.NewType("UserId", int)


def _closed_connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.close()
    return connection


def _zone_from_a_file() -> ZoneInfo:
    import zoneinfo

    path = next(Path(root, "UTC") for root in (*zoneinfo.TZPATH, "") if Path(root, "UTC").exists())
    with path.open("rb") as file:
        return ZoneInfo.from_file(file)


@pytest.mark.parametrize("place", [lambda v: v, lambda v: (v,), app.Holder], ids=["plain", "in_a_tuple", "held"])
@pytest.mark.parametrize("name", NO_DATA)
def test_what_no_permission_would_make_data_is_not_advised_to_be_allowed(
    name: str, place: Callable[[Any], Any]
) -> None:
    make, advice = NO_DATA[name]
    value = make()
    codecs = [CheckpointCodec(app.ALLOWED), CheckpointCodec([*app.ALLOWED, type_key(type(value))])]
    said: list[str] = []
    for codec in codecs:
        with pytest.raises(CheckpointEncodeError, match=advice.replace("\\\\", "\\")) as caught:
            codec.encode(checkpoint(place(value)))
        assert not isinstance(caught.value, CheckpointTypeNotAllowedError)
        assert "allowed_checkpoint_types" not in str(caught.value)
        said.append(str(caught.value))
    assert said[0] == said[1], "whether it is allowed makes no difference"


@dataclass
class Guarded:
    """Of an application, which did not allow it."""

    lock: Any


def test_a_lock_somewhere_in_a_value_is_what_the_refusal_is_about() -> None:
    for value in (Guarded(threading.Lock()), {"x": [Guarded(Guarded(threading.Condition()))]}):
        with pytest.raises(
            CheckpointEncodeError, match=r"_thread:R?[lL]ock' cannot be taken apart.*Leave it out"
        ) as caught:
            CheckpointCodec().encode(checkpoint((value,)))
        assert not isinstance(caught.value, CheckpointTypeNotAllowedError)
        assert ".lock" in str(caught.value)


def test_a_value_that_cannot_be_made_again_is_refused_with_its_place_and_what_to_do() -> None:
    codec = CheckpointCodec(app.ALLOWED)
    raw = codec.encode(checkpoint({"orders": [1, {"last": app.UnreplayableError("no", 1)}]}))
    with pytest.raises(
        CheckpointDecodeError, match=r"Give it a __reduce__ that returns its type and arguments\."
    ) as caught:
        codec.decode(raw)
    assert str(caught.value).endswith("(at checkpoint.state.value.orders[1].last)")


def test_a_type_that_could_be_stored_is_advised_to_be_allowed() -> None:
    for value in (
        refused.Unlisted(1),
        refused.UnlistedPair(1),
        refused.UnlistedError("x"),
        Path("x"),
        collections.UserDict(),
    ):
        with pytest.raises(CheckpointTypeNotAllowedError, match="allow it with"):
            CheckpointCodec().encode(checkpoint((value,)))
        allowing = CheckpointCodec([type_key(type(value))])
        allowing.decode(allowing.encode(checkpoint((value,))))


class Float64(float):
    """Rebuilt as numpy's scalars are: by a function, from the bytes of the value."""

    def __reduce__(self) -> Any:
        return _scalar, (float(self).hex(),)


def _scalar(text: str) -> Float64:
    return Float64(float.fromhex(text))


@pytest.mark.parametrize("allowed", [[], [f"{__name__}:Float64"]], ids=["not_allowed", "allowed"])
def test_a_number_that_only_a_function_rebuilds_is_a_plain_number_in_plain_dicts_and_lists(allowed: list[str]) -> None:
    codec = CheckpointCodec(allowed)
    for place in (lambda value: value, lambda value: [value], lambda value: {"x": [value]}):
        again = loaded(codec, place(Float64(1.5)))
        assert again == place(1.5)
        assert "Float64" not in repr(type(again))
    with pytest.raises(CheckpointEncodeError):
        codec.encode(checkpoint((Float64(1.5),)))


def test_equal_exceptions_give_equal_bytes_also_where_one_was_looked_at() -> None:
    codec = CheckpointCodec(app.ALLOWED)
    touched = app.AppError("no")
    assert touched.__dict__ == {}
    assert codec.encode(checkpoint(touched)) == codec.encode(checkpoint(app.AppError("no")))


def test_an_iterator_is_refused_without_being_used_up() -> None:
    numbers = itertools.count()
    with pytest.raises(CheckpointEncodeError):
        CheckpointCodec().encode(checkpoint((numbers,)))
    assert next(numbers) == 0
