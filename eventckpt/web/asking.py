"""How an answer is asked for on a page, by the type that it must be of: a field for it, in words, and what is sent by
it as a value of JSON.

What a class has for fields, or an enum for members, is told where the application's code is loaded: nothing is
imported here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from itertools import chain
from typing import Any, Final, NamedTuple, cast, get_origin

from ..answers.programs import json_in
from ..events import PendingRequest
from ..exit_codes import USAGE, Failure
from ..text import described, safe

__all__ = ["Field", "field_for", "is_given", "response_in"]

_DEEPEST: Final = 64  # of JSON
_MOST: Final = 50  # fields of a class, or members of an enum
_LONGEST: Final = 100  # characters of a default
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "builtins:bool": ("bool", "yes or no"),
    "builtins:str": ("text", "text"),
    "builtins:int": ("number", "a whole number"),
    "builtins:float": ("number", "a number"),
    "str | None": ("text or none", "text, or none"),
}
"""How an answer of a type is given, and what it is in words; of any other type, as JSON."""

_EMPTY: Final = ("meant", "Empty text, on purpose")
_AS_SHOWN: Final = ("meant", "As it stands, on purpose")
_NONE: Final = ("none", "None, in the place of text")


class Tick(NamedTuple):
    """A box beside a field, for an answer that is not typed: no single click on what nobody touched answers."""

    name: str
    """That it is sent by."""
    label: str
    is_ticked: bool


class Field(NamedTuple):
    """A field for an answer."""

    request_id: str
    prompt: str
    name: str
    """That its answer is sent by."""
    kind: str
    """bool, text, number, text or none, choice, or json."""
    takes: str
    """In words; empty: not known."""
    choices: list[tuple[str, str]]
    """Of a choice: what is sent, and what it is called."""
    parts: list[str]
    """Of a class: its fields, each with its type and default."""
    stands: str
    """What stands in it while nobody has touched it."""
    typed: str
    """What stands in it."""
    ticks: list[Tick]


def field_for(
    asked: PendingRequest | None,
    request_id: str,
    *,
    is_loaded: bool,
    sent: Mapping[str, str] | None = None,
    place: str = "",
) -> Field:
    """The field for the answer to a question.

    Args:
        asked: the question; None: nothing is known of it any more.
        request_id: its id.
        is_loaded: whether the application's types may be looked at.
        sent: what was typed already, by the name of its field.
        place: what tells this field from others of the same form.
    """
    name, given = f"response{place}", sent or {}
    expected = asked.response_type or "" if asked is not None else ""
    kind, takes = _KINDS.get(expected, ("json", expected.removeprefix("builtins:")))
    cls = _loaded(expected) if is_loaded and kind == "json" else None
    choices = _members(cls) if cls is not None else []
    parts, template = _fields(cls) if cls is not None else ([], "")
    prompt = asked.prompt or asked.request_type if asked is not None else ""
    kind = "choice" if choices else kind
    typed = given.get(name, "" if given else template)
    ticks = _ticks(kind, template, given, place)
    return Field(request_id, prompt, name, kind, takes, choices, parts, template, typed, ticks)


def is_given(sent: Mapping[str, str], place: str) -> bool:
    """Whether anything was typed, chosen or ticked for a field."""
    return bool(_given(sent, place))


def response_in(sent: Mapping[str, str], place: str = "", what: str = "The answer") -> object:
    """What was sent for a field, as a value of JSON.

    Args:
        sent: the values by the names of the fields.
        place: see `field_for`.
        what: how it is called where something is wrong with it.

    Raises:
        Failure: it is none, or nests deep; nothing was given, or two things at once.
    """
    given, kind = _given(sent, place), sent.get(f"as{place}", "")
    if len(given) > 1:
        raise Failure(
            USAGE, f"{what} is {len(given)} things at once: {' and '.join(given)}. Leave one of them. Nothing was done."
        )
    if not given:
        labels = [f"“{each.label}”" for each in _ticks(kind, sent.get(f"stands{place}", ""))]
        otherwise = f", or tick {' or '.join(labels)}" if labels else ""
        raise Failure(USAGE, f"{what} was not given: the field is as it was. Fill it in{otherwise}. Nothing was done.")
    if kind == "text or none" and f"none{place}" in sent:
        return None
    typed = _in_lines(sent.get(f"response{place}", ""))
    if kind in ("text", "text or none"):
        return typed
    if kind == "number":
        return _number(typed, what)
    try:
        value: object = json_in(typed, what)
    except Failure as error:
        raise Failure(error.code, f"{error} Nothing was done.") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = list(chain.from_iterable(map(_within, level)))
        if not level:
            return value
    raise Failure(USAGE, f"{what} nests more than {_DEEPEST} deep. Nothing was done.")


def _given(sent: Mapping[str, str], place: str) -> list[str]:
    """What was given for a field, in words."""
    stands = sent.get(f"stands{place}", "")
    is_typed = _in_lines(sent.get(f"response{place}", "")) != _in_lines(stands)
    ticks = _ticks(sent.get(f"as{place}", ""), stands, sent, place)
    return [*(["what was typed"] if is_typed else []), *(f"“{each.label}”" for each in ticks if each.is_ticked)]


def _ticks(kind: str, stands: str, sent: Mapping[str, str] | None = None, place: str = "") -> list[Tick]:
    """The boxes of a kind of field. Of yes and no, a choice and a number each answer is chosen or typed."""
    told = {"text": [_EMPTY], "text or none": [_EMPTY, _NONE], "json": [_AS_SHOWN] if stands else []}.get(kind, [])
    return [Tick(f"{name}{place}", label, f"{name}{place}" in (sent or {})) for name, label in told]


def _in_lines(typed: str) -> str:
    """What was typed, without the ends of lines that browsers send."""
    return typed.replace("\r\n", "\n")


def _number(typed: str, what: str) -> object:
    try:
        value: object = json.loads(typed)
    except ValueError:
        value = None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Failure(
            USAGE, f"{what} takes a number, written as 3 or 1.5, which {described(typed)} is not. Nothing was done."
        )
    return value


def _within(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _loaded(key: str) -> type[Any] | None:
    """The class of a key, where it is loaded already."""
    module, colon, path = key.partition(":")
    found: object = sys.modules.get(module) if colon else None
    for name in path.split("."):
        found = cast("dict[str, object]", getattr(found, "__dict__", {})).get(name)
    return cast("type[Any]", found) if isinstance(found, type) else None


def _members(cls: type[Any]) -> list[tuple[str, str]]:
    """Those of an enum, each with the JSON that stands for it; none, where some member has no such JSON."""
    if not issubclass(cls, Enum) or len(cls) > _MOST:
        return []
    if not all(isinstance(each.value, (str, int, float)) for each in cls):
        return []
    return [(json.dumps(each.value), safe(each.name)) for each in cls]


def _fields(cls: type[Any]) -> tuple[list[str], str]:
    """Those of a dataclass or a model, and a template of JSON, in which all that has no default is null."""
    told = _of_dataclass(cls) if is_dataclass(cast(object, cls)) else _of_model(cls)
    shown = [f"{name}: {kind}{'' if default is MISSING else f' = {_short(default)}'}" for name, kind, default in told]
    template = {name: None if default is MISSING else _as_json(default) for name, _, default in told}
    return shown[:_MOST], json.dumps(template, indent=2, ensure_ascii=False) if 0 < len(told) <= _MOST else ""


def _of_dataclass(cls: type[Any]) -> list[tuple[str, str, object]]:
    return [(each.name, _type_text(each.type), _default(each)) for each in fields(cls) if each.init]


def _default(field: Any) -> object:
    """That of a field; what a function of the application would give is not asked for."""
    if field.default_factory is MISSING:
        return field.default
    factory: object = get_origin(field.default_factory) or field.default_factory
    empty: dict[object, object] = {list: [], dict: {}}
    return empty.get(factory)


def _of_model(cls: type[Any]) -> list[tuple[str, str, object]]:
    model = cast("dict[str, Any]", getattr(cls, "model_fields", None) or {})
    return [
        (name, _type_text(each.annotation), MISSING if each.is_required() else each.default)
        for name, each in model.items()
    ]


def _type_text(kind: object) -> str:
    if isinstance(kind, str):
        return safe(kind)
    return safe(kind.__qualname__ if type(kind) is type else str(kind))


def _short(default: object) -> str:
    text = described(default)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _as_json(default: object) -> object:
    try:
        json.dumps(default)
    except (TypeError, ValueError, RecursionError):
        return None
    return default
