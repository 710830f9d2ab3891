"""What is said of a store's settings, of what an engine found of it, and of the types in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..audit.types import TypeUse
from ..location import ENVIRONMENT
from ..stores import Check
from ..text import may_hold_a_key
from .fields import fields_of

__all__ = ["check_fields", "settings_told", "type_fields"]


def settings_told(environ: Mapping[str, str] = os.environ) -> Iterator[dict[str, str]]:
    """The settings that say where a store is, as JSON: what may be a secret is only said to be set.

    Args:
        environ: the environment.
    """
    for name in ENVIRONMENT:
        value = environ.get(name)
        hidden = name.endswith("KEY") or may_hold_a_key(value or "")
        yield {"name": name, "value": "not set" if value is None else "set" if hidden else value}


def check_fields(check: Check) -> dict[str, Any]:
    """What an engine found, as JSON."""
    return check._asdict()


def type_fields(use: TypeUse) -> dict[str, Any]:
    """A type that is in the store, as JSON."""
    return {"name": use.name, "allowed": use.allowed, "runs": use.runs, "example": fields_of(use.example)}
