"""How deep stored bytes may nest: as deep as `MAX_DEPTH` says to everyone who reads them, on every Python. Where the
interpreter's own limit lies, and whether it binds what C code does, changes from one version to the next."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventckpt import CheckpointCodec, CheckpointDecodeError, StreamId, delta
from eventckpt.allowlist import TypeGate
from eventckpt.audit.fork import fork_event
from eventckpt.audit.import_storage import Folder, decoded
from eventckpt.codec import MAX_DEPTH
from eventckpt.codec.tree_reader import read_tree, read_trees
from eventckpt.testing.events import make_event

from .fidelity import checkpoint

FIELDS = {"workflow_name": "orders", "graph_signature_hash": "g", "checkpoint_id": "x", "state": None}
ORIGIN = make_event(StreamId("orders", "origin"), 1)
BEYOND = [MAX_DEPTH + 2, 990, 1000, 5000, 100_000]
"""Levels in one field, the innermost an empty list, which counts for none: one too many, as many as the stack of some
Python has room for and that of another has not, and more than any has."""


@pytest.fixture(params=["as it is", "high"], autouse=True)
def the_interpreters_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """How deep Python code may call; up to 3.11 the calls of C code count, too."""
    before = sys.getrecursionlimit()
    if request.param == "high":
        sys.setrecursionlimit(8 * before)
    yield
    sys.setrecursionlimit(before)


def stored(levels: int) -> bytes:
    return msgspec.msgpack.encode(FIELDS)[:-1] + b"\x91" * (levels - 1) + b"\x90"


def document(levels: int) -> str:
    return json.dumps(FIELDS).removesuffix("null}") + "[" * levels + "]" * levels + "}"


def forked(raw: bytes) -> object:
    return fork_event(msgspec.structs.replace(ORIGIN, payload=delta.encode(raw)), raw, "copy", actor=None)


READERS: dict[str, Callable[[bytes], object]] = {
    "a load": CheckpointCodec().decode,
    "a look": lambda raw: read_tree(raw, lambda key: True),
    "a comparison": lambda raw: read_trees(raw, CheckpointCodec().encode(checkpoint({})), lambda key: True),
    "a fork": forked,
}


@pytest.mark.parametrize("levels", BEYOND)
@pytest.mark.parametrize("reader", READERS)
def test_stored_bytes_that_nest_deeper_than_the_limit_are_refused_by_every_reader(reader: str, levels: int) -> None:
    with pytest.raises(CheckpointDecodeError, match=r"nest deeper than|Recursion limit reached"):
        READERS[reader](stored(levels))


@pytest.mark.parametrize("reader", READERS)
def test_what_can_be_saved_is_taken_by_every_reader(reader: str) -> None:
    state: Any = {}
    for _ in range(MAX_DEPTH - 2):  # the checkpoint's fields and its state
        state = {"in": state}
    READERS[reader](CheckpointCodec().encode(checkpoint(state)))


@pytest.mark.parametrize("levels", BEYOND)
async def test_a_document_of_the_framework_that_nests_deeper_than_the_limit_is_not_imported(
    tmp_path: Path, levels: int
) -> None:
    (tmp_path / "x.json").write_text(document(levels))
    with pytest.raises(CheckpointDecodeError, match=r"nest deeper than|recursion"):
        await Folder(tmp_path).load("x")


def test_nor_is_one_that_came_parsed() -> None:
    state: list[Any] = []
    for _ in range(MAX_DEPTH):
        state = [state]
    with pytest.raises(CheckpointDecodeError, match=f"nest deeper than {MAX_DEPTH} levels"):
        decoded(FIELDS | {"state": state}, TypeGate((), storage_name="test"))
