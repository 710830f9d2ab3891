"""The fields of a stored form, each of the type that it must have, and what is said of one that is not.

For who decodes a form and for who shows it, alike.
"""

from __future__ import annotations

from typing import Any, cast

from ..errors import CheckpointDecodeError
from . import forms as f
from .forms import SHORT

__all__ = ["bytes_of", "listed", "malformed", "text_of", "unknown_kind", "without_a_name"]


def listed(node: dict[str, Any], field: str, default: Any = None) -> list[Any]:
    """A field that holds a list."""
    values = node.get(field, default)
    if type(values) is not list:
        raise malformed(node)
    return cast(list[Any], values)


def bytes_of(node: dict[str, Any]) -> bytes:
    """The bytes of a number, a text or an array."""
    raw = node.get(f.RAW)
    if type(raw) is not bytes:
        raise malformed(node)
    return raw


def text_of(node: dict[str, Any], field: str) -> str:
    """A field that holds text."""
    text = node.get(field)
    if type(text) is not str:
        raise malformed(node)
    return text


def malformed(node: dict[str, Any]) -> CheckpointDecodeError:
    """What to raise where a form is not as it must be."""
    return CheckpointDecodeError(f"A stored {str(node.get(f.FORM))[:SHORT]!r} is malformed; the event is damaged.")


def without_a_name() -> CheckpointDecodeError:
    """What to raise where a form does not say by text what it is."""
    return CheckpointDecodeError("A stored form has a name that is not text.")


def unknown_kind(kind: str) -> CheckpointDecodeError:
    """What to raise where a form is of a kind that this version does not have."""
    return CheckpointDecodeError(
        f"Stored values use the kind {kind[:SHORT]!r}, which this version of eventckpt does not know. "
        "The event was written by a newer version, or is damaged."
    )
