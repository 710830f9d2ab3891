"""Every class that is importable under the prefixes which the framework admits, in the installed versions."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

__all__ = ["classes_of", "framework_classes"]


def _modules(name: str) -> Iterator[ModuleType]:
    """A package and all its submodules. Those that need what is not installed have no classes that could be stored."""
    package = importlib.import_module(name)
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{name}.", onerror=lambda _: None):
        try:
            yield importlib.import_module(found.name)
        except ImportError:
            continue


@functools.cache
def classes_of(package: str) -> dict[str, type[Any]]:
    """The classes that the modules of a package define, by the keys that the framework would admit them under."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # modules of the framework that are experimental say so when imported
        return {
            f"{module.__name__}:{found.__qualname__}": found
            for module in _modules(package)
            for found in vars(module).values()
            if isinstance(found, type) and found.__module__ == module.__name__ and "." not in found.__qualname__
        }


def framework_classes() -> dict[str, type[Any]]:
    """Those of the framework itself."""
    return classes_of("agent_framework") | classes_of("agent_framework_orchestrations")
