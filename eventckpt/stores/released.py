"""Engines that were made for 0.1.0 go on working: what a port's method has got as an argument since, theirs lacks.

A port names its newer arguments and what a method without them amounts to. Whoever uses a port passes what it has, and
need not know for which version the engine was made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeAlias

__all__ = ["Adapter", "adapt"]

Adapter: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes of a method of 0.1.0 one that takes today's arguments."""


def adapt(engine: type, method: str, argument: str, adapter: Adapter) -> None:
    """Put an adapter around a method that a class has by itself and that lacks an argument; else nothing happens.

    Args:
        engine: a class that has just been made.
        method: the name of the method.
        argument: what it takes today.
        adapter: what to put around it.
    """
    own = vars(engine).get(method)
    if inspect.isfunction(own) and not _takes(own, argument):
        setattr(engine, method, update_wrapper(adapter(own), own))


def _takes(method: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(method).parameters
    return argument in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
