"""In what a workflow's graph differs from the one that a checkpoint was saved under, of which only the hash is stored.

A checkpoint of a graph workflow names every executor that there was, so executors that came or went are known. The rest
is searched for: the framework's signature of the workflow is edited, an edge or a class at a time and by two at once,
and where the hash of an edited one is the stored hash, those edits are what has changed, and all of it. The search is
bounded; where it finds nothing, the difference is not named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain, permutations
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from ..text import shortened

__all__ = ["Candidates", "GraphChange", "GraphDifference", "class_names", "difference", "hash_of"]

Signature: TypeAlias = "dict[str, Any]"

_BUDGET: Final = 30_000_000
"""Bytes of signatures that one search may hash: about a second."""
_RENAMED: Final = 3
"""Executors that may have another id at once."""
_PLACED: Final = 50
"""Classes that are tried for an executor that is gone."""
_LONG: Final = 80  # characters of an id that a text gives
_TWICE: Final = 3
"""Ways in which executors may have changed that two more edits are tried of."""
_INTERNAL: Final = "InternalEdgeGroup"
_SINGLE: Final = "SingleEdgeGroup"


class GraphChange(NamedTuple):
    """One way in which a workflow's graph is another one now."""

    kind: Literal["executor", "class", "edge", "start", "code"]
    name: str
    """The executor's id; of an edge `SOURCE -> TARGET`; of a functional workflow, whose code is compared, its name."""
    text: str
    """What has changed, in a sentence."""


class GraphDifference(NamedTuple):
    """What is known of the difference."""

    changes: tuple[GraphChange, ...]
    is_all: bool
    """Whether these changes, and no others, lead from the one graph to the other: the hashes agree on it."""


class Candidates(NamedTuple):
    """What a class may have been called, or where it may have been."""

    modules: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    """As the signature has them, `module.Class`."""


class _Variant(NamedTuple):
    changes: tuple[GraphChange, ...]
    signature: Signature


def hash_of(signature: Signature) -> str:
    """The hash of a signature, as the framework computes it."""
    return hashlib.sha256(_canonical(signature)).hexdigest()


def _module_of(name: str) -> str:
    """The module of a class that is named as in a signature."""
    return name.rpartition(".")[0]


def difference(
    now: Signature, then: str, executor_ids: Iterable[str], candidates: Candidates | None
) -> GraphDifference:
    """In what a graph differs from an earlier one.

    Args:
        now: the signature that the framework has of the workflow.
        then: the hash of the earlier one; not that of `now`.
        executor_ids: the executors that there were; empty: they are not known.
        candidates: what classes may have been called; None: what the executors do not tell is not searched for.
    """
    ids = set(executor_ids)
    if candidates is not None:
        work = _BUDGET
        for variant in _variants(now, ids, candidates):
            canonical = _canonical(variant.signature)
            if hashlib.sha256(canonical).hexdigest() == then:
                return GraphDifference(variant.changes, is_all=True)
            work -= len(canonical)
            if work < 0:
                break
    return GraphDifference(_certain(now, ids), is_all=False)


def _canonical(signature: Signature) -> bytes:
    return json.dumps(signature, sort_keys=True, separators=(",", ":")).encode()


def _certain(now: Signature, ids: set[str]) -> tuple[GraphChange, ...]:
    if not ids:
        return ()
    executors = now["executors"]
    return (
        *map(_is_new, (name for name in executors if name not in ids)),
        *map(_is_gone, sorted(ids - set(executors))),
    )


# Where the search begins: with the executors that there were


