"""What an event or a run is, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..audit.removed import Removed
from ..audit.verify import Problem, Verdict
from ..events import REMOVALS, Annotation, CheckpointEvent, PendingRequest, Removal, RunInfo, StreamId
from ..runs import status as status_of
from ..text import cell

__all__ = [
    "NO_PLACE_FOR_SESSIONS",
    "about_text",
    "is_only_newer",
    "not_gone_yet",
    "problem_text",
    "pruned_text",
    "removal_text",
    "removed_text",
    "said_text",
    "standing",
    "standing_of",
    "status_of_run",
    "stream_text",
    "tag_texts",
    "waits_text",
]

NO_PLACE_FOR_SESSIONS: Final = "This store has no place for sessions yet: the first turn that is saved makes one."
_NAMED: Final = 3  # of the runs that were removed at once


def standing(status: str, asked: Sequence[PendingRequest]) -> str:
    """How a run stands, in words: one that is running may have questions, too."""
    if status == "waiting":
        return f"waiting for {len(asked)}"
    return f"{status}, waits for {len(asked)}" if asked else status


def standing_of(event: CheckpointEvent, before: str = ", ") -> str:
    """How the run stood after this event, behind `before`; nothing of a deletion."""
    if event.type == "tombstone":
        return ""
    return before + standing(status_of(event), event.summary.pending_requests)


def status_of_run(info: RunInfo) -> str:
    """How a run stands; one of which nothing counts any more does not."""
    return "removed" if info.is_emptied else info.status


def about_text(event: CheckpointEvent) -> str:
    """What an event that holds no checkpoint says."""
    if event.is_annotation and event.annotation is not None:
        return said_text(event.annotation) or "no tags, not on hold"
    if event.removal is not None:
        return removal_text(event.removal)
    return pruned_text(event) if event.is_removal else ""


def said_text(said: Annotation | RunInfo, status: str = "") -> str:
    """What was said about a run: how it ended, or how it stands, and why; its tags, a hold."""
    head = status or said.outcome or ""
    reason = [said.reason] if said.reason else []
    rest = ", ".join([*reason, *tag_texts(said.tags), *(["on hold"] if said.hold else [])])
    return f"{head} ({rest})" if head and rest else head or rest


def pruned_text(event: CheckpointEvent) -> str:
    """What a record of a removal says is gone."""
    return ", ".join(f"gone: {removed.first} to {removed.last}" for removed in event.pruned)


def removal_text(removal: Removal) -> str:
    """What a removal of runs tells: which, why, and where they are."""
    some = ", ".join(run.run_id for run in removal.runs[:_NAMED])
    more = f" and {len(removal.runs) - _NAMED:,} more" if len(removal.runs) > _NAMED else ""
    return f"gone: {some}{more}{_why_text(removal)}"


def removed_text(removed: Removed, what: str, *, head_seq: int, time: Callable[[str], str]) -> str:
    """What is said of a run, or of a session (`what`), that was removed as a whole, and has a head at `head_seq`.

    Args:
        removed: who removed it, and when.
        what: what the log is of, in a word.
        head_seq: of its head by now.
        time: how a time is told.
    """
    by = f" by {removed.actor}" if removed.actor else ""
    text = f"{stream_text(removed.stream, what)} was removed {time(removed.recorded_at)}{by}{_why_text(removed)}"
    is_begun = head_seq > removed.seq
    if removed.left:
        text += f". {removed.left:,} events of it are still there: delete the {what} again to finish that"
    elif not removed.told_at:
        text += f", of which {stream_text(StreamId(removed.stream.workflow_name, REMOVALS), what)} do not tell"
    return f"{text}. It was begun again at seq {removed.seq + 1}" if is_begun else text


def _why_text(of: Removal | Removed) -> str:
    why = f", {of.reason}" if of.reason else ""
    return f"{why}, kept in {of.archive}" if of.archive else why


def stream_text(stream: StreamId, what: str) -> str:
    """A run, or another log (`what`), as a line names it; or what tells of those that were removed."""
    if not stream.is_run:
        return f"the removals of {cell(stream.workflow_name)}"
    return f"{what} {cell(stream.run_id)} of {cell(stream.workflow_name)}"


def problem_text(stream: StreamId, problem: Problem, what: str) -> str:
    """What is wrong with a stream, as a line says it."""
    return f"{stream_text(stream, what)}, seq {problem.seq}: {problem.why.upper()}: {problem.detail}"


def tag_texts(tags: Mapping[str, str]) -> list[str]:
    """Tags as they are given."""
    return [f"{name}={value}" for name, value in tags.items()]


def waits_text(info: RunInfo) -> str:
    """What a run waits for: who asks, and for what."""
    return ", ".join(f"{asked.source_executor_id}: {asked.request_type}" for asked in info.pending_requests)


def not_gone_yet(stream: StreamId, count: int, what: str) -> str:
    """What is said of a run, or of another stream (`what`), whose prune was cut off."""
    return (
        f"{what} {stream.run_id} of {stream.workflow_name}: {count:,} events are recorded as removed and still there; "
        f"they count no more, and the next prune of the {what} removes them"
    )


def is_only_newer(verdict: Verdict) -> bool:
    """Whether all that is wrong with a run is that a later version wrote events of it."""
    return not verdict.ok and all(problem.why == "newer" for problem in verdict.problems)
