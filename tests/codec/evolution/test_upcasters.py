"""Upcasters: what an application says that a stored value of an older class becomes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from eventckpt import (
    CheckpointCodec,
    CheckpointDecodeError,
    CheckpointTypeNotAllowedError,
    SqliteCheckpointStorage,
    Upcaster,
    register_upcaster,
)
from eventckpt.allowlist import type_key
from eventckpt.codec.root import Root, opened
from tests import checkpoint_types as app
from tests.fidelity import checkpoint
from tests.hostile import raw_with

from .kinds import MODULE, attrs_class, data, enum, imported, model, shown, struct, tupled

OLD, NEW = f"{MODULE}:M", "orders:M"


class Deployments:
    """A value is stored by one deployment, of the module `shop`, and loaded by the next, of the module `orders`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def stored(self, source: str, value: str, *allowed: str, bare: bool = False) -> bytes:
        module = imported(self._monkeypatch, source)
        raw = CheckpointCodec(allowed or [OLD]).encode(checkpoint(eval(value, vars(module))))
        self._monkeypatch.delitem(sys.modules, MODULE)
        return Root(opened(raw).fields, None).packed() if bare else raw

    def loaded(self, source: str, raw: bytes, *upcasters: Upcaster, name: str = "orders", **options: Any) -> Any:
        module = imported(self._monkeypatch, source, name)
        keys = [f"{name}:{each}" for each, kind in vars(module).items() if getattr(kind, "__module__", None) == name]
        return CheckpointCodec(keys, upcasters=upcasters, **options).decode(raw).state["value"]


@pytest.fixture
def deployments(monkeypatch: pytest.MonkeyPatch) -> Deployments:
    return Deployments(monkeypatch)


def text(value: Any) -> str:
    """A value of the module `orders` as the tables say it."""
    type(value).__module__ = MODULE
    return shown(value)


# Names


@pytest.mark.parametrize(
    ("source", "value", "want"),
    [
        (data("a: int"), "M(7)", "M(a=7)"),
        (data("a: int", options="(frozen=True, slots=True)"), "M(7)", "M(a=7)"),
        (model("a: int", "_p: int = 2"), "M(a=7)", "M(a=7, _p=2)"),
        (tupled("a: int"), "M(7)", "M(a=7)"),
        (attrs_class("a: int"), "M(7)", "M(a=7)"),
        (struct("a: int"), "M(7)", "M(a=7)"),
        (enum("A = 1"), "M.A", "<M.A: 1>"),
    ],
)
def test_a_class_that_moved_needs_no_function(deployments: Deployments, source: str, value: str, want: str) -> None:
    raw = deployments.stored(source, value)
    assert text(deployments.loaded(source, raw, Upcaster(OLD, to=NEW))) == want
    assert MODULE not in sys.modules


def test_one_that_is_copied_in_a_way_of_its_own_moves_too(deployments: Deployments) -> None:
    raw = deployments.stored("class M(dict): pass", "M(a=7)")
    got = deployments.loaded("class M(dict): pass", raw, Upcaster(OLD, to=NEW))
    assert (type(got), got) == (sys.modules["orders"].M, {"a": 7})


