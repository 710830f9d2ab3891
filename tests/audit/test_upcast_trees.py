"""States shown as upcasters make them: nothing of them is made alive, and what is shown is what a load would give."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from eventckpt import CheckpointAudit, CheckpointDecodeError, SqliteCheckpointStorage, Upcaster
from eventckpt.audit import ANY_TYPE
from eventckpt.audit.diff import Difference
from eventckpt.codec.tree import Form, Ref, Tree, Value, same
from tests.fidelity import checkpoint

HERE = __name__


@dataclasses.dataclass
class Order:
    number: Any
    note: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered:
    number: Any
    note: Any = None


class Model(BaseModel):
    number: int
    note: Any = None


class Pair(NamedTuple):
    number: Any
    note: Any = None


class Size(enum.Enum):
    SMALL = 1


@dataclasses.dataclass
class Holder:
    order: Any
    other: Any = None


ALLOWED = [f"{HERE}:{cls.__name__}" for cls in (Order, Ordered, Model, Pair, Size, Holder)]
NEW = "shop.orders:Order"
"""A class that is nowhere: nothing imports it to show a state."""


def dearer(state: dict[str, Any]) -> dict[str, Any]:
    return {"id": state["number"] + 1, "note": state["note"]}


async def states_of(
    path: Path, *values: Any, upcasters: list[Upcaster]
) -> tuple[CheckpointAudit, list[Tree], list[Tree]]:
    """The audit, and the values before and after upcasting, saved one after the other."""
    async with SqliteCheckpointStorage(path / "c.db", allowed_checkpoint_types=ALLOWED) as storage:
        run, previous = storage.for_run("r"), None
        for number, value in enumerate(values):
            each = checkpoint(value, checkpoint_id=f"c-{number}", previous_checkpoint_id=previous)
            previous = await run.save(each)
    audit = CheckpointAudit(
        SqliteCheckpointStorage(path / "c.db").store, allowed_checkpoint_types=[ANY_TYPE], upcasters=upcasters
    )
    before: list[Tree] = []
    after: list[Tree] = []
    for number in range(len(values)):
        event = await audit.event(f"r@{number + 1}")
        for trees, upcast in ((before, False), (after, True)):
            state: Any = (await audit.tree(event, upcast=upcast))["state"]
            trees.append(state["value"])
    return audit, before, after


@pytest.mark.parametrize("cls", [Order, Ordered, Model, Pair])
async def test_a_value_is_shown_as_the_class_that_it_becomes(tmp_path: Path, cls: Any) -> None:
    upcaster = Upcaster(f"{HERE}:{cls.__name__}", to=NEW, fn=dearer)
    audit, [before], [after] = await states_of(tmp_path, cls(number=1, note=["n"]), upcasters=[upcaster])
    assert isinstance(before, Form)
    assert before.name == upcaster.key
    assert same(after, Form(NEW, ((".id", 2), (".note", ["n"]))))
    await audit.store.close()


@pytest.mark.parametrize("cls", [Order, Ordered, Model, Pair])
async def test_a_mere_rename_shows_the_fields_by_name(tmp_path: Path, cls: Any) -> None:
    upcaster = Upcaster(f"{HERE}:{cls.__name__}", to=NEW)
    audit, _, [after] = await states_of(tmp_path, cls(number=1), upcasters=[upcaster])
    assert after == Form(NEW, ((".number", 1), (".note", None)))
    await audit.store.close()


async def test_a_value_of_the_new_class_looks_like_one_that_became_it(tmp_path: Path) -> None:
    """So that a diff over a deployment shows what changed in the values, and not how they are stored."""
    upcaster = Upcaster(f"{HERE}:Order", to=f"{HERE}:Model", fn=lambda state: {"number": 5, "note": None})
    audit, _, [one, other] = await states_of(tmp_path, Order("5"), Model(number=5), upcasters=[upcaster])
    assert same(one, other)
    first, second = await audit.event("r@1"), await audit.event("r@2")
    assert await audit.diff(first, second, upcast=True) == []
    assert await audit.diff(first, second) != []
    await audit.store.close()


async def test_an_event_compared_with_itself_shows_what_upcasters_change(tmp_path: Path) -> None:
    upcaster = Upcaster(f"{HERE}:Order", fn=lambda state: state | {"number": 2})
    other_shape = Upcaster(f"{HERE}:Ordered", to=f"{HERE}:Order")
    audit, _, _ = await states_of(tmp_path, [Ordered(1), 3], upcasters=[upcaster, other_shape])
    event = await audit.event("r@1")
    differences = await audit.diff(event, event, upcast="after")
    assert [(each.kind, each.path.partition("]")[0]) for each in differences] == [("changed", "state.value[0")]
    assert await audit.diff(event, event, upcast=True) == []
    await audit.store.close()


async def test_an_upcaster_in_place_is_asked_only_where_the_class_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upcaster = Upcaster(f"{HERE}:Order", fn=lambda state: {"number": -1})
    audit, [before], [after] = await states_of(tmp_path, Order(1), upcasters=[upcaster])
    assert after == before
    changed = dataclasses.make_dataclass("Order", ["number"], namespace={"__module__": HERE})
    monkeypatch.setitem(globals(), "Order", changed)
    anew = CheckpointAudit(audit.store, allowed_checkpoint_types=[ANY_TYPE], upcasters=[upcaster])
    state: Any = (await anew.tree(await anew.event("r@1"), upcast=True))["state"]
    assert state["value"] == Form(upcaster.key, ((".number", -1),))
    await audit.store.close()


async def test_changes_are_those_of_the_upcast_values(tmp_path: Path) -> None:
    upcaster = Upcaster(f"{HERE}:Order", to=NEW, fn=dearer)
    audit, _, _ = await states_of(tmp_path, Order(1), Order(1, "x"), Order(2), upcasters=[upcaster])
    run = await audit.run("r")
    changes = [each async for each in audit.changes(run, "state.value.id", upcast=True)]
    assert [(each.event.seq, each.after) for each in changes] == [(1, 2), (3, 3)]
    assert [each async for each in audit.changes(run, "state.value.id")] == []
    await audit.store.close()


async def test_members_and_named_classes_are_shown_by_their_new_names(tmp_path: Path) -> None:
    def larger(state: dict[str, Any]) -> dict[str, Any]:
        assert state == {"name": "SMALL", "value": 1}
        return {"name": "TINY"}

    upcasters = [Upcaster(f"{HERE}:Size", to="shop.sizes:Size", fn=larger), Upcaster(f"{HERE}:Order", to=NEW)]
    audit, _, [after] = await states_of(tmp_path, [Size.SMALL, Order, list[Order]], upcasters=upcasters)
    assert after == [
        Form("shop.sizes:Size", ((".name", "TINY"),)),
        Value("type", NEW),
        Value("generic", f"list[{NEW}]"),
    ]
    await audit.store.close()


async def test_what_an_upcaster_leaves_out_stands_where_it_is_referred_to(tmp_path: Path) -> None:
    shared = ["s"]
    upcaster = Upcaster(f"{HERE}:Holder", to=NEW, fn=lambda state: {"kept": 1})
    audit, _, [after] = await states_of(tmp_path, [Holder(shared), shared, shared], upcasters=[upcaster])
    assert after == [Form(NEW, ((".kept", 1),)), ["s"], Ref("state.value[1]")]
    await audit.store.close()


async def test_what_an_upcaster_gives_twice_is_the_same_at_both_places_as_a_load_has_it(tmp_path: Path) -> None:
    shared = Order([1])
    upcaster = Upcaster(f"{HERE}:Holder", to=NEW, fn=lambda state: {"a": state["order"], "b": {"c": state["order"]}})
    audit, _, [after] = await states_of(tmp_path, [Holder(shared), shared], upcasters=[upcaster])
    order = Form(f"{HERE}:Order", ((".number", [1]), (".note", None)))
    same = Ref("state.value[0].a")
    assert after == [Form(NEW, ((".a", order), (".b", {"c": same}))), same]
    await audit.store.close()


async def test_upcasters_inside_each_other_are_asked_from_within(tmp_path: Path) -> None:
    upcasters = [
        Upcaster(f"{HERE}:Order", to=NEW, fn=dearer),
        Upcaster(f"{HERE}:Holder", to="shop.orders:Holder", fn=lambda state: {"held": [state["order"]]}),
    ]
    audit, _, [after] = await states_of(tmp_path, Holder(Order(1)), upcasters=upcasters)
    order = Form(NEW, ((".id", 2), (".note", None)))
    assert same(after, Form("shop.orders:Holder", ((".held", [order]),)))
    await audit.store.close()


async def test_an_upcaster_that_fails_is_named_with_the_event(tmp_path: Path) -> None:
    upcaster = Upcaster(f"{HERE}:Order", to=NEW, fn=lambda state: state["missing"])
    with pytest.raises(CheckpointDecodeError, match=r"[Ss]eq 1 of run 'r'.*upcaster of '.*:Order'.*KeyError"):
        await states_of(tmp_path, Order(1), upcasters=[upcaster])


async def test_without_upcasters_a_state_is_shown_as_it_is_stored(tmp_path: Path) -> None:
    audit, before, after = await states_of(tmp_path, [Order(1), Model(number=1), Size.SMALL], upcasters=[])
    assert before == after
    difference: list[Difference] = await audit.diff(await audit.event("r@1"), await audit.event("r@1"), upcast="after")
    assert difference == []
    await audit.store.close()
