"""As much of PromQL as the alerts of docs/projector.md use, over pages that were scraped from workers.

`metric`, `increase(metric[15m])`, `absent(metric)`, `min|max|sum|count by (label) (…)`, and comparisons of those with a
number. A vector is kept as Prometheus does: by its labels, without the metric's name after any operation.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Scrape", "Vector", "documented_metrics", "evaluated", "metrics_in", "scraped"]

Labels: TypeAlias = frozenset[tuple[str, str]]
Vector: TypeAlias = Mapping[Labels, float]
Scrape: TypeAlias = Mapping[str, Vector]
"""The samples of all workers at one moment, by metric; each worker is an `instance`."""

_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_AGGREGATES: Final[dict[str, Callable[[Sequence[float]], float]]] = {"min": min, "max": max, "sum": sum, "count": len}
_METRIC: Final = re.compile(r"[a-z_]+")
_COMPARED: Final = re.compile(r"(.+) (>|<|>=|<=|==|!=) ([\d.]+)")
_AGGREGATED: Final = re.compile(r"(min|max|sum|count)(?: by \(([a-z, ]*)\))? ?\((.+)\)")
_CALLED: Final = re.compile(r"(absent|increase)\(([a-z_]+)(?:\[\d+[smh]\])?\)")


def scraped(pages: Iterable[str]) -> Scrape:
    """What Prometheus has after it has read these pages, one of each worker."""
    samples: dict[str, dict[Labels, float]] = {}
    for instance, page in enumerate(pages):
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                labels = frozenset({**sample.labels, "instance": str(instance)}.items())
                samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def evaluated(expression: str, scrapes: Sequence[Scrape]) -> Vector:
    """The value of an expression after these scrapes; an alert fires where it is not empty."""
    text = expression.strip()
    if compared := _COMPARED.fullmatch(text):
        holds, limit = _COMPARISONS[compared[2]], float(compared[3])
        return {labels: value for labels, value in evaluated(compared[1], scrapes).items() if holds(value, limit)}
    if aggregated := _AGGREGATED.fullmatch(text):
        kept = set(re.findall("[a-z]+", aggregated[2] or ""))
        groups: dict[Labels, list[float]] = {}
        for labels, value in evaluated(aggregated[3], scrapes).items():
            groups.setdefault(frozenset(each for each in labels if each[0] in kept), []).append(value)
        return {labels: float(_AGGREGATES[aggregated[1]](values)) for labels, values in groups.items()}
    if called := _CALLED.fullmatch(text):
        last = scrapes[-1].get(called[2], {})
        if called[1] == "absent":
            return {} if last else {frozenset(): 1.0}
        first = scrapes[0].get(called[2], {})
        return {labels: value - first[labels] for labels, value in last.items() if labels in first}
    if _METRIC.fullmatch(text):
        return scrapes[-1].get(text, {})
    raise ValueError(f"No PromQL that is known here: {expression!r}")


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"eventckpt_[a-z_]+", expression))


def documented_metrics(text: str) -> set[str]:
    """Those in the table of docs/projector.md."""
    rows = [line for line in text.splitlines() if line.startswith("| `eventckpt_projector_")]
    names = re.findall(r"`(eventckpt_projector|…)(_\w+)`", "".join(row.split("|")[1] for row in rows))
    return {f"eventckpt_projector{name}" for _, name in names}
