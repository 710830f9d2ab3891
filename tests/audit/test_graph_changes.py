"""In what a graph differs is found from the hash of the other one alone, for each kind of change, and two at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, WorkflowExecutor, handler

from eventckpt.audit.graph_changes import Candidates, difference, hash_of


class Step(Executor):
    """Hands on."""

    @handler
    async def go(self, number: int, ctx: WorkflowContext[int, int]) -> None:
        await ctx.send_message(number)


class Gather(Step):
    """Takes what several send."""

    @handler
    async def gather(self, numbers: list[int], ctx: WorkflowContext[int, int]) -> None:
        await ctx.send_message(sum(numbers))


class OtherStep(Step):
    """A step of another class."""


def odd(number: Any) -> bool:
    return number % 2 == 1


Shape = Callable[[dict[str, Executor]], WorkflowBuilder]


def graph(shape: Shape, **classes: type[Executor]) -> Workflow:
    steps: dict[str, Executor] = {name: classes.get(name, Step)(id=name) for name in "abcde"}
    return shape(steps).build()


def start(at: Executor) -> WorkflowBuilder:
    return WorkflowBuilder(start_executor=at, name="graph")


def row(s: dict[str, Executor]) -> WorkflowBuilder:
    return start(s["a"]).add_edge(s["a"], s["b"]).add_edge(s["b"], s["c"])


def square(s: dict[str, Executor]) -> WorkflowBuilder:
    return row(s).add_edge(s["a"], s["d"]).add_edge(s["d"], s["c"])


def ring(s: dict[str, Executor]) -> WorkflowBuilder:
    return row(s).add_edge(s["c"], s["a"])


def ring_from_b(s: dict[str, Executor]) -> WorkflowBuilder:
    return start(s["b"]).add_edge(s["a"], s["b"]).add_edge(s["b"], s["c"]).add_edge(s["c"], s["a"])


def ring_backwards_too(s: dict[str, Executor]) -> WorkflowBuilder:
    return ring(s).add_edge(s["b"], s["a"]).add_edge(s["c"], s["b"])


def fan(s: dict[str, Executor]) -> WorkflowBuilder:
    return start(s["a"]).add_fan_out_edges(s["a"], [s["b"], s["c"]]).add_edge(s["b"], s["d"]).add_edge(s["c"], s["d"])


def wider_fan(s: dict[str, Executor]) -> WorkflowBuilder:
    wide = start(s["a"]).add_fan_out_edges(s["a"], [s["b"], s["c"], s["d"]])
    return wide.add_edge(s["b"], s["d"]).add_edge(s["c"], s["d"])


def on_some(s: dict[str, Executor]) -> WorkflowBuilder:
    return start(s["a"]).add_edge(s["a"], s["b"], condition=lambda it: it).add_edge(s["b"], s["c"], condition=odd)


def on_odd(s: dict[str, Executor]) -> WorkflowBuilder:
    return start(s["a"]).add_edge(s["a"], s["b"], condition=odd).add_edge(s["b"], s["c"], condition=odd)


def with_inner(inner: Shape) -> Shape:
    def nested(s: dict[str, Executor]) -> WorkflowBuilder:
        return start(s["a"]).add_edge(s["a"], WorkflowExecutor(graph(inner), id="inner"))

    return nested


CHANGES: Final[dict[str, tuple[Shape, Shape, list[str]]]] = {
    "an edge more": (square, lambda s: square(s).add_edge(s["b"], s["d"]), ["The edge 'b' → 'd' is new."]),
    "an edge less": (lambda s: square(s).add_edge(s["b"], s["d"]), square, ["The edge 'b' → 'd' is gone."]),
    "two edges more": (ring, ring_backwards_too, ["The edge 'b' → 'a' is new.", "The edge 'c' → 'b' is new."]),
    "two edges less": (ring_backwards_too, ring, ["The edge 'b' → 'a' is gone.", "The edge 'c' → 'b' is gone."]),
    "another start": (ring, ring_from_b, ["The workflow starts with 'b'; it started with 'a'."]),
    "a fan that is wider": (fan, wider_fan, ["The edge 'a' → 'd' is new."]),
    "a fan that is less wide": (wider_fan, fan, ["The edge 'a' → 'd' is gone."]),
    "another condition": (on_some, on_odd, ["The edge 'a' → 'b' has the condition 'odd'; it had '<lambda>'."]),
    "an executor at the end": (row, lambda s: row(s).add_edge(s["c"], s["d"]), ["The executor 'd' is new."]),
    "an executor beside others": (row, square, ["The executor 'd' is new."]),
    "two executors in a row": (
        row,
        lambda s: row(s).add_edge(s["c"], s["d"]).add_edge(s["d"], s["e"]),
        ["The executor 'd' is new.", "The executor 'e' is new."],
    ),
    "an executor at the beginning": (
        lambda s: start(s["b"]).add_edge(s["b"], s["c"]),
        row,
        ["The executor 'a' is new."],
    ),
    "an executor less at the end": (
        lambda s: row(s).add_edge(s["c"], s["d"]),
        row,
        ["The executor 'd' is gone, and the run has state for it."],
    ),
    "an executor less at the beginning": (
        row,
        lambda s: start(s["b"]).add_edge(s["b"], s["c"]),
        ["The executor 'a' is gone, and the run has state for it."],
    ),
    "an edge of a sub-workflow": (
        with_inner(ring),
        with_inner(row),
        ["In the sub-workflow 'inner': The edge 'c' → 'a' is gone."],
    ),
    "an executor of a sub-workflow": (
        with_inner(row),
        with_inner(lambda s: row(s).add_edge(s["c"], s["d"])),
        ["In the sub-workflow 'inner': The executor 'd' is new."],
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_change_is_named_and_is_all(what: str) -> None:
    before, after, said = CHANGES[what]
    then, now = graph(before), graph(after)
    found = difference(now.graph_signature, then.graph_signature_hash, then.executors, Candidates())
    assert (sorted(change.text for change in found.changes), found.is_all) == (said, True)


def test_a_class_that_has_another_name_is_found_among_those_that_there_are() -> None:
    then, now = graph(ring), graph(ring, b=OtherStep, c=OtherStep)
    classes = (f"{__name__}.Gather", f"{__name__}.Step")
    found = difference(now.graph_signature, then.graph_signature_hash, then.executors, Candidates(classes=classes))
    assert [(change.kind, change.name) for change in found.changes] == [("class", "b"), ("class", "c")]
    assert found.is_all


def test_a_module_that_has_another_name_is_one_change_for_all_its_classes() -> None:
    now = graph(square).graph_signature
    moved = {name: each.replace(__name__, "shop.steps") for name, each in now["executors"].items()}
    then = hash_of({**now, "executors": moved})
    found = difference(now, then, now["executors"], Candidates(modules=("shop.orders", "shop.steps")))
    assert [change.text.rpartition(" ")[2] for change in found.changes] == ["shop.steps.Step."] * 4
    assert found.is_all


def test_the_hash_is_the_frameworks_own() -> None:
    built = graph(with_inner(wider_fan))
    assert hash_of(built.graph_signature) == built.graph_signature_hash


def test_where_the_search_finds_nothing_what_is_certain_is_told() -> None:
    """However large the graph is: the search has an end."""
    built = start(first := Step(id="s0"))
    for number in range(1, 60):
        built.add_edge(first, last := Step(id=f"s{number}"))
        first = last
    signature = built.build().graph_signature
    ids = {*signature["executors"], "gone"} - {"s7"}
    found = difference(signature, "no hash of any", ids, Candidates(("shop",), (f"{__name__}.Step",)))
    assert [change.name for change in found.changes] == ["s7", "gone"]
    assert not found.is_all
    assert difference(signature, "no hash of any", (), None) == ((), False)
