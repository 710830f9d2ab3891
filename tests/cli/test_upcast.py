"""`--upcast`: states as the application's upcasters make them, in every command that shows states."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..engines import Engine
from .conftest import ORDER, Cli, order_run

CODE = f"""
from eventckpt import Upcaster

def priced(state):
    return {{"cost": {{"EUR": state["total"]}}, "lines": state["lines"]}}

ONE = Upcaster({ORDER!r}, to="shop.orders:Order", fn=priced)
SEVERAL = [Upcaster({ORDER!r}, to="shop.old:Order"), Upcaster("shop.old:Order", to="shop.orders:Order", fn=priced)]
NONE = []

def given():
    return SEVERAL

def failing():
    raise RuntimeError("no\\x1b[2J database")

def leaving():
    raise SystemExit(0)

def leave(state):
    raise SystemExit(0)

NUMBER = 7
WORDS = ["a"]
CIRCLE = [Upcaster("a:A", to="b:B"), Upcaster("b:B", to="a:A")]
RAISING = Upcaster({ORDER!r}, to="shop.orders:Order", fn=lambda state: state["missing"])
LEAVING = Upcaster({ORDER!r}, to="shop.orders:Order", fn=leave)
"""
MODULE = "upcasters_of_the_shop"


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)


@pytest.mark.parametrize("name", ["ONE", "SEVERAL", "given"])
async def test_each_command_that_shows_states_shows_them_before_and_after(engine: Engine, cli: Cli, name: str) -> None:
    await order_run(engine, steps=4)
    upcast = ("--upcast", f"{MODULE}:{name}", "--allow", "*")
    for words in (("show", "order-1@4"), ("at", "order-1", "--seq", "4")):
        before, after = await cli(*words, "--allow", "*"), await cli(*words, *upcast)
        assert f"order: {ORDER}" in before.out
        assert "shop.orders:Order" not in before.out
        assert "order: shop.orders:Order" in after.out
        assert "EUR: 4.5" in after.out
        assert ORDER not in after.out
    differences = (await cli.json("diff", "order-1", "--seq", "1..4", *upcast)).of("difference")
    assert "state.order.cost.EUR" in {each["path"] for each in differences}
    changes = (await cli.json("changes", "order-1", "--path", "state.order.cost.EUR", *upcast)).of("change")
    assert changes[-1]["after"] == 4.5
    assert not (await cli.json("changes", "order-1", "--path", "state.order.cost.EUR", "--allow", "*")).of("change")


async def test_a_diff_of_one_checkpoint_says_what_upcasters_change_in_it(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=2)
    printed = await cli("diff", "order-1@2", "--upcast", f"{MODULE}:ONE", "--allow", "*")
    changed = [line for line in printed.out.splitlines() if line[:1] in "+-~"]
    assert changed
    assert all(" state.order" in line for line in changed)
    none = await cli.json("diff", "order-1@2", "--upcast", f"{MODULE}:NONE", "--allow", "*")
    assert none.of("difference") == []
    from_the_one_before = (await cli("diff", "order-1@2")).out
    assert from_the_one_before.startswith("seq 1 of run order-1 (order-1-cp0) → seq 2 of run order-1 (order-1-cp1)")


async def test_a_class_that_values_become_is_shown_only_where_it_is_allowed(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    upcast = ("show", "order-1@1", "--upcast", f"{MODULE}:ONE")
    assert "EUR" not in (await cli(*upcast, "--allow", ORDER)).out
    assert "EUR" in (await cli(*upcast, "--allow", "shop.orders:Order")).out


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("NUMBER", 2, "--upcast: upcasters_of_the_shop:NUMBER gives no upcasters: TypeError"),
        ("failing", 2, "--upcast: upcasters_of_the_shop:failing gives no upcasters: RuntimeError: no"),
        ("WORDS", 2, "one of those given is a str"),
        ("CIRCLE", 2, "--upcast: The upcasters lead in a circle: a:A -> b:B -> a:A"),
        ("RAISING", 5, "seq 1 of run 'order-1'"),
        ("RAISING", 5, "failed: KeyError: 'missing'"),
        ("leaving", 2, "--upcast: upcasters_of_the_shop:leaving gives no upcasters: SystemExit: 0"),
        ("LEAVING", 5, "failed: SystemExit: 0"),
        ("gone", 4, "upcasters_of_the_shop has no gone"),
    ],
)
async def test_what_gives_no_upcasters_or_fails_is_named(
    engine: Engine, cli: Cli, name: str, code: int, said: str
) -> None:
    await order_run(engine, steps=1)
    printed = await cli("show", "order-1@1", "--upcast", f"{MODULE}:{name}", code=code)
    assert said.lower() in printed.err.lower()
    assert "\x1b" not in printed.err
