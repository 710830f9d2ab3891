"""Where each checkpoint of a lineage is drawn: a row each, branches further right, and of a long straight line only its
ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..audit.kinds import LogKind
from ..audit.lineage import Node, walk
from ..events import CheckpointEvent, StreamId
from ..rendering.lineage import node_text
from ..text import cell

__all__ = ["Branch", "Drawing", "drawing_of"]

_HEIGHT: Final = 24  # of a row
_INDENT: Final = 20
_LEFT: Final = 14
_DEEPEST: Final = 40  # branches of branches that are still drawn further right
_STRAIGHT: Final = 4  # checkpoints that follow each other, from which on they are one row
_FORKS: Final = 10  # runs that are named at one checkpoint


class Branch(NamedTuple):
    """A row: a checkpoint, several of a straight line, or a run that began there."""

    x: int
    y: int
    edge: str
    """The path from what it follows; empty: it follows nothing."""
    text: str
    link: tuple[str, dict[str, object]] | None
    """Path and query of where it leads."""
    kind: str
    """checkpoint, deleted, elsewhere, several, or run."""


class Drawing(NamedTuple):
    """A lineage, as it is drawn."""

    width: int
    height: int
    rows: list[Branch]
    left: int
    """Checkpoints that have no row, and are in none."""


class _Several(NamedTuple):
    nodes: list[Node]


def drawing_of(roots: Sequence[Node], stream: StreamId, kind: LogKind, *, most: int) -> Drawing:
    """Draw a lineage.

    Args:
        roots: its trees.
        stream: the run.
        kind: what the log is of.
        most: rows at most.
    """
    rows: list[Branch] = []
    left = 0
    at: dict[int, tuple[int, int]] = {}
    """By depth, where the last row of that depth is."""
    firsts = set(map(id, roots))
    for depth, branch, part in _straightened(roots):
        node = part.nodes[0] if isinstance(part, _Several) else part
        if len(rows) >= most:
            left += len(part.nodes) if isinstance(part, _Several) else 1
            continue
        above = None if id(node) in firsts else at.get(depth - 1 if branch else depth)
        row = _row(len(rows), depth, above, *_shown(part, stream, kind))
        rows.append(row)
        at[depth] = row.x, row.y
        for text, link in () if isinstance(part, _Several) else _runs(part.forks):
            if len(rows) < most:
                rows.append(_row(len(rows), depth + 1, at[depth], text, link, "run"))
    return Drawing(_width(rows), len(rows) * _HEIGHT + 8, rows, left)


def _straightened(roots: Sequence[Node]) -> Iterator[tuple[int, bool, Node | _Several]]:
    """The nodes as `walk` gives them; of those in the middle of a long straight line, one thing."""
    line: list[Node] = []
    depth_of_line = 0
    for depth, branch, node in walk(list(roots)):
        if line and not (depth == depth_of_line and not branch and line[-1].children[:1] == [node]):
            yield from _folded(depth_of_line, line)
            line = []
        if not branch and _is_plain(node):
            depth_of_line = depth
            line.append(node)
        else:
            yield from _folded(depth_of_line, line)
            line = []
            yield depth, branch, node
    yield from _folded(depth_of_line, line)


def _folded(depth: int, line: list[Node]) -> Iterator[tuple[int, bool, Node | _Several]]:
    if len(line) < _STRAIGHT:
        yield from ((depth, False, node) for node in line)
        return
    yield depth, False, line[0]
    yield depth, False, _Several(line[1:-1])
    yield depth, False, line[-1]


def _is_plain(node: Node) -> bool:
    event = node.event
    is_live = event is not None and event.type != "tombstone" and event.migration is None
    return is_live and len(node.children) < 2 and not node.forks


def _shown(
    part: Node | _Several, stream: StreamId, kind: LogKind
) -> tuple[str, tuple[str, dict[str, object]] | None, str]:
    """The text of a row, where it leads, and its kind."""
    if isinstance(part, _Several):
        seqs = [node.event.seq for node in part.nodes if node.event is not None]
        text = f"{len(part.nodes):,} checkpoints in a line, seq {min(seqs):,} to {max(seqs):,}"
        return text, None, "several"
    event = part.event
    if event is None:
        return cell(node_text(part, kind)), None, "elsewhere"
    link: dict[str, object] = {"run": stream.run_id, "seq": event.seq, "workflow": stream.workflow_name}
    name = "deleted" if event.type == "tombstone" else "checkpoint"
    return cell(node_text(part, kind)), ("/event", link), name


def _runs(forks: Sequence[CheckpointEvent]) -> Iterator[tuple[str, tuple[str, dict[str, object]] | None]]:
    """The runs that began at a checkpoint, and where they are shown."""
    for fork in forks[:_FORKS]:
        link: dict[str, Any] = {"run": fork.run_id, "workflow": fork.workflow_name}
        yield cell(f"run {fork.run_id} begins here"), ("/run", link)
    if len(forks) > _FORKS:
        yield f"{len(forks) - _FORKS:,} more runs begin here", None


def _row(
    index: int,
    depth: int,
    above: tuple[int, int] | None,
    text: str,
    link: tuple[str, dict[str, object]] | None,
    kind: str,
) -> Branch:
    x, y = _LEFT + _INDENT * min(depth, _DEEPEST), _HEIGHT * index + _HEIGHT // 2
    edge = "" if above is None else f"M{above[0]} {above[1]}V{y}H{x}"
    return Branch(x, y, edge, text, link, kind)


def _width(rows: Sequence[Branch]) -> int:
    return max((row.x + 20 + 7 * len(row.text) for row in rows), default=0)
