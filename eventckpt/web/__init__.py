"""The viewer: what is in a store, on pages that a browser shows. It only looks, unless it was given an application to
answer with.

Its names need the `web` extra, and are there once they are asked for: so its command can say what is not installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answering import Answering
    from .app import create_app
    from .standing import Operations, Standing

__all__ = ["Answering", "Operations", "Standing", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    where = {"Answering": "answering", "create_app": "app"}.get(name, "standing")
    return getattr(import_module(f"{__name__}.{where}"), name)
