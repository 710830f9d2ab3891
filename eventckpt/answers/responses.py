"""Whether a response is of the type that a request asks for, and what a JSON value is as one of that type.

The type is what the application's code gave to `request_info`, as the checkpoint has it. What the framework itself
takes for it is taken: a dict for a dataclass, a model or a class with `from_dict`, a list for a tuple or a set, text
for a `Content`. The framework would refuse anything else only once the run goes on; here nothing was done by then.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import InitVar, is_dataclass
from datetime import datetime, time, timezone
from enum import Enum
from functools import lru_cache
from math import isinf
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

from agent_framework import Content, WorkflowEvent
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from ..text import described, safe

__all__ = ["Convert", "WrongTypeError", "checked", "made_of_json"]

Convert = Callable[[Any, WorkflowEvent[Any]], Any]
"""From what was given as the response to a request to what the workflow gets."""

_Leaf = Callable[[object, Any], Any]
"""What validates a value that is taken apart no further."""

_CONFIG: Final = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
_APPROVAL: Final = "function_approval_request"
_OWN_RESPONSE: Final = {
    _APPROVAL: ("function_approval_response", "id"),
    "computer_tool_call": ("computer_tool_result", "call_id"),
    "function_call": ("function_result", "call_id"),
}
"""Of a content that asks, the only type of content that answers it, and by what it says which it answers."""


class WrongTypeError(Exception):
    """A response is not of the type that its request asks for; says which that is, and what is wrong."""


class _Unfit(Exception):  # noqa: N818 - becomes a WrongTypeError
    """What is wrong, and where in the value."""

    def __init__(self, why: object, *path: object) -> None:
        super().__init__(why)
        self.path = path


def checked(response: Any, request: WorkflowEvent[Any]) -> Any:
    """A Python value as a value of the type that a request asks for.

    Raises:
        WrongTypeError: it is none, and the framework would not make one of it.
    """
    return _answer(response, request, _of_python)


def made_of_json(response: Any, request: WorkflowEvent[Any]) -> Any:
    """What a value that was read from JSON is as a value of the type that a request asks for. To a request for the
    approval of a tool call, true and false are answers.

    Raises:
        WrongTypeError: it is none.
    """
    asked: object = request.data
    if isinstance(response, bool) and _asks_for_content(request) and cast(Content, asked).type == _APPROVAL:
        return cast(Content, asked).to_function_approval_response(response)
    return _answer(response, request, _of_json)


def _answer(response: object, request: WorkflowEvent[Any], leaf: _Leaf) -> Any:
    expected = _expected(request)
    try:
        made = _made(response, expected, leaf)
        if _asks_for_content(request):
            made = _own_response(made, request.data, response)
    except _Unfit as error:
        path = ".".join(map(str, error.path))
        raise _wrong(response, expected, f"{path}: {error}" if path else str(error)) from error
    except RecursionError as error:
        raise _wrong(response, expected, "it nests too deep") from error
    return made


def _expected(request: WorkflowEvent[Any]) -> Any:
    """The type of a request's response. One that is not known is the framework's to check."""
    try:
        return request.response_type
    except RuntimeError:
        return Any


def _asks_for_content(request: WorkflowEvent[Any]) -> bool:
    return isinstance(request.data, Content) and _expected(request) is Content


def _own_response(made: Content, asked: Content, given: object) -> Content:
    """The response to a content, which may take one type of response only, and its own."""
    if asked.type not in _OWN_RESPONSE:
        return made
    kind, name = _OWN_RESPONSE[asked.type]
    if made.type != kind or getattr(made, name) != getattr(asked, name):
        raise _Unfit(f"a {asked.type} is answered by a {kind} with its {name}, {described(getattr(asked, name))}")
    if _checks(asked, "pending_safety_checks") != _checks(made, "acknowledged_safety_checks"):
        raise _Unfit("it acknowledges the pending safety checks, all of them and no others")
    return _approval(made, asked, given) if asked.type == _APPROVAL else made


def _approval(made: Content, asked: Content, given: object) -> Content:
    """The approval of a call. One that was given as a dict gets from the request what it does not repeat."""
    fields = cast("dict[str, object]", given) if isinstance(given, dict) else {"approved": made.approved}
    approved = fields.get("approved")  # of a dict, since `from_dict` takes all but true and false for false
    if not isinstance(approved, bool):
        raise _Unfit(f"it is true or false, not {described(approved)}", "approved")
    calls = [call.to_dict() for call in (made.function_call, asked.function_call) if isinstance(call, Content)]
    if len(calls) == 2 and calls[0] != calls[1]:
        raise _Unfit("it is about another call than was asked", "function_call")
    return asked.to_function_approval_response(approved) if isinstance(given, dict) else made


def _checks(content: Content, name: str) -> set[object]:
    return {check.get("id") for check in getattr(content, name, None) or ()}


def _made(value: object, expected: Any, leaf: _Leaf) -> Any:
    """A value as one of a type, as the framework makes it: what has parts is made of them, and all else is checked.

    Raises:
        _Unfit: it is none.
    """
    origin, parts = get_origin(expected), get_args(expected)
    if origin is None and isinstance(expected, type):
        return _of_class(value, cast("type[Any]", expected), leaf)
    if origin in (Union, types.UnionType):
        return _one_of(value, expected, parts, leaf)
    if origin is Literal:
        return _literal(value, expected, parts, leaf)
    if isinstance(value, list) and origin in (list, set, frozenset, tuple):
        return _collected(cast("list[object]", value), cast(Any, origin), parts, leaf)
    if isinstance(value, dict) and origin is dict and parts:
        return _keyed(cast("dict[object, object]", value), parts[0], parts[1], leaf)
    return leaf(cast(object, value), expected)


def _of_class(value: object, cls: type[Any], leaf: _Leaf) -> Any:
    if _is_typed_dict(cls):
        raise _Unfit("the framework cannot tell what is a TypedDict: ask for a dataclass or a dict")
    if _is_one(value, cls):
        return leaf(value, cls)
    if _has_from_dict(cls):
        return _by_from_dict(cls, value)
    if not isinstance(value, dict):
        return leaf(value, cls)
    fields = cast("dict[object, object]", value)
    if issubclass(cls, BaseModel):
        return _built(cls, lambda: _plain_times(cls.model_validate(fields)))
    return _by_fields(cls, fields, leaf) if is_dataclass(cast(object, cls)) else leaf(fields, cls)


def _is_typed_dict(cls: type[object]) -> bool:
    return issubclass(cls, dict) and hasattr(cast(object, cls), "__total__")


def _is_one(value: object, expected: type[Any]) -> bool:
    try:
        return isinstance(value, expected)
    except TypeError:  # such as a protocol
        return False


def _one_of(value: object, expected: Any, parts: tuple[Any, ...], leaf: _Leaf) -> Any:
    """What is of one of the types stays so; otherwise the first counts that it can be made into."""
    for each in parts:
        with suppress(_Unfit):
            if type(same := _strictly(value, each)) is type(value):
                return same
    for each in parts:
        with suppress(_Unfit):
            return _made(value, each, leaf)
    raise _Unfit(f"it is none of {_name(expected)}")


def _literal(value: object, expected: Any, parts: tuple[object, ...], leaf: _Leaf) -> Any:
    """True is not 1 here, as for the framework."""
    for each in parts:
        if type(each) is type(value) and each == value:
            return value
        if isinstance(each, Enum):
            with suppress(_Unfit):
                if leaf(value, type(each)) is each:
                    return each
    raise _Unfit(f"it is none of {_name(expected)}")


def _collected(values: list[object], origin: Callable[[list[Any]], Any], parts: tuple[Any, ...], leaf: _Leaf) -> Any:
    each: list[Any] = list(
        parts if origin is tuple and parts[-1:] != (Ellipsis,) else (parts[:1] or (Any,)) * len(values)
    )
    if len(each) != len(values):
        raise _Unfit(f"it has {len(values):,} items, and {len(each):,} are asked for")
    made = [_within(index, value, each[index], leaf) for index, value in enumerate(values)]
    return _built(origin, lambda: origin(made))


def _keyed(values: dict[object, object], key_type: Any, value_type: Any, leaf: _Leaf) -> dict[Any, Any]:
    keys = list(leaf(dict.fromkeys(values), dict[key_type, None]))
    if len(keys) != len(values):
        raise _Unfit("two of its keys become one")
    return {key: _within(key, value, value_type, leaf) for key, value in zip(keys, values.values(), strict=True)}


def _by_fields(cls: type[Any], values: dict[object, object], leaf: _Leaf) -> Any:
    """A dataclass, made by its constructor. A key that it has no field for may be a misspelt one."""
    fields = {name for name, field in cls.__dataclass_fields__.items() if field.init}
    if other := next((name for name in values if name not in fields), None):
        raise _Unfit(f"{_name(cls)} has no such field", safe(other))
    try:
        hints = get_type_hints(cls)
    except Exception:  # of a name that only a type checker sees; the framework goes on without, too
        hints = {}
    made = {
        cast(str, name): _within(name, value, _without_init_var(hints.get(cast(str, name), Any)), leaf)
        for name, value in values.items()
    }
    return _built(cls, lambda: cls(**made))


def _without_init_var(hint: Any) -> Any:
    return cast(Any, hint).type if type(hint) is InitVar else hint


def _within(where: object, value: object, expected: Any, leaf: _Leaf) -> Any:
    """`_made`, of a part."""
    try:
        return _made(value, expected, leaf)
    except _Unfit as error:
        error.path = (where, *error.path)
        raise


def _built(cls: Any, build: Callable[[], Any]) -> Any:
    """What a constructor gives. Whatever an application's raises, it makes nothing of this."""
    try:
        return build()
    except ValidationError as error:
        raise _first(error) from error
    except Exception as error:
        raise _Unfit(f"{_name(cls)}: {type(error).__name__}: {safe(error)}") from error