def test_a_class_that_moved_gets_the_defaults_of_its_new_fields(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: int"), "M(7)")
    now = data("a: int", "b: list = field(default_factory=list)")
    assert text(deployments.loaded(now, raw, Upcaster(OLD, to=NEW))) == "M(a=7, b=[])"


@pytest.mark.parametrize("value", ["M", "list[M]", "dict[str, M | None]", "type[M]"])
def test_a_class_that_moved_is_found_where_only_its_name_was_stored(deployments: Deployments, value: str) -> None:
    raw = deployments.stored(data("a: int"), value)
    got = deployments.loaded(data("a: int"), raw, Upcaster(OLD, to=NEW))
    assert got == eval(value, vars(sys.modules["orders"]))


def test_what_a_generic_instance_was_made_by_moves_with_it(deployments: Deployments) -> None:
    source = "T = TypeVar('T')\n@dataclass\nclass M(Generic[T]):\n    a: T\n"
    raw = deployments.stored(source, "M[int](7)")
    got = deployments.loaded(source, raw, Upcaster(OLD, to=NEW))
    assert got.__orig_class__ == sys.modules["orders"].M[int]


def test_what_is_saved_again_has_the_new_name(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: int"), "M(7)")
    again = CheckpointCodec([NEW]).encode(checkpoint(deployments.loaded(data("a: int"), raw, Upcaster(OLD, to=NEW))))
    assert OLD.encode() not in again
    assert text(CheckpointCodec([NEW]).decode(again).state["value"]) == "M(a=7)"


def test_the_new_class_needs_permission_and_is_not_imported_without(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: int"), "M(7)")
    with pytest.raises(CheckpointTypeNotAllowedError) as refused:
        CheckpointCodec([OLD], upcasters=[Upcaster(OLD, to="antigravity:M")]).decode(raw)
    assert refused.value.type_key == "antigravity:M"
    assert "antigravity" not in sys.modules


# Functions

ALPHA: Any = {"a": "alpha"}


def renames(state: dict[str, Any]) -> dict[str, Any]:
    return {ALPHA.get(name, name): value for name, value in state.items()}


@pytest.mark.parametrize("make", [data, model, tupled, attrs_class, struct])
@pytest.mark.parametrize("made", [data, model, tupled, attrs_class, struct])
def test_a_function_makes_any_kind_of_class_from_any_other(deployments: Deployments, make: Any, made: Any) -> None:
    raw = deployments.stored(make("a: int"), "M(a=7)")
    now = made("alpha: int", "b: str = 'new'")
    assert text(deployments.loaded(now, raw, Upcaster(OLD, NEW, renames))) == "M(alpha=7, b='new')"


def test_frozen_slots_and_private_attributes_are_set_by_their_names(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: int", "b: int", options="(frozen=True, slots=True)"), "M(7, 8)")
    now = data("b: int", "alpha: int", options="(frozen=True, slots=True)")
    assert text(deployments.loaded(now, raw, Upcaster(OLD, NEW, renames))) == "M(b=8, alpha=7)"
    swapped = Upcaster(OLD, NEW, lambda state: {"x": state["a"], "_p": state["b"]})
    assert text(deployments.loaded(model("x: int", "_p: int = 1"), raw, swapped)) == "M(x=7, _p=8)"


def test_a_chain_goes_in_order(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: str"), "M('a')")
    steps = [
        Upcaster("middle:M", NEW, lambda state: {"a": state["a"] + "3"}),
        Upcaster(OLD, None, lambda state: {"a": state["a"] + "1"}),
        Upcaster(OLD, "middle:M", lambda state: {"a": state["a"] + "2"}),
    ]
    assert text(deployments.loaded(data("a: str"), raw, *steps)) == "M(a='a123')"


def test_one_in_place_is_asked_only_where_the_class_has_changed(deployments: Deployments) -> None:
    asked: list[dict[str, Any]] = []

    def fn(state: dict[str, Any]) -> dict[str, Any]:
        asked.append(state)
        return renames(state)

    same, changed = data("a: int"), data("alpha: int")
    for bare, now, want in (
        (False, same, "M(a=7)"),
        (False, changed, "M(alpha=7)"),
        (True, changed, "M(alpha=7)"),
    ):
        raw = deployments.stored(same, "M(7)", bare=bare)
        assert shown(deployments.loaded(now, raw, Upcaster(OLD, fn=fn), name=MODULE)) == want
    assert asked == [{"a": 7}, {"a": 7}]


def test_one_in_place_is_asked_again_after_a_further_change_and_can_tell_by_what_it_is_given(
    deployments: Deployments,
) -> None:
    def in_cents(state: dict[str, Any]) -> dict[str, Any]:
        return state if "currency" in state else {"price": state["price"] * 100, "currency": "EUR"}

    upcaster = Upcaster(OLD, fn=in_cents)
    first, second = data("price: int"), data("price: int", "currency: str")
    third = data("price: int", "currency: str", "note: str = ''")
    price = deployments.loaded(second, deployments.stored(first, "M(7)"), upcaster, name=MODULE)
    assert shown(price) == "M(price=700, currency='EUR')"
    saved_since = deployments.stored(second, "M(700, 'EUR')")
    assert shown(deployments.loaded(third, saved_since, upcaster, name=MODULE)) == (
        "M(price=700, currency='EUR', note='')"
    )


def test_a_function_is_given_what_is_inside_a_value_already_changed(deployments: Deployments) -> None:
    source = "@dataclass\nclass Line:\n    a: int\n" + data("lines: list", "a: int = 1")
    raw = deployments.stored(source, "[M([Line(2), Line(3)])]", OLD, f"{MODULE}:Line")
    now = source.replace("a: int", "alpha: int").replace("class Line", "class Row")
    order, line = Upcaster(OLD, NEW, renames), Upcaster(f"{MODULE}:Line", "orders:Row", renames)
    (got,) = deployments.loaded(now, raw, order, line)
    assert [row.alpha for row in got.lines] == [2, 3]
    assert got.alpha == 1


def test_one_object_in_two_places_stays_one(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: Any"), "(lambda m: [m, m, M(m)])(M(7))")
    one, two, three = deployments.loaded(data("alpha: Any"), raw, Upcaster(OLD, NEW, renames))
    assert one is two is three.alpha


def test_an_object_that_holds_itself_stays_so(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: Any = None"), "(lambda m: (m, setattr(m, 'a', [m]))[0])(M())")
    got = deployments.loaded(data("alpha: Any"), raw, Upcaster(OLD, NEW, renames))
    assert got.alpha[0] is got


def test_a_field_that_is_dropped_may_be_what_another_place_means(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: Any", "b: int = 1"), "(lambda l: [M(l), l])(['tea'])")
    dropped = Upcaster(OLD, NEW, lambda state: {"b": state["b"]})
    order, tea = deployments.loaded(data("b: int"), raw, dropped)
    assert (text(order), tea) == ("M(b=1)", ["tea"])


SHARED, ALONE = "(lambda l: [M(l), l])(['tea', M(1)])", "[M(['tea', M(1)]), 0]"
FUNCTIONS: dict[str, Any] = {
    "twice": lambda state: {"x": state["a"], "y": state["a"]},
    "inside first": lambda state: {"x": [state["a"]], "y": state["a"]},
    "inside last": lambda state: {"x": state["a"], "y": [state["a"]]},
    "inside alone": lambda state: {"x": [state["a"]], "y": None},
}


@pytest.mark.parametrize("value", [SHARED, ALONE])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_put_what_it_is_given_where_it_likes_and_more_than_once(
    deployments: Deployments, value: str, function: str
) -> None:
    """Whether something else means the same list or not."""
    raw = deployments.stored(data("a: Any"), value)
    got, other = deployments.loaded(data("x: Any", "y: Any"), raw, Upcaster(OLD, NEW, FUNCTIONS[function]))
    inner = got.x[0] if function.startswith("inside") and function != "inside last" else got.x
    assert inner[0] == "tea"
    assert inner[1].x in (1, [1])
    if function == "twice":
        assert got.y == got.x
    if value == SHARED:
        assert other == inner


def test_a_function_may_not_give_a_value_that_holds_itself(deployments: Deployments) -> None:
    def knotted(state: dict[str, Any]) -> dict[str, Any]:
        knot: list[Any] = []
        knot.append(knot)
        return {"a": knot}

    raw = deployments.stored(data("a: Any"), "M(1)")
    with pytest.raises(CheckpointDecodeError, match="upcaster of 'shop:M' gave a value that holds itself"):
        deployments.loaded(data("a: Any"), raw, Upcaster(OLD, NEW, knotted))


def test_a_function_may_give_values_that_are_no_plain_data(deployments: Deployments) -> None:
    raw = deployments.stored(data("a: int"), "M(7)")
    given = Upcaster(OLD, NEW, lambda state: {"a": (state["a"], {1, 2}, b"x", {3: 2**80})})
    assert deployments.loaded(data("a: Any"), raw, given).a == (7, {1, 2}, b"x", {3: 2**80})


@pytest.mark.parametrize("now", [enum("ALPHA = 'a'"), enum("ALPHA = 'a'", of="StrEnum"), enum("A = 2", "ALPHA = 1")])
def test_a_member_of_an_enum_is_named_by_a_function(deployments: Deployments, now: str) -> None:
    raw = deployments.stored(enum("A = 1", "B = 2"), "[M.A, M.A]")
    seen: list[dict[str, Any]] = []

    def fn(state: dict[str, Any]) -> dict[str, Any]:
        seen.append(state)
        return {"name": "ALPHA"}

    got = deployments.loaded(now, raw, Upcaster(OLD, NEW, fn))
    assert got == [sys.modules["orders"].M.ALPHA] * 2
    assert seen == [{"name": "A", "value": 1}] * 2


def test_a_member_may_be_given_by_its_value_and_become_an_instance(deployments: Deployments) -> None:
    raw = deployments.stored(enum("A = 1"), "M.A")
    by_value = Upcaster(OLD, NEW, lambda state: {"value": state["value"] + 1})
    assert text(deployments.loaded(enum("A = 1", "B = 2"), raw, by_value)) == "<M.B: 2>"
    raw = deployments.stored(enum("A = 1"), "M.A")
    assert text(deployments.loaded(data("name: str", "value: int"), raw, Upcaster(OLD, NEW, dict))) == (
        "M(name='A', value=1)"
    )


# What goes wrong


def fails(state: dict[str, Any]) -> dict[str, Any]:
    raise KeyError("lines")


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (fails, "failed: KeyError: 'lines'"),
        (lambda state: None, "gave a NoneType"),
        (lambda state: [1], "gave a list"),
        (lambda state: {1: 2}, "has to return a dict of fields"),
        (lambda state: {"alpha": 1, "zeta": 2}, "'zeta'"),
        (lambda state: {}, "'alpha'"),
        (lambda state: {"alpha": lambda: 1}, "cannot be stored"),
    ],
)
@pytest.mark.parametrize("now", [data, model, tupled, attrs_class, struct])
def test_what_a_function_does_wrong_is_said_with_the_class(
    deployments: Deployments, fn: Any, said: str, now: Any
) -> None:
    raw = deployments.stored(data("a: int"), "M(7)")
    with pytest.raises(CheckpointDecodeError) as refused:
        deployments.loaded(now("alpha: int"), raw, Upcaster(OLD, NEW, fn))
    assert said in str(refused.value)
    assert ":M'" in str(refused.value)


@pytest.mark.parametrize("state", [{"name": "ZETA"}, {"name": 1}, {}, {"value": 9}])
def test_a_member_that_is_none_is_said_with_the_class(deployments: Deployments, state: dict[str, Any]) -> None:
    raw = deployments.stored(enum("A = 1"), "M.A")
    with pytest.raises(CheckpointDecodeError, match="orders:M"):
        deployments.loaded(enum("A = 1"), raw, Upcaster(OLD, NEW, lambda _: state))


def test_what_is_copied_in_a_way_of_its_own_is_not_given_to_a_function(deployments: Deployments) -> None:
    raw = deployments.stored("class M(dict): pass", "M(a=7)")
    with pytest.raises(CheckpointDecodeError, match=r"'shop:M' is copied in a way of its own"):
        deployments.loaded("class M(dict): pass", raw, Upcaster(OLD, NEW, dict))


@pytest.mark.parametrize(
    "given",
    [
        [Upcaster(OLD, NEW), Upcaster(NEW, OLD)],
        [Upcaster(OLD, "b:M"), Upcaster("b:M", "c:M"), Upcaster("c:M", OLD)],
        [Upcaster(OLD, NEW), Upcaster(OLD, "elsewhere:M")],
        [Upcaster(OLD, NEW), Upcaster(OLD, fn=dict)],
    ],
)
def test_upcasters_that_do_not_lead_to_one_class_are_refused_where_they_are_given(given: list[Upcaster]) -> None:
    with pytest.raises(ValueError, match=r"upcasters lead in a circle|Two upcasters"):
        CheckpointCodec(upcasters=given)


@pytest.mark.parametrize(
    "arguments", [("shop.M",), (":M", NEW), ("shop:", NEW), (OLD,), (OLD, OLD), (OLD, "orders"), (1, NEW)]
)
def test_an_upcaster_that_says_nothing_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="Upcaster"):
        Upcaster(*arguments)


def test_what_is_no_upcaster_is_refused() -> None:
    with pytest.raises(TypeError, match="has to be callable"):
        Upcaster(OLD, NEW, "fn")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes values of Upcaster, not tuple"):
        CheckpointCodec(upcasters=[(OLD, NEW)])  # type: ignore[list-item]


# Where they are given


async def test_a_storage_takes_upcasters(deployments: Deployments, monkeypatch: Any, tmp_path: Path) -> None:
    then = imported(monkeypatch, data("a: int"))
    async with SqliteCheckpointStorage(tmp_path / "c.db", allowed_checkpoint_types=[OLD]) as storage:
        await storage.save(checkpoint(then.M(7)))
    imported(monkeypatch, data("alpha: int"), "orders")
    upcasters = [Upcaster(OLD, NEW, renames)]
    async with SqliteCheckpointStorage(
        tmp_path / "c.db", allowed_checkpoint_types=[NEW], upcasters=upcasters
    ) as storage:
        assert text((await storage.load("c-1")).state["value"]) == "M(alpha=7)"


def test_those_of_the_process_serve_codecs_that_were_there_before(deployments: Deployments, monkeypatch: Any) -> None:
    imported(monkeypatch, data("a: int"), "former")
    raw = CheckpointCodec(["former:M"]).encode(checkpoint(sys.modules["former"].M(7)))
    monkeypatch.delitem(sys.modules, "former")
    imported(monkeypatch, data("alpha: int"), "orders")
    before, own = CheckpointCodec([NEW]), Upcaster("former:M", NEW, lambda state: {"alpha": 8})
    for _ in range(2):  # again changes nothing
        register_upcaster(Upcaster("former:M", NEW, renames))
    assert text(before.decode(raw).state["value"]) == "M(alpha=7)"
    assert text(CheckpointCodec([NEW], upcasters=[own]).decode(raw).state["value"]) == "M(alpha=8)"
    with pytest.raises(ValueError, match="circle"):
        register_upcaster(Upcaster(NEW, "former:M"))
    with pytest.raises(CheckpointDecodeError, match="circle"):
        CheckpointCodec([NEW], upcasters=[Upcaster(NEW, "former:M")]).decode(raw)


@pytest.mark.parametrize(
    "value",
    [app.Point(1, 2), app.Pair(1, 2), app.FrozenSlottedPoint(1, 2), app.Level.LOW],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_the_class_that_an_upcaster_leads_to_is_shown_by_the_names_of_its_fields(value: Any) -> None:
    key = type_key(type(value))
    codec = CheckpointCodec(app.ALLOWED, upcasters=[Upcaster("gone:Old", to=key, fn=dict)])
    form = codec.upcast_forms(codec.encode(checkpoint(value))).fields["state"]["value"]
    names = getattr(type(value), "__match_args__", ("name", "value"))
    assert form == {"$": key, "s": {name: getattr(value, name) for name in names}}


@pytest.mark.parametrize("fields", [[1], [["x"]], [{"$": "ref", "i": 1}]])
def test_a_record_whose_names_are_no_texts_is_damaged_also_before_an_upcaster(fields: Any) -> None:
    key = type_key(app.Point)
    codec = CheckpointCodec(app.ALLOWED, upcasters=[Upcaster(key, fn=dict)])
    stored = opened(raw_with({"$": key, "s": [1]})).fields
    raw = Root(stored, {key: {"k": "dataclass", "f": fields}}).packed()
    for read in (codec.decode, codec.upcast_forms):
        with pytest.raises(CheckpointDecodeError, match="the event is damaged"):
            read(raw)
