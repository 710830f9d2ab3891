"""Whether a response is of the type that a request asks for, and what a JSON value is as one of that type.

The type is what the application's code gave to `request_info`, as the checkpoint has it. What the framework itself
takes for it is taken: a dict for a dataclass, a model or a class with `from_dict`, a list for a tuple or a set, text
for a `Content`. The framework would refuse anything else only once the run goes on; here nothing was done by then.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

from agent_framework import Content, WorkflowEvent
from pydantic import BaseModel, ConfigDict, PlainValidator, TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from ..text import described, safe

__all__ = ["Convert", "WrongTypeError", "checked", "made_of_json"]

Convert = Callable[[Any, WorkflowEvent[Any]], Any]
"""From what was given as the response to a request to what the workflow gets."""

_CONFIG: Final = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
"""A key that a dataclass has no field for is an error, as it is for the framework: it may be a misspelt one."""
_APPROVAL: Final = "function_approval_request"


class WrongTypeError(Exception):
    """A response is not of the type that its request asks for; says which that is, and what is wrong."""


def checked(response: Any, request: WorkflowEvent[Any]) -> Any:
    """A Python value as a value of the type that a request asks for.

    Raises:
        WrongTypeError: it is none, and the framework would not make one of it.
    """
    expected = _expected(request)
    try:
        return _validated(response, expected)
    except WrongTypeError:
        if get_origin(expected) is None and isinstance(expected, type) and isinstance(response, expected):
            return response  # such as True where an int is asked for
        if not isinstance(response, (dict, list)):
            raise
        return _of_json(cast(object, response), expected)


def made_of_json(response: Any, request: WorkflowEvent[Any]) -> Any:
    """What a value that was read from JSON is as a value of the type that a request asks for. To a request for the
    approval of a tool call, true and false are answers.

    Raises:
        WrongTypeError: it is none.
    """
    asked: object = request.data
    if isinstance(response, bool) and isinstance(asked, Content) and asked.type == _APPROVAL:
        return asked.to_function_approval_response(response)
    return _of_json(response, _expected(request))


def _expected(request: WorkflowEvent[Any]) -> Any:
    """The type of a request's response. One that is not known is the framework's to check."""
    try:
        return request.response_type
    except RuntimeError:
        return Any


def _of_json(response: object, expected: Any) -> Any:
    try:
        text = json.dumps([response], allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(response, expected, safe(error)) from error
    return _told(lambda adapter: adapter.validate_json(text, strict=True), response, expected)


def _validated(response: object, expected: Any) -> Any:
    return _told(lambda adapter: adapter.validate_python((response,), strict=True), response, expected)


def _told(validate: Callable[[TypeAdapter[Any]], Any], response: object, expected: Any) -> Any:
    """What `validate` gives, or what is wrong in one line."""
    try:
        # In a tuple, since a class by itself takes no configuration.
        adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, tuple)[_buildable(expected)], config=_CONFIG)
        return validate(adapter)[0]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"][1:]))
        raise _wrong(response, expected, f"{path}: {first['msg']}" if path else first["msg"]) from error
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise _wrong(response, expected, str(error).partition("\n")[0]) from error


def _buildable(expected: Any) -> Any:
    """A type in which each class that is made by its `from_dict`, as those of the framework are, says so."""
    origin, parts = get_origin(expected), get_args(expected)
    if origin is None:
        return _by_from_dict(expected) if _has_from_dict(expected) else expected
    built = tuple(map(_buildable, parts))
    if origin is Literal or built == parts:
        return expected
    return Union[built] if origin in (Union, types.UnionType) else origin[built]  # noqa: UP007 - of a tuple


def _has_from_dict(expected: Any) -> bool:
    made_otherwise = is_dataclass(expected) or (isinstance(expected, type) and issubclass(expected, BaseModel))
    return isinstance(expected, type) and not made_otherwise and callable(getattr(expected, "from_dict", None))


def _by_from_dict(cls: Any) -> Any:
    return Annotated[cls, PlainValidator(partial(_from_dict, cls))]


def _from_dict(cls: Any, value: object) -> object:
    if isinstance(value, cls):
        return value
    if cls is Content and isinstance(value, str):
        return Content.from_text(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"Input should be {_name(cls)}, or what its from_dict takes")
    try:
        return cls.from_dict(dict(cast("Mapping[str, Any]", value)))
    except Exception as error:  # whatever the class raises, it makes nothing of this
        raise ValueError(f"{_name(cls)}.from_dict: {safe(error)}") from error


def _wrong(response: object, expected: Any, why: str) -> WrongTypeError:
    return WrongTypeError(f"takes {_name(expected)}, which {described(response)} is not ({safe(why)})")


def _name(expected: Any) -> str:
    return safe(expected.__qualname__ if isinstance(expected, type) and get_origin(expected) is None else expected)
