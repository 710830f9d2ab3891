"""What somebody says about a run: how it ended, its tags, a hold. It is an event of its own, behind whatever the head
is, and conflicts with nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, get_args

from .. import settings
from ..chain import flaw_of, is_newer
from ..errors import RunNotFoundError, StoreCorruptError, StoreFormatError
from ..events import MAX_REASON, MAX_TAG, MAX_TAGS, Annotation, CheckpointEvent, Outcome, Pruned, StreamId
from ..runs import carried, fold
from ..stores import EventStore, head_of
from ..stores.walks import headers_of
from ..text import described
from .compose import annotation_after
from .conflict import append_behind
from .memory import EMPTY, Head

__all__ = ["Change", "InForce", "annotate", "change_of", "in_force"]

_NOTHING: Final = Annotation()


class Change(NamedTuple):
    """What an annotation changes; what is None stays as it is."""

    outcome: Outcome | None
    reason: str | None
    tags: Mapping[str, str | None]
    """Of value None: to be taken away."""
    hold: bool | None

    def of(self, stands: Annotation) -> Annotation:
        """What is said from here on.

        Raises:
            ValueError: that would be too many tags.
        """
        merged = {**stands.tags, **self.tags}
        tags = {name: value for name, value in merged.items() if value is not None}
        if len(tags) > MAX_TAGS:
            raise ValueError(
                f"A run has at most {MAX_TAGS} tags, and would have {len(tags)}: take some away, by the value None."
            )
        hold = stands.hold if self.hold is None else self.hold
        return Annotation(outcome=self.outcome, reason=self.reason, tags=tags, hold=hold)


def change_of(
    outcome: Outcome | None, reason: str | None, tags: Mapping[str, str | None] | None, hold: bool | None
) -> Change:
    """What was given for an annotation; see `RunCheckpointStorage.annotate`.

    Raises:
        TypeError, ValueError: it is nothing, or not of the form that is asked for.
    """
    if outcome is not None:
        settings.choice("outcome", outcome, *get_args(Outcome))
    if reason is not None:
        settings.text("reason", reason, longest=MAX_REASON)
        if outcome is None:
            raise ValueError("reason says why a run ended so: give an outcome with it.")
    if hold is not None:
        settings.flag("hold", hold)
    if tags is not None and not isinstance(tags, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
        raise TypeError(f"tags is a mapping of names to values, not {described(tags)}.")
    given = dict(tags or {})
    for name, value in given.items():
        settings.text("The name of a tag", name, longest=MAX_TAG)
        if value is not None:
            settings.text("The value of a tag", value, longest=MAX_TAG)
            if "=" in name:
                raise ValueError(
                    f"The name of a tag has no '=', which ends it where tags are asked for: {described(name)}."
                )
    if outcome is None and hold is None and not given:
        raise ValueError("Nothing is said about the run: give an outcome, tags, or hold.")
    return Change(outcome, reason, given, hold)


async def annotate(
    store: EventStore,
    stream: StreamId,
    change: Change,
    *,
    head: Head = EMPTY,
    actor: str | None,
    check: Callable[[Head], None] | None = None,
) -> CheckpointEvent:
    """Append an annotation, behind whatever the head is.

    Where another event comes first, what is in force is asked again.

    Args:
        store: the engine.
        stream: the run.
        change: what is said.
        head: the last event that was seen of the run.
        actor: who says so.
        check: is told each head that it would follow, as far as that is known; what it raises is raised.

    Raises:
        RunNotFoundError: the run has no events, or was removed; nothing was written.
        ValueError: it would have too many tags; nothing was written.
        StoreCorruptError, StoreFormatError: what is in force cannot be read, or nothing can follow the head.
        CheckpointStoreError: the engine failed.
    """

    async def after(seen: Head) -> CheckpointEvent:
        if seen == EMPTY:
            last = await head_of(store, stream)
            if last is None:
                raise _no_run(stream)
            seen = Head.of(last)
        stands = await in_force(store, stream, seen)
        if check is not None:
            check(stands.head)
        if stands.is_closed:
            raise _no_run(stream)
        return annotation_after(stream, stands.head, change.of(stands.said), stands.pruned, actor)

    event = await append_behind(store, head, after)
    if event is None:
        raise _no_run(stream)
    return event


class InForce(NamedTuple):
    """What counts of a run beside its checkpoints."""

    said: Annotation
    pruned: tuple[Pruned, ...]
    """What is recorded as removed."""
    head: Head
    """As of which that is so. What repeats it goes right behind this head, or not at all."""
    knows_outcome: bool = True
    """Whether the outcome that was said is in force; otherwise a checkpoint may have ended it since."""
    is_closed: bool = False
    """Whether the run was removed as a whole, and nobody has begun it again."""


async def in_force(store: EventStore, stream: StreamId, seen: Head) -> InForce:
    """What was said about a run and is recorded as removed from it, by the newest event without checkpoint id, which
    repeats all of that. Only 0.1.0 wrote records that do not: then all headers tell.

    Args:
        store: the engine.
        stream: the run.
        seen: its head, read before this is asked: where nothing was said by now, nothing was said up to there.

    Raises:
        StoreCorruptError, StoreFormatError: that event cannot be read.
        CheckpointStoreError: the engine failed.
    """
    located = await store.find("", stream=stream)
    if located is None:
        return InForce(_NOTHING, (), seen)
    event, head = located.event, Head.of(located.head)
    if flaw := flaw_of(event):
        raise (StoreFormatError if is_newer(event) else StoreCorruptError)(
            f"What is said about run {stream.run_id!r} of workflow {stream.workflow_name!r} cannot be read at seq "
            f"{event.seq}: {flaw}. Nothing was written; `eventckpt verify` tells more."
        )
    is_last = event.seq == head.seq
    if event.closes and is_last:
        return InForce(_NOTHING, event.pruned, head, is_closed=True)
    if event.annotation is None and event.is_removal:
        return InForce(carried(fold(await headers_of(store, stream))) or _NOTHING, event.pruned, head)
    return InForce(event.annotation or _NOTHING, event.pruned, head, knows_outcome=is_last)


def _no_run(stream: StreamId) -> RunNotFoundError:
    return RunNotFoundError(
        f"Run {stream.run_id!r} of workflow {stream.workflow_name!r} has no events: nothing was said about it. "
        "Annotate a run that has a checkpoint; `eventckpt runs` lists those there are."
    )
