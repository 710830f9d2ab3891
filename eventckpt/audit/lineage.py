"""The tree of a run's checkpoints: who follows whom, and which runs went off from where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from ..events import CheckpointEvent, StreamId
from ..runs import counted
from ..stores import AuditStore
from ..stores.walks import headers_of
from ..threads import off_the_loop

__all__ = ["Node", "lineage_of", "walk"]

_OF_HEADER: Final = 1_000  # bytes that it takes about as long to go through


class Node(NamedTuple):
    """A checkpoint of a run, or, where `event` is None, one that this run follows and does not hold."""

    checkpoint_id: str
    event: CheckpointEvent | None
    """The header of its newest event in the run; a tombstone where it was deleted."""
    children: list[Node]
    """The checkpoints that follow it, in the order of their commits."""
    forks: list[CheckpointEvent]
    """The first events of the runs that began from it."""


async def lineage_of(store: AuditStore, stream: StreamId, *, forks: bool = True) -> list[Node]:
    """The trees of a run's checkpoints; usually one.

    Args:
        store: the engine.
        stream: the run.
        forks: also look for the runs that forked from it, through the first events of the workflow's runs.
    """
    headers = await headers_of(store, stream)
    nodes, roots = await off_the_loop(len(headers) * _OF_HEADER, _trees_of, headers)
    if forks:
        for first in await _forks_of(store, stream):
            origin = first.forked_from.checkpoint_id if first.forked_from else None
            if origin in nodes:
                nodes[origin].forks.append(first)
    return roots


def _trees_of(headers: Sequence[CheckpointEvent]) -> tuple[dict[str, Node], list[Node]]:
    """The checkpoints of a run by their ids, and the roots among them."""
    newest: dict[str, CheckpointEvent] = {}
    parents: dict[str, str | None] = {}
    for header in counted(headers):
        if header.checkpoint_id:
            newest[header.checkpoint_id] = header
            parents.setdefault(header.checkpoint_id, header.previous_checkpoint_id)
    nodes = {name: Node(name, header, [], []) for name, header in newest.items()}
    roots: list[Node] = []
    for name, node in list(nodes.items()):
        parent = parents[name]
        if parent is None or parent == name:
            roots.append(node)
            continue
        if parent not in nodes:
            nodes[parent] = Node(parent, None, [], [])
            roots.append(nodes[parent])
        nodes[parent].children.append(node)
    _add_cycles(roots, nodes, parents)
    return nodes, roots


def _add_cycles(roots: list[Node], nodes: dict[str, Node], parents: dict[str, str | None]) -> None:
    """Checkpoints that follow each other in a circle, which only a forged lineage has, hang from no root: one of each
    circle becomes one."""
    reached = {node.checkpoint_id for _, _, node in walk(roots)}
    for name in list(nodes):
        if name in reached:
            continue
        above: dict[str, None] = {}
        at: str | None = name
        while at is not None and at not in above:
            above[at] = None
            at = parents.get(at)
        root = nodes[at or name]
        roots.append(root)
        reached.update(node.checkpoint_id for _, _, node in walk([root]))


def walk(roots: list[Node]) -> Iterator[tuple[int, bool, Node]]:
    """Each node with its depth and whether it is a branch: not the first that follows its parent.

    The first child stands at the depth of its parent, so that a run without branches is a straight line.
    """
    rest = [(0, False, node) for node in reversed(roots)]
    seen: set[str] = set()
    while rest:
        depth, branch, node = rest.pop()
        if node.checkpoint_id in seen:  # a cycle, which only a forged lineage has
            continue
        seen.add(node.checkpoint_id)
        yield depth, branch, node
        if node.children:
            rest.append((depth, False, node.children[0]))
        rest += [(depth + 1, True, child) for child in reversed(node.children[1:])]


async def _forks_of(store: AuditStore, stream: StreamId) -> list[CheckpointEvent]:
    found: list[CheckpointEvent] = []
    async with aclosing(store.streams(workflow_name=stream.workflow_name, emptied=False)) as streams:
        async for other in streams:
            async with aclosing(store.headers(other, lte=1)) as firsts:
                async for first in firsts:
                    origin = first.forked_from
                    if origin and (origin.workflow_name, origin.run_id) == (stream.workflow_name, stream.run_id):
                        found.append(first)
    return sorted(found, key=lambda first: first.recorded_at)
