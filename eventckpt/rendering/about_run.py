"""What one run amounts to, in words: how it stands, what it waits for, how to answer that, how much there is of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..audit.glance import Fork, Glance
from ..audit.removed import Removed
from ..events import CheckpointEvent, PendingRequest, RunInfo, StreamId
from ..traceparent import trace_id_in
from .fields import claim_fields, event_fields, fields_of, fork_fields, removed_fields, run_fields
from .shell import quoted
from .words import said_text, standing, status_of_run

__all__ = [
    "counts_of",
    "fork_text",
    "how_to_answer",
    "lines_of_last",
    "lines_of_run",
    "question_text",
    "said_of_run",
    "standing_of_run",
    "waits_for",
]

Time = Callable[[str], str]
"""How a time is told."""


def lines_of_run(found: Glance) -> Iterator[tuple[str, dict[str, object]]]:
    """The JSON lines that say what a run amounts to."""
    yield "run", run_fields(found.info)
    if found.holder is not None:
        yield "claim", claim_fields(found.info.stream, found.holder)
    for fork in found.forks:
        yield "fork", fork_fields(fork)


def lines_of_last(gone: Removed | None, events: Sequence[CheckpointEvent]) -> Iterator[tuple[str, dict[str, object]]]:
    """The JSON lines behind those: that it was removed, and its last events."""
    if gone is not None:
        yield "removed", fields_of(gone.stream) | removed_fields(gone)
    for event in events:
        yield "event", event_fields(event)


def waits_for(info: RunInfo) -> tuple[PendingRequest, ...]:
    """The questions of a run that anybody may still answer."""
    return info.pending_requests if info.waiting_since else ()


def standing_of_run(info: RunInfo) -> str:
    """How a run stands, and how many questions it has."""
    return standing(status_of_run(info), waits_for(info))


def said_of_run(found: Glance, time: Time) -> Iterator[tuple[str, str]]:
    """What there is to say of a run beside how it stands, its questions and its forks, each with its name."""
    info = found.info
    if said := said_text(info):
        yield "annotations", said
    if found.holder is not None:
        yield "claim", found.holder.named()
    if info.checkpoint_id is not None:
        yield "checkpoint", f"{info.checkpoint_id}, seq {info.checkpoint_seq}, superstep {info.iteration_count}"
    if trace_id := trace_id_in(info.traceparent):
        yield "trace", trace_id
    yield from counts_of(info, time)
    if (origin := info.forked_from) is not None:
        yield "forked from", f"seq {origin.seq} of run {origin.run_id}"


def counts_of(info: RunInfo, time: Time, entries: str = "checkpoints") -> Iterator[tuple[str, str]]:
    """How much there is of a stream, and from when to when."""
    removed = f", {info.removed:,} removed" if info.removed else ""
    kept = f"{info.checkpoints:,} {entries if info.checkpoints != 1 else entries.removesuffix('s')}"
    yield "events", f"{kept}, {info.tombstones:,} other{'s' if info.tombstones != 1 else ''}{removed}"
    yield "stored", f"{info.stored_size:,} bytes"
    yield "began", time(info.started_at)
    yield "last written", time(info.recorded_at) + (f" by {info.actor}" if info.actor else "")


def question_text(info: RunInfo, asked: PendingRequest, time: Time) -> str:
    """A question, who asks it, and since when."""
    since = time(info.asked_at(asked))
    return f"{asked.request_id} from {asked.source_executor_id}, asked {since}: {asked.prompt or asked.request_type}"


def how_to_answer(
    stream: StreamId,
    asked: PendingRequest,
    *,
    app: str = "MODULE:CALLABLE",
    allow: Sequence[str] = (),
    earlier: Sequence[str] = (),
) -> str:
    """The command that answers a question, to be copied: so nothing stored means anything to a shell in it.

    Args:
        stream: the run.
        asked: the question.
        app: what builds the workflow, where that is known.
        allow: types that the application's storages allow, where these are known.
        earlier: the ids of what was answered before and is needed again.
    """
    names = [stream.run_id, asked.request_id]
    also = "".join(f" --also {quoted(request_id)}=ANSWER" for request_id in earlier)
    types = "".join(f" --allow {quoted(each)}" for each in allow)
    words, how = " ".join(map(quoted, names)), f"--json ANSWER{also} --app {quoted(app)}{types}"
    of_type = f"  # JSON of {asked.response_type}" if asked.response_type else ""
    looks_like_an_option = any(name.startswith("-") for name in names)
    return f"eventckpt answer {f'{how} -- {words}' if looks_like_an_option else f'{words} {how}'}{of_type}"


def fork_text(fork: Fork) -> str:
    """A run that forked from another one, and where."""
    return f"run {fork.stream.run_id} at seq {fork.origin.seq}"
