"""A checkpoint that was stored with the shapes of its classes is shown, compared and copied like one of 0.1.0, which
recorded none: what differs is how it loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import WorkflowCheckpoint

from eventckpt import CheckpointAudit, CheckpointCodec, CheckpointDecodeError, CheckpointEvent, SqliteCheckpointStorage
from eventckpt.audit.diff import differences
from eventckpt.chain import sealed
from eventckpt.codec.root import opened
from eventckpt.codec.tree import Opaque, read_tree, read_trees, types_in
from eventckpt.delta import Payload, encode, restore
from tests import checkpoint_types as app
from tests.codec.values import VALUES
from tests.fidelity import assert_same, checkpoint

CODEC = CheckpointCodec(app.ALLOWED)
KINDS_OF_0_1_0 = {"int", "str", "bytearray", "tuple", "list", "dict", "set", "frozenset", "type", "enum", "ref"}


def admit(key: str) -> bool:
    return True


def refuse(key: str) -> bool:
    return False


def as_0_1_0_wrote_it(raw: bytes) -> bytes:
    return opened(raw)._replace(shapes=None).packed()


@pytest.fixture(params=VALUES)
def both(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    raw = CODEC.encode(checkpoint(VALUES[request.param](), messages={"a": []}))
    return raw, as_0_1_0_wrote_it(raw)


def test_both_roots_are_shown_alike(both: tuple[bytes, bytes]) -> None:
    new, old = both
    for admits in (admit, refuse):
        assert repr(read_tree(new, admits)) == repr(read_tree(old, admits))
    assert set(read_tree(new, admit)) == {*WorkflowCheckpoint.__dataclass_fields__}
    assert types_in(new) == types_in(old)


def test_between_both_roots_there_is_no_difference(both: tuple[bytes, bytes]) -> None:
    for one, other in (both, both[::-1]):
        for admits in (admit, refuse):
            ours, theirs = read_trees(one, other, admits)
            assert list(differences(ours, theirs)) == []


def test_what_two_checkpoints_have_in_common_is_left_out_with_either_root() -> None:
    raws = [CODEC.encode(checkpoint([[app.Point(1, list(range(100)))], n])) for n in (1, 2)]
    for one in (raws[0], as_0_1_0_wrote_it(raws[0])):
        ours, theirs = read_trees(one, raws[1], admit)
        [difference] = differences(ours, theirs)
        assert (difference.path, difference.before, difference.after) == ("state.value[1]", 1, 2)
        value: Any = ours["state"]
        assert isinstance(value["value"][0], Opaque)


def test_a_type_that_only_the_values_of_other_members_have_is_not_one_of_the_checkpoint() -> None:
    raw = msgspec.msgpack.encode(
        {
            "$": "checkpoint",
            "s": checkpoint({"$": "app:Size", "c": ["S"]}).to_dict(),
            "h": {"app:Size": {"k": "enum", "m": [["S", "S"], ["M", {"$": "app:Width", "s": {"cm": 2}}]]}},
        }
    )
    assert types_in(raw) == {"app:Size"}


@pytest.mark.parametrize(
    "root",
    [
        [],
        {"$": "checkpoint"},
        {"$": "checkpoint", "s": {}},
        {"$": "checkpoint", "s": [], "h": {}},
        {"$": "checkpoint", "s": {}, "h": []},
        {"$": "checkpoint", "s": {}, "h": {}, "x": 1},
        {"$": "checkpoint", "s": {"$": "checkpoint", "s": {}, "h": {}}, "h": {}},
        {"$": "checkpoint", "s": {"state": {"$": "checkpoint", "s": {}, "h": {}}}, "h": {}},
    ],
    ids=repr,
)
def test_a_root_that_is_none_is_refused_by_who_shows_and_by_who_loads(root: Any) -> None:
    raw = msgspec.msgpack.encode(root)
    with pytest.raises(CheckpointDecodeError):
        read_tree(raw, admit)
    with pytest.raises(CheckpointDecodeError):
        read_trees(raw, CODEC.encode(checkpoint(1)), admit)
    with pytest.raises(CheckpointDecodeError):
        CODEC.decode(raw)


def test_a_root_of_a_later_kind_was_written_by_a_newer_version() -> None:
    raw = msgspec.msgpack.encode({"$": "checkpoint-of-tomorrow", "s": checkpoint(1).to_dict(), "h": {}})
    for read in (CODEC.decode, lambda raw: read_tree(raw, admit)):
        with pytest.raises(CheckpointDecodeError, match=r"'checkpoint-of-tomorrow'.*written by a newer version"):
            read(raw)


def test_0_1_0_says_of_the_root_with_shapes_that_a_newer_version_wrote_it(both: tuple[bytes, bytes]) -> None:
    """It says so of a form whose name has no colon and is none of its kinds, as this version of the root above; a field
    more it would have called a version that does not fit, and loaded all others."""
    root = msgspec.msgpack.decode(both[0])
    assert type(root["$"]) is str
    assert ":" not in root["$"]
    assert root["$"] not in KINDS_OF_0_1_0


# Forks


@pytest.mark.parametrize("recorded", [True, False], ids=["with shapes", "of 0.1.0"])
async def test_a_fork_has_the_shapes_that_its_origin_has(tmp_path: Path, recorded: bool) -> None:
    async with SqliteCheckpointStorage(tmp_path / "c.db", allowed_checkpoint_types=app.ALLOWED) as storage:
        run, audit = storage.for_run("r"), CheckpointAudit(storage.store)
        saved = checkpoint([app.Point(1), app.Colour.RED])
        await run.save(saved)
        origin = await audit.event("r@1")
        if not recorded:
            origin = sealed(
                msgspec.structs.replace(origin, run_id="old", payload=encode(as_0_1_0_wrote_it(raw_of(origin))))
            )
            await storage.store.append(origin)
        fork = await audit.fork(origin, "fork")
        assert opened(raw_of(fork)).shapes == opened(raw_of(origin)).shapes
        assert (opened(raw_of(fork)).shapes is not None) == recorded
        assert_same((await storage.load(fork.checkpoint_id)).state, saved.state)


def raw_of(event: CheckpointEvent) -> bytes:
    assert isinstance(event.payload, Payload)
    return restore(event.payload, max_size=1 << 20)
