"""What a SELECT makes of one document, or of one row of the query around it: bindings, filter, groups, projection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import bad_request, unsupported
from . import nodes
from .aggregates import aggregate
from .budget import Budget, checked_size
from .expressions import AGGREGATED, Compiler, Environment, Expression, object_of
from .nodes import Query
from .values import UNDEFINED, hashable


class Selection:
    """A SELECT bound to its parameters. `outer` are the names that the query around a subquery gives it; the `budget`
    is that of the whole request."""

    def __init__(
        self, query: Query, parameters: Mapping[str, Any], outer: Sequence[str] = (), budget: Budget | None = None
    ) -> None:
        self._budget = budget or Budget()
        if outer and any(source.path is None and source.alias not in outer for source in query.sources):
            raise unsupported("a subquery over the container")
        aliases = [*outer, *(source.alias for source in query.sources)]
        if not outer:
            aliases += [_root_of(source) for source in query.sources[:1]]
        compiler = Compiler(parameters, aliases, self._nested, self._budget)
        self._parameters = parameters
        self._aliases = aliases
        self._sources = [(source, compiler.compile(source.path) if source.path else None) for source in query.sources]
        first = query.sources[0] if query.sources else None
        self._whole = first.alias if first and first.path is None and not outer else ""
        self._joined = self._sources[1:] if self._whole else self._sources
        self._where = compiler.compile(query.where) if query.where else None
        self._keys = [compiler.compile(key) for key in query.group_by]
        self._distinct = query.distinct
        self._is_grouped = query.is_grouped
        self.order = [compiler.compile(item.expression) for item in query.order_by]
        self.project = _projection(query, compiler)
        self._aggregates = compiler.aggregates
        self.offset = _whole_number(compiler, query.offset) or 0
        self.limit = _whole_number(compiler, query.top if query.limit is None else query.limit)

    def environments(self, outer: Environment, body: Any) -> list[Environment]:
        """The bindings of the FROM clause that pass the filter: one, or one for each element joined in."""
        found = [{self._whole: body}] if self._whole else [outer]
        for source, path in self._joined:
            found = list(self._counted(joined for each in found for joined in _bind(each, source, path, body)))
        where = self._where
        return found if where is None else [each for each in found if where(each) is True]

    def _counted(self, rows: Iterable[Environment]) -> Iterable[Environment]:
        for row in rows:
            self._budget.bind()
            yield row

    def groups(self, environments: Iterable[Environment]) -> dict[str, Any]:
        """The value of each group, by a text that is the same for equal keys. Undefined keys are a group as well."""
        members: dict[str, list[Environment]] = {}
        for environment in environments:
            members.setdefault(_group_key(self._keys, environment), []).append(environment)
        if not self._keys:
            members = members or {"": []}
        return {key: self._aggregated(each) for key, each in members.items()}

    def _aggregated(self, members: Sequence[Environment]) -> Any:
        results: list[Any] = []
        for name, argument in self._aggregates:
            values = [value for each in members if (value := argument(each)) is not UNDEFINED]
            results.append(aggregate(name, values))
        return self.project({**(members[0] if members else {}), AGGREGATED: results})

    def _values(self, outer: Environment) -> list[Any]:
        """The rows of a subquery, at one row of the query around it."""
        environments = self.environments(outer, UNDEFINED)
        found = self.groups(environments).values() if self._is_grouped else map(self.project, environments)
        rows = [value for value in found if value is not UNDEFINED]
        if self._distinct:
            rows = list({hashable(value): value for value in rows}.values())
        return take(rows, self)

    def _nested(self, node: nodes.Subquery) -> Expression:
        rows = Selection(node.query, self._parameters, self._aliases, self._budget)._values
        match node.kind:
            case "EXISTS":
                return lambda environment: bool(rows(environment))
            case "ARRAY":
                return lambda environment: checked_size(rows(environment))
            case _:
                return lambda environment: _single(rows(environment))


def take(rows: list[Any], selection: Selection) -> list[Any]:
    """What OFFSET LIMIT or TOP leaves."""
    end = None if selection.limit is None else selection.offset + selection.limit
    return rows[selection.offset : end]


def _single(rows: Sequence[Any]) -> Any:
    if len(rows) > 1:
        raise bad_request("The cardinality of a scalar subquery result set cannot be greater than one.")
    return rows[0] if rows else UNDEFINED


def _group_key(keys: Sequence[Expression], environment: Environment) -> str:
    values = [key(environment) for key in keys]
    return hashable([[] if value is UNDEFINED else [value] for value in values]) if keys else ""


def _bind(outer: Environment, source: nodes.Source, path: Expression | None, body: Any) -> Iterable[Environment]:
    if path is None:
        return [{**outer, source.alias: outer.get(source.alias, body)}]
    found = path(outer or {_root_of(source): body})
    if not source.iterate:
        return [] if found is UNDEFINED else [{**outer, source.alias: found}]
    return [{**outer, source.alias: element} for element in found] if isinstance(found, list) else []


def _root_of(source: nodes.Source) -> str:
    """In `FROM x IN c.list`, the name that begins the path, whatever it is, stands for the document."""
    node = source.path
    while isinstance(node, nodes.Property):
        node = node.base
    return node.name if isinstance(node, nodes.Name) else source.alias


def _projection(query: Query, compiler: Compiler) -> Expression:
    if not query.items:
        return compiler.compile(nodes.Name(query.sources[0].alias))
    if query.is_value:
        return compiler.compile(query.items[0].expression)
    return object_of([(name, compiler.compile(expression)) for name, expression in query.columns])


def _whole_number(compiler: Compiler, node: nodes.Node | None) -> int | None:
    if node is None:
        return None
    value = compiler.constant(node)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise bad_request("TOP, OFFSET and LIMIT take a whole number that is not negative.")
    return value
