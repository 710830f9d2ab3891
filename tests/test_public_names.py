"""What 0.1.0 had for others to use is where it was, under its names, and takes what it took.

`tests/golden/0.1.0.names.json` is what the modules' `__all__` named then: of each class its public members, of what can
be called its parameters (`*` before those that are given by name only), and what an engine had to implement. It was
read from the code of 0.1.0; a released file is never made anew.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Final

import pytest

RELEASED: Final[list[tuple[str, str, dict[str, Any]]]] = [
    (module, name, members)
    for module, name, members in json.loads((Path(__file__).parent / "golden/0.1.0.names.json").read_text())
]

DOCUMENTED: Final = {
    "eventckpt.cli": ("app", "main"),
    "eventckpt.stores.cosmos.items": ("header_of", "is_part"),
    "eventckpt.storage.cosmos": ("CosmosCheckpointStorage",),
    "eventckpt.events": ("CheckpointEvent", "ForkPoint", "Payload", "PendingRequest", "RunInfo", "StreamId", "Summary"),
    "eventckpt.delta": ("encode", "restore"),
    "eventckpt.allowlist": ("TypeGate",),
    "projections.worker": ("app",),
}
"""What the documents, samples and console scripts of 0.1.0 took from modules that the file does not list."""

PROTOCOL: Final = "()"
ABSTRACT: Final = "abstract"


def _id(row: tuple[str, str, Any]) -> str:
    return f"{row[0]}.{row[1]}"


each_name = pytest.mark.parametrize("row", RELEASED, ids=_id)


def callables(row: tuple[str, str, dict[str, Any]]) -> Iterator[tuple[str, list[str], Any]]:
    """Where a name can be called: the name or its member, the parameters of 0.1.0, and what is there now."""
    module, name, members = row
    there = getattr(importlib.import_module(module), name)
    for member, parameters in members.items():
        if member != ABSTRACT and parameters is not None:
            yield member, parameters, there if member == PROTOCOL else getattr(there, member)


@each_name
def test_a_released_name_is_where_it_was_with_all_its_members(row: tuple[str, str, dict[str, Any]]) -> None:
    module, name, members = row
    place = importlib.import_module(module)
    assert name in place.__all__
    there = getattr(place, name)
    fields = {field for each in getattr(there, "__mro__", ()) for field in getattr(each, "__annotations__", {})}
    missing = {member for member in members if member not in (PROTOCOL, ABSTRACT)} - {*dir(there), *fields}
    assert not missing


@each_name
def test_a_released_name_takes_what_it_took(row: tuple[str, str, dict[str, Any]]) -> None:
    """Each parameter under its name, those by position in their places; what came since has a default.

    Fields of a dataclass are given by name, so that another one may come between them.
    """
    for member, parameters, there in callables(row):
        now = {name: each for name, each in inspect.signature(there).parameters.items() if name != "self"}
        assert {name.lstrip("*") for name in parameters} <= now.keys(), member
        by_position = [name for name in parameters if not name.startswith("*") and not is_dataclass(there)]
        assert [*now][: len(by_position)] == by_position, member
        open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        asked = {name for name, each in now.items() if each.default is each.empty and each.kind not in open_ended}
        assert asked <= {name.lstrip("*") for name in parameters}, member


@pytest.mark.parametrize("row", [row for row in RELEASED if ABSTRACT in row[2]], ids=_id)
def test_an_engine_that_was_written_for_a_released_port_still_is_one(row: tuple[str, str, dict[str, Any]]) -> None:
    """What a port asks for now and did not then has an implementation of its own."""
    module, name, members = row
    port = getattr(importlib.import_module(module), name)
    assert set(port.__abstractmethods__) <= set(members[ABSTRACT])


@pytest.mark.parametrize("module", DOCUMENTED)
def test_what_the_documents_named_is_importable(module: str) -> None:
    there = importlib.import_module(module)
    assert [name for name in DOCUMENTED[module] if not hasattr(there, name)] == []


def test_the_file_is_that_of_the_release() -> None:
    """The control: the modules that it lists, and a member of each kind."""
    listed = {(module, name): members for module, name, members in RELEASED}
    assert {module for module, _ in listed} >= {"eventckpt", "projections", "eventckpt.stores.conformance"}
    assert listed["eventckpt", "CheckpointAudit"]["at"] == ["stream", "*seq", "*time", "*iteration"]
    assert "append" in listed["eventckpt", "EventStore"][ABSTRACT]
    assert "MIGRATIONS" in {name for module, name in listed if module == "eventckpt.stores.sqlite"}
