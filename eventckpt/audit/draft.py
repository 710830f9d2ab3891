"""A checkpoint that is being edited: its stored forms, of which none is made alive, and what the framework keeps by the
id of an executor, which a plain edit would have to know all places of.

A sub-workflow's checkpoint lies in the state of the executor that runs it, and is a draft of its own: what it holds
goes by the executors of the sub-workflow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

from agent_framework import (
    AgentExecutorResponse,
    SubWorkflowRequestMessage,
    SubWorkflowResponseMessage,
    WorkflowCheckpoint,
    WorkflowEvent,
    WorkflowExecutor,
    WorkflowInvocationKwargs,
    WorkflowMessage,
)

from ..allowlist import type_key
from ..codec import forms as f
from ..codec.walk import labelled
from ..text import safe

__all__ = ["BuiltWorkflow", "Draft"]

_Node: TypeAlias = Any
"""A stored form, or a value that stands for itself."""

_STATES: Final = "_executor_state"
_EDGES: Final = "_edge_state"
_BUFFER: Final = "buffer"
_SUB_WORKFLOW: Final = "sub_workflow_checkpoint"
_INTERNAL: Final = "internal:"
"""Before an executor's id, as the source of what comes from outside: the input, and answers."""
_ROUTED: Final = "_routed_workflow_run_kwargs"
_RESOLVED: Final = "_resolved_workflow_run_kwargs"
_LEGACY: Final = "_workflow_run_kwargs"
_RAW: Final = {
    "function_invocation_kwargs": "_raw_function_invocation_kwargs",
    "client_kwargs": "_raw_client_kwargs",
}


_MESSAGE: Final = type_key(WorkflowMessage)
_CHECKPOINT: Final = type_key(WorkflowCheckpoint)

_HOLD_IDS: Final[dict[str, tuple[str, ...]]] = {
    _MESSAGE: ("source_id", "target_id"),
    type_key(WorkflowEvent): ("executor_id", "_source_executor_id"),
    type_key(AgentExecutorResponse): ("executor_id",),
    type_key(SubWorkflowRequestMessage): ("executor_id",),
}
"""The framework's records that name an executor of the workflow, wherever in a checkpoint they are."""

_OF_SUB_WORKFLOWS: Final[dict[str, str]] = {
    _CHECKPOINT: f.STATE,
    type_key(SubWorkflowRequestMessage): "source_event",
    type_key(SubWorkflowResponseMessage): "source_event",
}
"""And where what they hold is a sub-workflow's, and names executors of that."""


class BuiltWorkflow(Protocol):
    """What a draft asks of a workflow as the application builds it: the framework's `Workflow`, or a functional one."""

    graph_signature_hash: str


class _Graph(NamedTuple):
    executors: frozenset[str]
    edges: frozenset[str]
    """The keys by which the framework keeps what waits at a group of edges."""


