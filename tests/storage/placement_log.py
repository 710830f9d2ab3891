"""A log in the words of the placement model, whether it is that of a store or of a world; also to be read by people."""

from __future__ import annotations

from eventckpt import CheckpointEvent, CheckpointNotFoundError, EventCheckpointStorage, RunCheckpointStorage, StreamId

from .placement_model import At, Entry, World


def places(seen: dict[StreamId, dict[int, CheckpointEvent]]) -> list[At]:
    return [(stream, seq) for stream, headers in seen.items() for seq in headers]


Shown = tuple[str, str, int]
"""Workflow, name and content of a checkpoint."""


async def loaded_by(through: EventCheckpointStorage | RunCheckpointStorage, name: str) -> Shown | None:
    try:
        found = await through.load(name)
    except CheckpointNotFoundError:
        return None
    assert found.state["content"] == found.iteration_count
    return found.workflow_name, found.checkpoint_id, found.iteration_count


def shown(world: World, at: At | None) -> Shown | None:
    return None if at is None else (at[0].workflow_name, world.entry(at).name, world.entry(at).content)


def listed(world: World, who: str, workflow: str) -> list[str]:
    home = world.readers[who].home
    streams = [home] if home else [stream for stream in world.log if stream.workflow_name == workflow]
    found = [at for stream in streams for at in world.live(stream)]
    order = world.stamps.__getitem__ if home is None else lambda at: at[1]
    return [world.entry(at).name for at in sorted(found, key=order)]


def logged(world: World) -> dict[StreamId, dict[int, Entry]]:
    """What a world says that the store holds."""
    return {stream: dict(world.there(stream)) for stream in world.log}


def read_as(seen: dict[StreamId, dict[int, CheckpointEvent]]) -> dict[StreamId, dict[int, Entry]]:
    return {stream: {seq: entry_of(header) for seq, header in headers.items()} for stream, headers in seen.items()}


def entry_of(header: CheckpointEvent) -> Entry:
    point = header.forked_from
    return Entry(
        header.type,
        header.checkpoint_id,
        header.iteration_count,
        (StreamId(point.workflow_name, point.run_id), point.seq) if point else None,
    )


def drawn(seen: dict[StreamId, dict[int, CheckpointEvent]]) -> str:
    return written(read_as(seen))


def drawn_log(world: World) -> str:
    return written(logged(world))


def written(log: dict[StreamId, dict[int, Entry]]) -> str:
    """A log to be read by people who look for the difference."""
    lines: list[str] = []
    for stream, entries in sorted(log.items()):
        events = [
            f"{seq}:{'-' if entry.kind == 'tombstone' else ''}{entry.name}={entry.content}"
            + (f"<{entry.forked_from[0].run_id}@{entry.forked_from[1]}" if entry.forked_from else "")
            for seq, entry in sorted(entries.items())
        ]
        lines.append(f"  {stream.workflow_name}/{stream.run_id}: {' '.join(events)}")
    return "\n" + "\n".join(lines)
