"""Which unfinished runs would go on under an application as it is now: asked before it is deployed, of the store as it
is.

What a resume does is done here up to the point where the application's own code would run: the latest checkpoint is
decoded under the application's types, and the hash of its graph is compared with that of the workflow.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from agent_framework import Executor, WorkflowCheckpoint

from ..codec import Drift
from ..codec.tree_reader import types_in
from ..codec.upcasters import Upcasters
from ..errors import CheckpointDecodeError, CheckpointNotFoundError
from ..events import CheckpointEvent, RunInfo, RunStatus
from ..runs import agree
from ..stores import AuditStore
from ..text import described, safe
from ..threads import in_thread, off_the_loop
from .graph_changes import Candidates, GraphChange, GraphDifference, class_names, difference, hash_of
from .resolve import checkpoint_at
from .states import States

__all__ = ["UNFINISHED", "Application", "Preflight", "built_workflow", "preflight_runs"]

UNFINISHED: Final[tuple[RunStatus, ...]] = ("running", "waiting", "open")
"""How a run stands that may be resumed."""

_SEARCHES: Final = 20
"""Graphs of the past whose difference is searched for; of more, only what is certain is told."""
_MODULES: Final = 300
_CLASSES: Final = 200
_NOT_THE_APP: Final = frozenset({"agent_framework", "builtins", "openai"})

Outcome: TypeAlias = Literal["loads", "drifts", "cannot load", "graph differs"]


class Preflight(NamedTuple):
    """What would become of a run."""

    info: RunInfo
    outcome: Outcome
    """`cannot load` goes before `graph differs`, and that before `drifts`; the fields below have all that was found."""
    resumes: bool
    """Whether the run would go on. One that drifts does where its storage has `on_drift="warn"`."""
    why: str = ""
    """What a load would say where it would not give the checkpoint."""
    drifts: tuple[Drift, ...] = ()
    """Where a class has changed such that a stored value does not fit it."""
    graph: GraphDifference | None = None
    """In what the graph differs; None: it is the same."""


class _Graph:
    """The graph of a workflow, to be compared with those of runs.

    Args:
        workflow: see `Application`.
        modules: where classes of the application were.
    """

    def __init__(self, workflow: object, modules: Iterable[str]) -> None:
        built = built_workflow(workflow)
        self.name: str = built.name
        """That of the workflow."""
        self._hash: str = built.graph_signature_hash
        self._signature: dict[str, Any] | None = getattr(built, "graph_signature", None)
        self._modules = tuple(modules)
        self._found: dict[tuple[str, frozenset[str]], GraphDifference] = {}

    async def difference(self, then: str, executor_ids: Iterable[str], raw: bytes) -> GraphDifference | None:
        """In what it differs from the graph that a checkpoint was saved under; None: it does not.

        Args:
            then: the hash of that graph.
            executor_ids: the executors that the run has state for.
            raw: the checkpoint, whose types say where the application's classes were.
        """
        if self._signature is None:
            return None if then == self._hash else GraphDifference((self._of_code(),), is_all=True)
        ids = frozenset(executor_ids)
        if then == self._hash and ids <= self._signature["executors"].keys():
            return None
        known = self._found.get((then, ids))
        if known is not None:
            return known
        if len(self._found) == _SEARCHES or then == self._hash or hash_of(self._signature) != self._hash:
            return difference(self._signature, then, ids, None)
        found = self._found[then, ids] = await in_thread(self._searched, self._signature, then, ids, raw)
        return found

    def _searched(self, now: dict[str, Any], then: str, ids: frozenset[str], raw: bytes) -> GraphDifference:
        return difference(now, then, ids, _candidates(now, raw, self._modules))

    def _of_code(self) -> GraphChange:
        text = (
            f"{self.name!r} is a functional workflow, of which code is compared: that of its function, of one of "
            "its steps, or of a function that they call is another."
        )
        return GraphChange("code", self.name, text)


def built_workflow(workflow: object) -> Any:
    """The workflow that has a name and a hash, of what may be given for it; see `Application`.

    Raises:
        TypeError: it is none.
    """
    given: Any = workflow
    if not hasattr(given, "graph_signature_hash"):
        given = getattr(given, "workflow", given)  # of the agent that it is
        build = getattr(given, "build", None)  # of a builder, or of what the decorator of functional workflows makes
        if not isinstance(given, type) and callable(build):
            given = build()
    is_built = all(isinstance(getattr(given, name, None), str) for name in ("graph_signature_hash", "name"))
    if isinstance(given, type) or not is_built:
        raise TypeError(f"workflow is a workflow of agent_framework that was built, not {described(workflow)}.")
    return given


def _candidates(signature: dict[str, Any], raw: bytes, modules: Iterable[str]) -> Candidates:
    """Where the classes of a graph may have been, and which others there are."""
    classes: list[str] = []
    rest: list[type[Any]] = [Executor]
    while rest and len(classes) < _CLASSES:
        cls = rest.pop(0)
        classes.append(f"{cls.__module__}.{cls.__name__}")
        rest += cls.__subclasses__()
    try:
        stored = [key.partition(":")[0] for key in sorted(types_in(raw)) if ":" in key]
    except CheckpointDecodeError:  # why it cannot be loaded, and told as that
        stored = []
    packages = {name.partition(".")[0] for name in class_names(signature)}
    loaded = [name for name in list(sys.modules) if name.partition(".")[0] in packages]
    own = [name for name in dict.fromkeys((*modules, *stored, *loaded)) if name.partition(".")[0] not in _NOT_THE_APP]
    return Candidates(tuple(own[:_MODULES]), tuple(dict.fromkeys(classes)))


class _Loaded(NamedTuple):
    checkpoint: WorkflowCheckpoint | None
    """None: it cannot be loaded, even where drift is only told of."""
    drifts: tuple[Drift, ...]
    why: str
    """Why it cannot be loaded, or not where drift is an error."""


class Application:
    """An application as it is now: its workflow, and how it loads checkpoints.

    Args:
        workflow: one that was built, of the framework's graph or functional kind; or what builds it without being told
            more, such as a builder, or what the decorator `workflow` made of a function; or the agent that a workflow
            is `as_agent`.
        states: what loads checkpoints as the storages of the application do.

    Raises:
        TypeError: `workflow` is none of these.
    """

    def __init__(self, workflow: object, states: States) -> None:
        moved = (key.partition(":")[0] for key in Upcasters(states.upcasters).chains())
        self._graph = _Graph(workflow, moved)
        self._states = states
        self._lenient = states.decoder_with("warn")

    @property
    def workflow_name(self) -> str:
        return self._graph.name

    async def resumed(self, store: AuditStore, info: RunInfo) -> Preflight:
        """What would become of a run that were resumed from its latest checkpoint."""
        try:
            event = await checkpoint_at(store, info.stream, None, None, None)
            raw = await self._states.raw(event)
        except (CheckpointDecodeError, CheckpointNotFoundError) as error:
            return Preflight(info, "cannot load", resumes=False, why=safe(error))
        loaded = await off_the_loop(len(raw), self._loaded, raw)
        differs = await self._graph.difference(*_graph_then(event, loaded.checkpoint), raw)
        outcome: Outcome = "drifts" if loaded.drifts else "loads"
        if loaded.checkpoint is None:
            outcome = "cannot load"
        elif differs is not None:
            outcome = "graph differs"
        resumes = not loaded.why and differs is None
        return Preflight(info, outcome, resumes, why=loaded.why, drifts=loaded.drifts, graph=differs)

    def _loaded(self, raw: bytes) -> _Loaded:
        drifts: list[Drift] = []
        checkpoint: WorkflowCheckpoint | None = None
        try:
            checkpoint = self._lenient.decode(raw, told=drifts.append)
            if drifts:
                self._states.decoder.decode(raw, told=lambda drift: None)
        except CheckpointDecodeError as error:
            return _Loaded(checkpoint, tuple(drifts), safe(error))
        return _Loaded(checkpoint, tuple(drifts), "")


async def preflight_runs(
    store: AuditStore, application: Application, runs: AsyncGenerator[RunInfo, None], statuses: Collection[RunStatus]
) -> AsyncGenerator[Preflight, None]:
    """See `CheckpointAudit.preflight`; one checkpoint is in memory at a time."""
    async with aclosing(runs):
        async for info in runs:
            if info.checkpoint_id is not None and any(agree(info.status, status) for status in statuses):
                yield await application.resumed(store, info)


def _graph_then(event: CheckpointEvent, checkpoint: WorkflowCheckpoint | None) -> tuple[str, list[str]]:
    """The hash of the graph that a checkpoint was saved under, and the executors that it has state for; from its header
    where it cannot be loaded."""
    if checkpoint is None:
        return event.graph_signature_hash, list(event.summary.executor_ids)
    executors: object = checkpoint.state.get("_executor_state")
    names = cast("dict[object, object]", executors) if isinstance(executors, dict) else {}
    return checkpoint.graph_signature_hash, [name for name in names if isinstance(name, str)]