def _starts(now: Signature, ids: set[str], candidates: Candidates) -> Iterator[_Variant]:
    new = [name for name in now["executors"] if name not in ids]
    gone = sorted(ids - set(now["executors"]))
    if len(new) == len(gone) <= _RENAMED:
        for olds in permutations(gone):
            names = dict(zip(new, olds, strict=True))
            yield _Variant(tuple(_is_renamed(old, name) for name, old in names.items()), _renamed(now, names))
        if not new:
            return  # the only permutation of none is what there is now
    without = now
    bridged = now
    for name in new:
        without, bridged = _without(without, name), _bridged(bridged, name)
    left = [without] if without == bridged else [bridged, without]
    changes = tuple(map(_is_new, new))
    if not gone:
        yield from (_Variant(changes, signature) for signature in left)
    if len(gone) == 1:
        [name] = gone
        classes = list(dict.fromkeys((*class_names(now), *candidates.classes)))[:_PLACED]
        for signature in left:
            for class_name in classes:
                added = _with_executor(signature, name, class_name)
                for placed in _placed(added, name):
                    yield _Variant((*changes, _is_gone(name)), placed)


def _placed(signature: Signature, name: str) -> Iterator[Signature]:
    """An executor at each place that it may have had."""
    start = signature["start_executor"]
    groups = signature["edge_groups"]
    for group in groups:
        if group["group_type"] == _SINGLE:
            [edge] = group["edges"]
            between = [_single(edge["source"], name, edge["condition"]), _single(name, edge["target"])]
            yield _with_groups(signature, [*(other for other in groups if other is not group), *between])
    yield _with_groups({**signature, "start_executor": name}, [*groups, _single(name, start)])
    for source in signature["executors"]:
        if source != name:
            yield _with_groups(signature, [*groups, _single(source, name)])


# Edits


def _variants(now: Signature, ids: set[str], candidates: Candidates) -> Iterator[_Variant]:
    """What the graph may have been, the likelier before."""

    def edited(variants: list[_Variant]) -> Iterator[_Variant]:
        for variant in variants:
            for edit in _edits(variant.signature, candidates, with_executors=not ids):
                yield _Variant((*variant.changes, *edit.changes), edit.signature)

    starts = list(_starts(now, ids, candidates)) if ids else [_Variant((), now)]
    yield from starts
    yield from edited(starts)
    for start in starts[:_TWICE]:
        yield from edited(list(edited([start])))


def _edits(signature: Signature, candidates: Candidates, *, with_executors: bool) -> Iterator[_Variant]:
    """The signature with one thing undone: what is likelier, or quicker to try, first."""
    yield from _without_edges(signature)
    yield from _of_other_classes(signature, candidates)
    if with_executors:
        for name in signature["executors"]:
            yield _Variant((_is_new(name),), _without(signature, name))
            yield _Variant((_is_new(name),), _bridged(signature, name))
    for name in signature["executors"]:
        if name != signature["start_executor"]:
            text = f"The workflow starts with {_quoted(signature['start_executor'])}; it started with {_quoted(name)}."
            yield _Variant((GraphChange("start", name, text),), {**signature, "start_executor": name})
    yield from _with_other_conditions(signature)
    yield from _in_sub_workflows(signature, candidates)
    yield from _with_edges(signature)


def _without_edges(signature: Signature) -> Iterator[_Variant]:
    groups = signature["edge_groups"]
    for at, group in enumerate(groups):
        if group["group_type"] == _INTERNAL:
            continue
        rest = [*groups[:at], *groups[at + 1 :]]
        new = tuple(_edge_is(edge, "new") for edge in group["edges"])
        yield _Variant(new, _with_groups(signature, rest))
        if len(group["edges"]) > 1:
            for edge in group["edges"]:
                edges = [other for other in group["edges"] if other is not edge]
                yield _Variant((_edge_is(edge, "new"),), _with_groups(signature, [*rest, _group(group, edges)]))


def _with_edges(signature: Signature) -> Iterator[_Variant]:
    groups, names = signature["edge_groups"], list(signature["executors"])
    there = {(edge["source"], edge["target"]) for group in groups for edge in group["edges"]}
    for source in names:
        for target in names:
            if (source, target) in there:
                continue
            for condition in _conditions(signature):
                added = _single(source, target, condition)
                yield _Variant((_edge_is(added["edges"][0], "gone"),), _with_groups(signature, [*groups, added]))
    for at, group in enumerate(groups):
        if group["group_type"] in (_INTERNAL, _SINGLE):
            continue
        rest = [*groups[:at], *groups[at + 1 :]]
        pairs = chain(((source, name) for source in group["sources"] for name in names),
                      ((name, target) for target in group["targets"] for name in names))  # fmt: skip
        for source, target in pairs:
            edge = {"source": source, "target": target, "condition": None}
            if edge not in group["edges"]:
                wider = _group(group, [*group["edges"], edge])
                yield _Variant((_edge_is(edge, "gone"),), _with_groups(signature, [*rest, wider]))


