"""A new run that begins with a copy of another run's checkpoint. The copy has an id of its own; none of its values
is made alive, so that no type has to be allowed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Final

import msgspec

from .. import delta
from ..chain import sealed
from ..codec.root import opened
from ..codec.tree_reader import read_tree
from ..errors import CheckpointDecodeError
from ..events import FIRST_SCHEMA, CheckpointEvent, ForkPoint, check_run_id
from ..text import safe

__all__ = ["fork_event"]

_NEEDED: Final = frozenset({"workflow_name", "graph_signature_hash", "checkpoint_id", "state"})
"""Fields that every checkpoint has."""


def fork_event(origin: CheckpointEvent, raw: bytes, run_id: str, *, actor: str | None) -> CheckpointEvent:
    """The first event of run `run_id`: the checkpoint in `origin`, whose raw bytes are `raw`, under a new id.

    Its lineage goes on from the original's, so that the framework resumes from it as from the original.
    """
    moment = datetime.now(UTC).isoformat()
    checkpoint_id = str(uuid.uuid4())
    copied = _copied(
        origin,
        raw,
        {"checkpoint_id": checkpoint_id, "previous_checkpoint_id": origin.checkpoint_id, "timestamp": moment},
    )
    return sealed(
        msgspec.structs.replace(
            origin,
            run_id=check_run_id(run_id),
            seq=1,
            checkpoint_id=checkpoint_id,
            previous_checkpoint_id=origin.checkpoint_id,
            timestamp=moment,
            recorded_at=moment,
            payload=delta.encode(copied),
            actor=actor,
            forked_from=ForkPoint(
                workflow_name=origin.workflow_name,
                run_id=origin.run_id,
                seq=origin.seq,
                checkpoint_id=origin.checkpoint_id,
            ),
            previous_digest=origin.digest,
            migration=None,  # the origin's: the lineage leads there
            claim=None,
            traceparent=None,
            schema=FIRST_SCHEMA,
        )
    )


def _copied(origin: CheckpointEvent, raw: bytes, changes: dict[str, str]) -> bytes:
    """The raw bytes of a checkpoint with other fields, and the shapes that were recorded of its classes.

    Raises:
        CheckpointDecodeError: they are no checkpoint; says which event it is.
    """
    where = f"Seq {origin.seq} of run {origin.run_id!r}, workflow {origin.workflow_name!r}, cannot be forked from"
    try:
        read_tree(raw, lambda type_name: True)  # a copy of what nobody can read would be one damaged run more
        root = opened(raw)
        if not _NEEDED.issubset(root.fields):
            raise CheckpointDecodeError("Its bytes are MessagePack, but not a checkpoint.")
        return root._replace(fields=root.fields | changes).packed()
    except Exception as error:
        raise CheckpointDecodeError(f"{where}: {safe(error)}") from error