class Draft:
    """A checkpoint as it is stored, to be edited in place.

    Whoever migrates gets one: `fields` has a key for each field of `WorkflowCheckpoint`, and values as they are stored
    (docs/event-format.md, "The raw bytes"). Nothing in it was made alive, so that no class need be there.
    """

    def __init__(self, fields: dict[str, Any], shapes: dict[str, Any] | None, *, root: _Node = None) -> None:
        self.fields = fields
        """By the name of the field, its value in stored form."""
        self.shapes = shapes
        """The recorded shapes by type key; None in a checkpoint of 0.1.0. To be edited with the state of an object
        whose fields become others."""
        self._root = fields if root is None else root
        self._labels: dict[int, _Node] | None = None
        self._graph: _Graph | None = None
        self._goes_by_executors = bool(self.executors)
        self._inside: dict[str, Draft] = {}
        """The sub-workflows whose graph was set, by the executor that runs each."""

    @property
    def executors(self) -> list[str]:
        """The ids of the executors that have a state, which all of a graph workflow have; sorted."""
        return sorted(key for key, _ in self._entries(self._state(_STATES)))

    @property
    def graph(self) -> str:
        """The `graph_signature_hash`: the checkpoint resumes in a workflow whose own is the same."""
        return str(self.fields.get("graph_signature_hash"))

    def sub_workflow(self, executor_id: str) -> Draft:
        """The checkpoint of a sub-workflow, to be edited likewise.

        Args:
            executor_id: the `WorkflowExecutor` that runs it.

        Raises:
            ValueError: no such executor has one.
        """
        found = self._sub_workflow(executor_id)
        if found is None:
            raise ValueError(f"Executor {safe(executor_id)!r} holds no checkpoint of a sub-workflow; {self._there()}.")
        return found

    def rename_executor(self, old: str, new: str) -> None:
        """Give an executor another id: in its state, messages from it and to it, what waits at its edges, its pending
        requests, arguments that were given for it, and records of the framework that name it.

        What an application or an executor keeps by that id in a state of its own stays.

        Args:
            old: its id in the checkpoint.
            new: its id in the workflow as it is built now.

        Raises:
            TypeError: an id is no text.
            ValueError: there is no executor `old`, there is one `new`, or `new` is no id.
        """
        for name in (old, new):
            if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - what an application passes
                raise TypeError(f"An executor's id is text, not {type(name).__name__}.")
        if not new or new == f.FORM or new.startswith(_INTERNAL):
            raise ValueError(f"{safe(new)!r} is no id of an executor.")
        there = self.executors
        if old not in there or new in there:
            raise ValueError(
                f"Executor {safe(old)!r} cannot become {safe(new)!r}: "
                f"{'there is one of that name already' if old in there else 'there is none'}; {self._there()}."
            )

        def renamed(name: str) -> str:
            return new if name == old else _INTERNAL + new if name == _INTERNAL + old else name

        self._rename_in_arguments(old, renamed)
        for record in self._records():
            for attributes in self._attributes(record):
                for field in _HOLD_IDS[record[f.FORM]]:
                    if type(name := attributes.get(field)) is str:
                        attributes[field] = renamed(name)
        for by_id in (self.fields.get("messages"), self._state(_STATES)):
            self._rekey(by_id, renamed)
        self._rekey(self._state(_EDGES), lambda key: _edge_key(key, renamed))
        for _, waiting in self._entries(self._state(_EDGES)):
            self._rekey(self._entry(waiting, _BUFFER), renamed)

    def remove_executor(self, executor_id: str) -> None:
        """Drop the state of an executor that the workflow has no more. Its messages and questions stay: while there are
        any, the migration is refused.

        Raises:
            ValueError: there is no such executor.
        """
        states = self._resolved(self._state(_STATES))
        if executor_id not in self.executors:
            raise ValueError(f"There is no executor {safe(executor_id)!r}; {self._there()}.")
        if states.get(f.FORM) == f.DICT:
            states[f.PAIRS] = [pair for pair in states[f.PAIRS] if pair[0] != executor_id]
        else:
            del states[executor_id]

    def set_graph(self, workflow: BuiltWorkflow) -> None:
        """Let the checkpoint resume in a workflow as it is built now, and its sub-workflows in those in it.

        What the workflow has no place for is then a reason to refuse the migration: an executor's state, a message or
        a question of an executor that it does not have, and what waits at edges that it does not have.

        Args:
            workflow: as the application builds it, with the framework's own signature of its graph.

        Raises:
            TypeError: it is no workflow.
        """
        signature = getattr(workflow, "graph_signature_hash", None)
        if not isinstance(signature, str):
            raise TypeError(f"set_graph takes a built workflow, not {type(workflow).__name__}.")
        self.fields["graph_signature_hash"] = signature
        executors: dict[str, Any] = getattr(workflow, "executors", {})
        groups: Iterable[Any] = getattr(workflow, "edge_groups", ())
        self._graph = _Graph(frozenset(executors), frozenset(map(_key_of_edges, groups)))
        for name, executor in executors.items():
            if isinstance(executor, WorkflowExecutor) and (inside := self._sub_workflow(name)) is not None:
                inside.set_graph(executor.workflow)
                self._inside[name] = inside

    def left_behind(self) -> list[str]:
        """What would be lost in a resume: for each, a sentence without its end.

        Goes by the executors and edges of the workflow that `set_graph` was given, else by the executors that the draft
        has. A functional workflow has neither, and nothing of it is kept by executor.
        """
        there = self._graph.executors if self._graph else frozenset(self.executors)
        lost: list[str] = []
        if there or self._goes_by_executors:
            lost += self._requests_without(there)
            lost += self._messages_without(there)
            lost += [f"executor {safe(name)!r} has a state and is gone" for name in self.executors if name not in there]
        if self._goes_by_executors and not self.executors:
            lost.append("no executor is left")
        if self._graph:
            edges = [key for key, _ in self._entries(self._state(_EDGES)) if key not in self._graph.edges]
            lost += [f"messages wait at edges that are gone, {safe(key)}" for key in edges]
        for name, inside in self._inside.items():
            lost += [f"in the sub-workflow of {safe(name)!r}, {each}" for each in inside.left_behind()]
        return lost

    def _requests_without(self, there: frozenset[str]) -> Iterator[str]:
        for request_id, event in self._entries(self.fields.get("pending_request_info_events")):
            asked_by = self._attribute(self._resolved(event), "_source_executor_id")
            if asked_by not in there:
                yield f"the pending request {safe(request_id)!r} loses executor {safe(str(asked_by))!r}, which asked it"

    def _messages_without(self, there: frozenset[str]) -> Iterator[str]:
        gone: Counter[str] = Counter()
        for source, messages in self._entries(self.fields.get("messages")):
            for message in self._items(messages):
                target = self._attribute(self._resolved(message), "target_id")
                ends = (source.removeprefix(_INTERNAL), target)
                gone.update({end for end in ends if isinstance(end, str)} - there)
        for name, count in sorted(gone.items()):
            yield f"{count} messages from or to executor {safe(name)!r} have lost it"

    def _there(self) -> str:
        names = self.executors
        return f"there are {', '.join(map(repr, map(safe, names)))}" if names else "the checkpoint lists none"

    # Nodes

    def _resolved(self, node: _Node) -> _Node:
        """A node, or the one that it refers to."""
        reference = _map(node)
        if reference is None or reference.get(f.FORM) != f.REF:
            return node
        if self._labels is None:
            self._labels = labelled(self._root)
        return self._labels.get(reference[f.LABEL], node)

    def _forms(self, node: _Node, *, whole: bool) -> Iterator[dict[str, _Node]]:
        """The forms in a node; unless `whole`, without what is a sub-workflow's, and with what references lead to."""
        rest, met = [node], set[int]()
        while rest:
            held = rest.pop() if whole else self._resolved(rest.pop())
            if type(held) is list:
                rest += cast("list[_Node]", held)
            elif type(held) is dict and id(cast("dict[str, _Node]", held)) not in met:
                form = cast("dict[str, _Node]", held)
                met.add(id(form))
                if f.FORM not in form:
                    rest += form.values()
                    continue
                yield form
                rest += form.values() if whole else self._own(form)

    def _own(self, form: dict[str, _Node]) -> Iterator[_Node]:
        foreign = _OF_SUB_WORKFLOWS.get(form[f.FORM])
        if foreign is None:
            yield from form.values()
        elif foreign != f.STATE:
            for attributes in self._attributes(form):
                yield from (value for name, value in attributes.items() if name != foreign)

    def _records(self) -> list[dict[str, _Node]]:
        return [form for form in self._forms(self.fields, whole=False) if form[f.FORM] in _HOLD_IDS]

    def _attributes(self, form: dict[str, _Node]) -> list[dict[str, _Node]]:
        """The attributes of an object, as they are stored: of one with slots, in two."""
        state = self._resolved(form.get(f.STATE))
        pair = _map(state)
        if pair is not None and pair.get(f.FORM) == f.TUPLE:
            state = pair[f.ITEMS]
        parts = cast("list[_Node]", state) if type(state) is list else [state]
        found = [_map(self._resolved(part)) for part in parts]
        return [part for part in found if part is not None and f.FORM not in part]

    def _attribute(self, form: _Node, name: str) -> _Node:
        stored = _map(form)
        parts = self._attributes(stored) if stored is not None else []
        return next((part[name] for part in parts if name in part), None)

    def _items(self, node: _Node) -> list[_Node]:
        """The items of a list."""
        items = self._resolved(node)
        labelled = _map(items)
        if labelled is not None and labelled.get(f.FORM) == f.LIST:
            items = labelled.get(f.ITEMS)
        return cast("list[_Node]", items) if type(items) is list else []

    def _entries(self, node: _Node) -> list[tuple[str, _Node]]:
        """The text keys of a map, and what is under each."""
        stored = _map(self._resolved(node))
        if stored is None:
            return []
        if f.FORM not in stored:
            return list(stored.items())
        pairs = stored.get(f.PAIRS) if stored[f.FORM] == f.DICT else None
        return [(key, value) for key, value in pairs or () if type(key) is str]

    def _entry(self, node: _Node, key: str) -> _Node:
        return next((value for name, value in self._entries(node) if name == key), None)

    def _state(self, key: str) -> _Node:
        return self._entry(self.fields.get("state"), key)

    def _rekey(self, node: _Node, renamed: Callable[[str], str]) -> None:
        """Give the keys of a map other names, each in its place."""
        stored = _map(self._resolved(node))
        if stored is None:
            return
        if f.FORM not in stored:
            entries = [(renamed(key), value) for key, value in stored.items()]
            stored.clear()
            stored.update(entries)
        elif stored[f.FORM] == f.DICT:
            for pair in stored[f.PAIRS]:
                pair[0] = renamed(pair[0]) if type(pair[0]) is str else pair[0]

    def _sub_workflow(self, executor_id: str) -> Draft | None:
        stored = _map(self._resolved(self._entry(self._entry(self._state(_STATES), executor_id), _SUB_WORKFLOW)))
        if stored is None or stored.get(f.FORM) != _CHECKPOINT:
            return None
        fields = self._attributes(stored)
        return Draft(fields[0], self.shapes, root=self._root) if fields else None

    def _rename_in_arguments(self, old: str, renamed: Callable[[str], str]) -> None:
        """In what a run was started with for single executors: where a key was taken for the executor's id."""
        for channel, routed in self._entries(self._state(_ROUTED)):
            ids = self._items(routed)
            if old not in ids:
                continue  # a key of this name, if there is one, is an argument's, or a sub-workflow's executor
            ids[:] = [renamed(name) if type(name) is str else name for name in ids]
            legacy = self._state(_LEGACY)
            raw = self._resolved(self._entry(legacy, _RAW.get(channel, "")))
            explicit = _map(raw)
            if explicit is not None and explicit.get(f.FORM) == type_key(WorkflowInvocationKwargs):
                raw = self._attribute(raw, "executor_kwargs")
            resolved = self._entry(self._entry(self._state(_RESOLVED), channel), "executor_kwargs")
            given = [self._resolved(each) for each in (raw, resolved, self._entry(legacy, channel))]
            for arguments in {id(each): each for each in given}.values():  # one map may be in several places
                self._rekey(arguments, renamed)


def _map(node: _Node) -> dict[str, _Node] | None:
    """A node that is a map or a form; None for any other."""
    return cast("dict[str, _Node]", node) if type(node) is dict else None


def _key_of_edges(group: Any) -> str:
    """What the framework keeps the messages by that wait at a group of edges: its kind, and what the edges join."""
    return _edges_named(type(group).__name__, [[edge.source_id, edge.target_id] for edge in group.edges])


def _edge_key(key: str, renamed: Callable[[str], str]) -> str:
    """The same key with other ids; as it is, where it is no such key."""
    kind, _, edges = key.partition(":")
    try:
        return _edges_named(kind, [[renamed(source), renamed(target)] for source, target in json.loads(edges)])
    except (ValueError, TypeError):
        return key


def _edges_named(kind: str, edges: list[list[str]]) -> str:
    return f"{kind}:{json.dumps(sorted(edges), separators=(',', ':'))}"