def _has_from_dict(expected: type[Any]) -> bool:
    made_otherwise = is_dataclass(expected) or issubclass(expected, BaseModel)
    return not made_otherwise and callable(getattr(expected, "from_dict", None))


def _by_from_dict(cls: Any, value: object) -> object:
    if cls is Content and isinstance(value, str):
        return Content.from_text(value)
    if not isinstance(value, dict):
        raise _Unfit(f"Input should be {_name(cls)}, or what its from_dict takes")
    made = _built(cls, lambda: cls.from_dict(dict(cast("dict[str, Any]", value))))
    if not isinstance(made, cls):
        raise _Unfit(f"{_name(cls)}.from_dict gives none")
    return made


def _of_python(value: object, expected: Any) -> Any:
    try:
        return _strictly(value, expected)
    except _Unfit:
        if get_origin(expected) is None and isinstance(expected, type) and _is_one(value, expected):
            return value  # such as True where an int is asked for
        raise


def _strictly(value: object, expected: Any) -> Any:
    return _told(expected, lambda adapter: adapter.validate_python((value,), strict=True))


def _of_json(value: object, expected: Any) -> Any:
    try:
        text = json.dumps([value], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _Unfit(safe(error)) from error
    made = _plain_times(_told(expected, lambda adapter: adapter.validate_json(text, strict=True)))
    if isinstance(made, float) and isinf(made):
        raise _Unfit("it is too large")
    return made


def _plain_times(made: Any) -> Any:
    """A value whose times have offsets of Python's class: checkpoints hold none of pydantic's."""
    if isinstance(made, (datetime, time)):
        offset = made.utcoffset()
        is_pydantic = type(made.tzinfo).__module__.startswith("pydantic")
        return made.replace(tzinfo=timezone(offset)) if is_pydantic and offset is not None else made
    if isinstance(made, BaseModel):
        vars(made).update({name: _plain_times(held) for name, held in vars(made).items()})
    elif type(made) is dict:
        return {_plain_times(key): _plain_times(held) for key, held in cast("dict[Any, Any]", made).items()}
    elif type(made) in (list, tuple, set, frozenset):
        return type(made)(map(_plain_times, made))
    return made


def _told(expected: Any, validate: Callable[[TypeAdapter[Any]], Any]) -> Any:
    """What `validate` gives."""
    try:
        return validate(_adapter(expected))[0]
    except ValidationError as error:
        raise _first(error, skip=1) from error
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError) as error:
        raise _Unfit(str(error).partition("\n")[0]) from error


@lru_cache(maxsize=256)
def _adapter(expected: Any) -> TypeAdapter[Any]:
    # In a tuple, since a class by itself takes no configuration.
    return TypeAdapter(cast(Any, tuple)[expected], config=_CONFIG)


def _first(error: ValidationError, *, skip: int = 0) -> _Unfit:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return _Unfit(first["msg"], *first["loc"][skip:])


def _wrong(response: object, expected: Any, why: str) -> WrongTypeError:
    return WrongTypeError(f"takes {_name(expected)}, which {described(response)} is not ({safe(why)})")


def _name(expected: Any) -> str:
    return safe(expected.__qualname__ if isinstance(expected, type) and get_origin(expected) is None else expected)