def _with_other_conditions(signature: Signature) -> Iterator[_Variant]:
    groups = signature["edge_groups"]
    for at, group in enumerate(groups):
        rest = [*groups[:at], *groups[at + 1 :]]
        for edge in group["edges"] if group["group_type"] != _INTERNAL else ():
            for condition in _conditions(signature):
                if condition == edge["condition"]:
                    continue
                edges = [{**other, "condition": condition} if other is edge else other for other in group["edges"]]
                text = (
                    f"The edge {_quoted(edge['source'])} → {_quoted(edge['target'])} has the condition "
                    f"{_quoted(edge['condition'])}; it had {_quoted(condition)}."
                )
                change = GraphChange("edge", _edge_name(edge), text)
                yield _Variant((change,), _with_groups(signature, [*rest, _group(group, edges)]))


def _of_other_classes(signature: Signature, candidates: Candidates) -> Iterator[_Variant]:
    executors = signature["executors"]
    for module in dict.fromkeys(map(_module_of, class_names(signature))):
        inside = [name for name in executors if _module_of(_class_of(executors[name])) == module]
        if len(inside) > 1:
            for other in candidates.modules:
                if other != module:
                    yield _of_classes(
                        signature, {name: other + _class_of(executors[name])[len(module) :] for name in inside}
                    )
    for name in executors:
        for other in _earlier(_class_of(executors[name]), candidates):
            yield _of_classes(signature, {name: other})


def _earlier(now: str, candidates: Candidates) -> Iterator[str]:
    """What a class may have been called."""
    module, name = _module_of(now), now.rpartition(".")[2]
    moved = (f"{other}.{name}" for other in candidates.modules)
    beside = (other for other in candidates.classes if _module_of(other) == module)
    others = (other for other in candidates.classes if _module_of(other) != module)
    tried = dict.fromkeys(chain(moved, beside, others))
    return (other for other in tried if other != now)


def _in_sub_workflows(signature: Signature, candidates: Candidates) -> Iterator[_Variant]:
    executors = signature["executors"]
    for name, executor in executors.items():
        if not isinstance(executor, dict):
            continue
        inner = cast("Signature", executor)
        for edited in _edits(inner["sub_workflow"], candidates, with_executors=True):
            changes = tuple(
                change._replace(text=f"In the sub-workflow {_quoted(name)}: {change.text}") for change in edited.changes
            )
            changed = {**executors, name: {**inner, "sub_workflow": edited.signature}}
            yield _Variant(changes, {**signature, "executors": changed})


# Signatures


def _with_groups(signature: Signature, groups: list[dict[str, Any]]) -> Signature:
    """With these groups, in the order that the framework puts them in: no edge is there twice, so that two groups of a
    kind never have the same ends."""
    return {**signature, "edge_groups": sorted(groups, key=_ends_of)}


