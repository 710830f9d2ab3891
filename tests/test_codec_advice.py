"""What a checkpoint cannot hold is refused for the right reason: the advice in the error can be followed, and helps."""

from __future__ import annotations

import collections
import io
import itertools
import re
import sqlite3
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from eventckpt import CheckpointCodec, CheckpointEncodeError, CheckpointTypeNotAllowedError
from eventckpt.allowlist import type_key
from tests import checkpoint_types as app
from tests.fidelity import checkpoint, loaded

NO_DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "a_lock": (threading.Lock, "Leave it out of the state"),
    "a_reentrant_lock": (threading.RLock, "Leave it out of the state"),
    "a_thread_local": (threading.local, "Leave it out of the state"),
    "a_stream": (lambda: io.TextIOWrapper(io.BytesIO()), "Leave it out of the state"),
    "a_connection": (lambda: sqlite3.connect(":memory:"), "Leave it out of the state"),
    "a_socket_like_iterator": (lambda: iter([1]), "Store plain values instead"),
    "a_generator": (lambda: (n for n in ()), "Store the list of what it yields"),
    "a_function": (lambda: app.make_one, "Store what it is to be called with"),
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
    "a_type_variable": (lambda: app.T, "Store plain values instead"),
    "a_forward_reference": (lambda: typing.List["Point"], "Use a class"),  # noqa: UP006, F821
    "an_annotation": (lambda: typing.Annotated[int, "x"], "Use a class"),
    "a_signature": (lambda: typing.Callable[[int], str], "Use a class"),
    "a_zone_without_a_key": (lambda: _zone_from_a_file(), "has no key to find it by"),
}


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


def test_a_type_that_could_be_stored_is_advised_to_be_allowed() -> None:
    for value in (app.Unlisted(1), app.UnlistedPair(1), app.UnlistedError("x"), Path("x"), collections.UserDict()):
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
