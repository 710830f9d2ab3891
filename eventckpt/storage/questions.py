"""What an event says of the questions that its checkpoint waits for: what is asked, what an answer must be, since when.

As all that a header says, none of it refuses a save: what cannot be told is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec

from .. import settings
from ..codec.type_expressions import is_type_expression, taken_apart
from ..events import CheckpointEvent, PendingRequest
from ..log import logger_of
from ..text import described
from .memory import Tip
from .plain_text import MAX_NAME, is_class, is_text, key_of, text_of

__all__ = ["MAX_PROMPT", "asked_since", "describe_request", "prompt_of", "response_type_of"]

logger: Final = logger_of("eventckpt")

MAX_PROMPT: Final = 200
"""Characters of a question's text in a header; the rest is left out."""

_T = TypeVar("_T")
_mro: Any = type.__dict__["__mro__"].__get__
_BUILTIN: Final = "builtins:"


class _Describer:
    """A function that was registered, and whether it was said that it fails."""

    def __init__(self, fn: Callable[[Any], str]) -> None:
        self._fn = fn
        self._has_failed = False

    def prompt(self, data: object, key: str) -> str | None:
        try:
            found = cast(object, self._fn(data))
        except Exception as error:
            return self._fails(key, f"raised {type(error).__name__}")
        if not is_text(found):
            return self._fails(key, f"gave a {described(type(found).__name__)}, which is no text")
        return text_of(found, MAX_PROMPT) or None

    def _fails(self, key: str, how: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            logger.warning("What describes requests of %s %s: they are saved without a prompt.", key, how)


_describers: dict[type[Any], _Describer] = {}


def describe_request(request_type: type[_T], fn: Callable[[_T], str]) -> None:
    """Say how a question is put to people: what `fn` makes of the data of a request is the `prompt` of its event, which
    the inbox shows. For every storage of the process; the last one that is given for a class counts.

    It is called at every save of a checkpoint that waits for such a request, before the save awaits anything. What it
    raises is logged once, and the request is saved without a prompt. A prompt is stored in plain text.

    Args:
        request_type: the class of the request's data; one that is derived from it is described so, too, unless it has
            a describer of its own.
        fn: gets the data, and gives a text, of which 200 characters are kept.

    Raises:
        TypeError: `request_type` is no class, or `fn` no plain function.
    """
    settings.instance("request_type", request_type, type, what="a class")
    settings.plain_function("fn", fn)
    _describers[request_type] = _Describer(fn)


def prompt_of(data: object) -> str | None:
    """What is asked, as the nearest describer of the data's class says it; None where there is none, or it failed."""
    cls = type(data)
    describer = next((_describers[base] for base in _mro(cls) if base in _describers), None) if _describers else None
    return describer.prompt(data, key_of(cls)) if describer is not None else None


def response_type_of(response_type: object) -> str:
    """What an answer must be: the key of a class, or an expression of types as somebody would write it. Empty where it
    is neither, or of a form that no checkpoint could hold."""
    if is_class(response_type):
        return key_of(response_type)
    parts = _Parts()
    try:
        if is_type_expression(response_type):
            _write(response_type, parts, 0)
    except Exception:  # what `typing` was given may be anything, and is asked what it holds
        return ""
    return text_of(parts.text, MAX_NAME)


class _Parts:
    """A text that is written bit by bit, as far as there is room."""

    def __init__(self) -> None:
        self.text: str = ""

    @property
    def is_full(self) -> bool:
        return len(self.text) > MAX_NAME

    def add(self, text: str) -> None:
        if not self.is_full:
            self.text += text


_MAX_DEPTH: Final = 16


def _write(value: object, parts: _Parts, depth: int) -> None:
    if parts.is_full or depth > _MAX_DEPTH:
        parts.add("…")
    elif value is Ellipsis:
        parts.add("...")
    elif value is None or value is type(None):
        parts.add("None")
    elif is_class(value):
        parts.add(key_of(value).removeprefix(_BUILTIN))
    elif type(value) is list:  # the arguments of a Callable
        _write_all(cast("list[object]", value), parts, depth, "[", ", ", "]")
    else:
        _, origin, arguments = taken_apart(value)
        if origin == "Literal":
            _write_literals(arguments, parts)
        elif origin in (None, "Union"):
            _write_all(arguments, parts, depth, "", " | ", "")
        else:
            parts.add(origin if isinstance(origin, str) else key_of(origin).removeprefix(_BUILTIN))
            if arguments:
                _write_all(arguments, parts, depth, "[", ", ", "]")


def _write_all(values: list[Any], parts: _Parts, depth: int, first: str, between: str, last: str) -> None:
    parts.add(first)
    for number, value in enumerate(values):
        if parts.is_full:
            return
        parts.add(between if number else "")
        _write(value, parts, depth + 1)
    parts.add(last)


def _write_literals(values: list[Any], parts: _Parts) -> None:
    texts = (repr(value) if type(value) in (str, int, bool, bytes, type(None)) else text_of(value) for value in values)
    parts.add(f"Literal[{', '.join(texts)}]")


def asked_since(draft: CheckpointEvent, *before: Tip | None) -> CheckpointEvent:
    """The header of a checkpoint whose questions were asked when the first checkpoint asked them that waits for them.

    Args:
        draft: says of each question that it is asked now.
        before: what this checkpoint follows, as far as is known: its own event, where it is saved again, and that of
            the checkpoint before.
    """
    requests, known = draft.summary.pending_requests, dict[str, str]()
    for tip in before:
        if tip is not None:
            known = dict(tip.asked) | known
    if not known or not requests:
        return draft
    pending = tuple(_asked_at(request, known.get(request.request_id, request.asked_at)) for request in requests)
    return msgspec.structs.replace(draft, summary=msgspec.structs.replace(draft.summary, pending_requests=pending))


def _asked_at(request: PendingRequest, moment: str) -> PendingRequest:
    return msgspec.structs.replace(request, asked_at=moment)
