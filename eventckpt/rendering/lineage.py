"""What a checkpoint of a lineage is, in words."""

from __future__ import annotations

from ..audit.kinds import LogKind
from ..audit.lineage import Node
from .turns import roles_text
from .words import standing_of

__all__ = ["node_text"]


def node_text(node: Node, kind: LogKind) -> str:
    """A checkpoint of a lineage, or a turn."""
    checkpoint_id, event = node.checkpoint_id, node.event
    if event is None:
        return f"{checkpoint_id} (not in this {kind.stream})"
    if event.type == "tombstone":
        return f"{checkpoint_id} (deleted at seq {event.seq})"
    if event.type != "checkpoint":
        return f"{checkpoint_id}  seq {event.seq}{', '.join(['', roles_text(event)]) if event.turn else ''}"
    made = f", made by the migration {event.migration.name}" if event.migration else ""
    return f"{checkpoint_id}  seq {event.seq}, superstep {event.iteration_count}{standing_of(event)}{made}"