def _ends_of(group: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    return group["group_type"], group["sources"], group["targets"]


def _group(like: dict[str, Any], edges: list[dict[str, Any]]) -> dict[str, Any]:
    """A group with other edges."""
    return {
        **like,
        "sources": sorted({edge["source"] for edge in edges}),
        "targets": sorted({edge["target"] for edge in edges}),
        "edges": sorted(edges, key=lambda edge: (edge["source"], edge["target"], edge["condition"] or "")),
    }


def _single(source: str, target: str, condition: str | None = None) -> dict[str, Any]:
    return _group({"group_type": _SINGLE}, [{"source": source, "target": target, "condition": condition}])


def _with_executor(signature: Signature, name: str, class_name: str) -> Signature:
    internal = _single(f"internal:{name}", name) | {"group_type": _INTERNAL}
    added = {**signature, "executors": {**signature["executors"], name: class_name}}
    return _with_groups(added, [*signature["edge_groups"], internal])


def _without(signature: Signature, name: str) -> Signature:
    """Without an executor and its edges."""
    groups = [
        (group, [edge for edge in group["edges"] if name not in _ends(edge)]) for group in signature["edge_groups"]
    ]
    left = [_group(group, edges) if len(edges) < len(group["edges"]) else group for group, edges in groups if edges]
    executors = {other: executor for other, executor in signature["executors"].items() if other != name}
    return _with_groups({**signature, "executors": executors}, left)


def _bridged(signature: Signature, name: str) -> Signature:
    """Without an executor, whose neighbours follow each other; without the first, with the one that followed it."""
    edges = [edge for group in signature["edge_groups"] if group["group_type"] != _INTERNAL for edge in group["edges"]]
    before = [edge for edge in edges if edge["target"] == name]
    behind = [edge["target"] for edge in edges if edge["source"] == name]
    left = _without(signature, name)
    if signature["start_executor"] == name and behind:
        left = {**left, "start_executor": behind[0]}
    bridges = [_single(edge["source"], target, edge["condition"]) for edge in before for target in behind]
    return _with_groups(left, [*left["edge_groups"], *bridges])


def _renamed(signature: Signature, names: dict[str, str]) -> Signature:
    """With other ids for some executors."""
    ids = names | {f"internal:{name}": f"internal:{old}" for name, old in names.items()}
    groups = [
        _group(group, [{**edge, "source": ids.get(edge["source"], edge["source"]),
                        "target": ids.get(edge["target"], edge["target"])} for edge in group["edges"]])
        for group in signature["edge_groups"]
    ]  # fmt: skip
    executors = {names.get(name, name): executor for name, executor in signature["executors"].items()}
    start = signature["start_executor"]
    return _with_groups({**signature, "executors": executors, "start_executor": names.get(start, start)}, groups)


def _of_classes(signature: Signature, classes: dict[str, str]) -> _Variant:
    executors: dict[str, Any] = dict(signature["executors"])
    changes: list[GraphChange] = []
    for name, other in classes.items():
        executor = executors[name]
        text = f"The executor {_quoted(name)} is of the class {_class_of(executor)}; it was of {other}."
        changes.append(GraphChange("class", name, text))
        executors[name] = {**executor, "type": other} if isinstance(executor, dict) else other
    return _Variant(tuple(changes), {**signature, "executors": executors})


def class_names(signature: Signature) -> list[str]:
    """The class of each executor, as `module.Class`."""
    return [_class_of(executor) for executor in signature["executors"].values()]


def _class_of(executor: Any) -> str:
    return cast("dict[str, Any]", executor)["type"] if isinstance(executor, dict) else executor


def _conditions(signature: Signature) -> list[str | None]:
    """The names of conditions that an edge may have had."""
    known = (edge["condition"] for group in signature["edge_groups"] for edge in group["edges"])
    return list(dict.fromkeys((None, *known, "<lambda>")))


def _ends(edge: dict[str, Any]) -> tuple[str, str]:
    return edge["source"], edge["target"]


# Words


def _quoted(name: str | None) -> str:
    return "none" if name is None else repr(shortened(name, _LONG))


def _is_new(name: str) -> GraphChange:
    return GraphChange("executor", name, f"The executor {_quoted(name)} is new.")


def _is_gone(name: str) -> GraphChange:
    return GraphChange("executor", name, f"The executor {_quoted(name)} is gone, and the run has state for it.")


def _is_renamed(old: str, now: str) -> GraphChange:
    return GraphChange("executor", old, f"The executor {_quoted(old)} is called {_quoted(now)} now.")


def _edge_name(edge: dict[str, Any]) -> str:
    return " -> ".join(_ends(edge))


def _edge_is(edge: dict[str, Any], what: Literal["new", "gone"]) -> GraphChange:
    source, target = _ends(edge)
    return GraphChange("edge", _edge_name(edge), f"The edge {_quoted(source)} → {_quoted(target)} is {what}.")
