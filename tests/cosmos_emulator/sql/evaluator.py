"""Runs a query over documents: expressions become closures once, rows come out filtered, ordered, distinct and cut.

Every row carries a position, so that a page can stop anywhere and the next page can start after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ..errors import CosmosError, bad_request
from ..payloads import as_number
from . import nodes
from .functions import FUNCTIONS
from .nodes import Node, Query
from .values import UNDEFINED, equal, hashable, sort_key, type_rank

Environment = dict[str, Any]
Expression = Callable[[Environment], Any]
Position = tuple[Any, ...]

_AGGREGATES = "\0aggregates"
_MOST_BINDINGS = 100_000
"""Of one document, by its joins; the service gives up after five seconds."""


class Document(Protocol):
    """What a query runs over: a body, and a number that never changes and orders documents within a container."""

    body: dict[str, Any]
    number: int


@dataclass(frozen=True)
class Row:
    value: Any
    position: Position
    """The ORDER BY values, then the document's number, then the place among that document's rows."""
    document: Document | None
    """The document the row was made from; None for an aggregate."""


# ---- expressions


def _arithmetic(operator: str) -> Callable[[Any, Any], Any]:
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda left, right: left + right,
        "-": lambda left, right: left - right,
        "*": lambda left, right: left * right,
        "/": lambda left, right: left / right if right else UNDEFINED,
        "%": lambda left, right: left % right if right else UNDEFINED,
    }
    operation = operations[operator]

    def apply(left: Any, right: Any) -> Any:
        return _double(operation, left, right) if type_rank(left) == type_rank(right) == 3 else UNDEFINED

    return apply


def _double(operation: Callable[..., Any], *operands: Any) -> Any:
    """The result as a double; where no double has it, undefined (ours: JSON has no infinity)."""
    try:
        return as_number(operation(*operands))
    except (OverflowError, CosmosError):
        return UNDEFINED


def _ordering(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """<, <=, >, >= are defined between two booleans, numbers or strings (and nulls), nothing else."""

    def apply(left: Any, right: Any) -> Any:
        rank = type_rank(left)
        if rank != type_rank(right) or not 1 <= rank <= 4:
            return UNDEFINED
        return test(sort_key(left), sort_key(right))

    return apply


def _equality(left: Any, right: Any) -> Any:
    return UNDEFINED if left is UNDEFINED or right is UNDEFINED else equal(left, right)


def _negate(value: Any) -> Any:
    return not value if isinstance(value, bool) else UNDEFINED


def _and(left: Any, right: Any) -> Any:
    if left is False or right is False:
        return False
    return True if left is True and right is True else UNDEFINED


def _or(left: Any, right: Any) -> Any:
    if left is True or right is True:
        return True
    return False if left is False and right is False else UNDEFINED


def _join_texts(left: Any, right: Any) -> Any:
    return left + right if isinstance(left, str) and isinstance(right, str) else UNDEFINED


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "=": _equality,
    "!=": lambda left, right: _negate(_equality(left, right)),
    "<": _ordering(lambda left, right: left < right),
    "<=": _ordering(lambda left, right: left <= right),
    ">": _ordering(lambda left, right: left > right),
    ">=": _ordering(lambda left, right: left >= right),
    "AND": _and,
    "OR": _or,
    "||": _join_texts,
    "??": lambda left, right: right if left is UNDEFINED else left,
    **{operator: _arithmetic(operator) for operator in "+-*/%"},
}


def _member(base: Any, key: Any) -> Any:
    if isinstance(base, dict) and isinstance(key, str):
        return base.get(key, UNDEFINED)
    if isinstance(base, list) and isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(base):
        return base[key]
    return UNDEFINED


def _like(pattern: str) -> re.Pattern[str]:
    """% is any text, _ any character, [a-c] and [^a-c] character sets. What is between two % is taken where it is found
    first, once and for all: it has one length, so a later place never helps, and no pattern takes forever."""
    stretches = [""]
    for part in re.split(r"(%|_|\[[^\]]+\])", pattern):
        if part == "%":
            stretches.append("")
        elif part == "_":
            stretches[-1] += "."
        else:
            stretches[-1] += part if part.startswith("[") and part.endswith("]") else re.escape(part)
    first, *middle = stretches
    last = ".*" + middle.pop() if middle else ""
    expression = first + "".join(f"(?>.*?{stretch})" for stretch in middle if stretch) + last
    try:
        return re.compile(expression, re.DOTALL)
    except re.error:
        raise bad_request(f"The LIKE pattern {pattern!r} is not valid.") from None


class _Compiler:
    """Turns one query's expressions into closures, collecting the aggregates it meets on the way."""

    def __init__(self, parameters: Mapping[str, Any], aliases: Sequence[str]) -> None:
        self._parameters = parameters
        self._aliases = set(aliases)
        self.aggregates: list[tuple[str, Expression]] = []

    def compile(self, node: Node) -> Expression:
        return getattr(self, f"_compile_{type(node).__name__.lower()}")(node)

    def constant(self, node: Node) -> Any:
        return self.compile(node)({})

    def _compile_literal(self, node: nodes.Literal) -> Expression:
        return lambda environment: node.value

    def _compile_parameter(self, node: nodes.Parameter) -> Expression:
        if node.name not in self._parameters:
            raise bad_request(f"The parameter {node.name} has no value.")
        value = self._parameters[node.name]
        return lambda environment: value

    def _compile_name(self, node: nodes.Name) -> Expression:
        if node.name not in self._aliases:
            raise bad_request(f"Identifier '{node.name}' could not be resolved.")
        return lambda environment: environment.get(node.name, UNDEFINED)

    def _compile_property(self, node: nodes.Property) -> Expression:
        base, key = self.compile(node.base), node.key
        return lambda environment: _member(base(environment), key)

    def _compile_index(self, node: nodes.Index) -> Expression:
        base, key = self.compile(node.base), self.compile(node.key)
        return lambda environment: _member(base(environment), key(environment))

    def _compile_arrayliteral(self, node: nodes.ArrayLiteral) -> Expression:
        parts = [self.compile(item) for item in node.items]

        def array(environment: Environment) -> Any:
            values = (part(environment) for part in parts)
            return [value for value in values if value is not UNDEFINED]

        return array

    def _compile_objectliteral(self, node: nodes.ObjectLiteral) -> Expression:
        return _object_of([(key, self.compile(value)) for key, value in node.entries])

    def _compile_unary(self, node: nodes.Unary) -> Expression:
        operand = self.compile(node.operand)
        if node.operator == "NOT":
            return lambda environment: _negate(operand(environment))
        sign = -1 if node.operator == "-" else 1
        multiply = _BINARY["*"]
        return lambda environment: multiply(sign, operand(environment))

    def _compile_binary(self, node: nodes.Binary) -> Expression:
        left, right, apply = self.compile(node.left), self.compile(node.right), _BINARY[node.operator]
        if node.operator == "AND":  # the right side is not needed once the left is false
            return lambda environment: (
                False if (first := left(environment)) is False else _and(first, right(environment))
            )
        return lambda environment: apply(left(environment), right(environment))

    def _compile_conditional(self, node: nodes.Conditional) -> Expression:
        condition, then, otherwise = map(self.compile, (node.condition, node.then, node.otherwise))
        return lambda environment: then(environment) if condition(environment) is True else otherwise(environment)

    def _compile_between(self, node: nodes.Between) -> Expression:
        operand, low, high = map(self.compile, (node.operand, node.low, node.high))

        def between(environment: Environment) -> Any:
            value = operand(environment)
            return _and(_BINARY[">="](value, low(environment)), _BINARY["<="](value, high(environment)))

        return between

    def _compile_in(self, node: nodes.In) -> Expression:
        operand, options = self.compile(node.operand), [self.compile(option) for option in node.options]

        def within(environment: Environment) -> Any:
            value = operand(environment)
            if value is UNDEFINED:
                return UNDEFINED
            return any(_equality(value, option(environment)) is True for option in options)

        return within

    def _compile_like(self, node: nodes.Like) -> Expression:
        operand, pattern = self.compile(node.operand), self.compile(node.pattern)

        def like(environment: Environment) -> Any:
            value, wanted = operand(environment), pattern(environment)
            if not isinstance(value, str) or not isinstance(wanted, str):
                return UNDEFINED
            return _like(wanted).fullmatch(value) is not None

        return like

    def _compile_call(self, node: nodes.Call) -> Expression:
        if node.is_aggregate:
            slot = len(self.aggregates)
            self.aggregates.append((node.name, self.compile(node.arguments[0])))
            return lambda environment: environment[_AGGREGATES][slot]
        arguments, apply = [self.compile(argument) for argument in node.arguments], FUNCTIONS[node.name].apply
        return lambda environment: apply(*(argument(environment) for argument in arguments))


def _object_of(entries: Sequence[tuple[str, Expression]]) -> Expression:
    def build(environment: Environment) -> dict[str, Any]:
        values = ((key, value(environment)) for key, value in entries)
        return {key: value for key, value in values if value is not UNDEFINED}

    return build


# ---- aggregates


def _aggregate(name: str, values: Sequence[Any]) -> Any:
    """One aggregate over the defined values. A value that is not a number makes SUM and AVG undefined."""
    if name == "COUNT":
        return len(values)
    if name in {"MIN", "MAX"}:
        if not values or any(type_rank(value) > 4 for value in values):
            return UNDEFINED
        return (min if name == "MIN" else max)(values, key=sort_key)
    if any(type_rank(value) != 3 for value in values):
        return UNDEFINED
    if name == "SUM":
        return _double(sum, values)
    return _double(lambda: sum(values) / len(values)) if values else UNDEFINED


# ---- the query


@dataclass(frozen=True)
class _Descending:
    """A sort key that sorts the other way round."""

    key: Any

    def __lt__(self, other: _Descending) -> bool:
        return other.key < self.key


class CompiledQuery:
    """A query bound to its parameters, ready to run over any documents."""

    def __init__(self, query: Query, parameters: Mapping[str, Any]) -> None:
        aliases = [source.alias for source in query.sources] + [_root_of(source) for source in query.sources[:1]]
        compiler = _Compiler(parameters, aliases)
        self.query = query
        self._sources = [(source, compiler.compile(source.path) if source.path else None) for source in query.sources]
        self._where = compiler.compile(query.where) if query.where else None
        self._order = [compiler.compile(item.expression) for item in query.order_by]
        self._descending = [item.descending for item in query.order_by]
        self._project = _projection(query, compiler)
        self._aggregates = compiler.aggregates
        self._offset = _whole_number(compiler, query.offset, default=0)
        take = query.limit if query.limit is not None else query.top
        self._take = _whole_number(compiler, take, default=None)

    def rows(self, documents: Iterable[Document]) -> list[Row]:
        """Every row of the answer over these documents, in order."""
        if self._aggregates:
            return self._aggregate_row(documents)
        rows = [row for document in documents for row in self._rows_of(document)]
        rows.sort(key=lambda row: self.sort_key(row.position))
        if self.query.distinct:
            rows = _without_repetitions(rows)
        end = None if self._take is None else self._offset + self._take
        return rows[self._offset : end]

    def sort_key(self, position: Position) -> tuple[Any, ...]:
        """Orders positions: by the ORDER BY values, ties in the direction of the first of them."""
        *values, number, place = position
        keys = [
            _Descending(sort_key(value)) if descending else sort_key(value)
            for value, descending in zip(values, self._descending, strict=True)
        ]
        backwards = bool(self._descending) and self._descending[0]
        return (*keys, -number if backwards else number, place)

    def _rows_of(self, document: Document) -> Iterable[Row]:
        for place, environment in enumerate(self._environments(document.body)):
            value = self._project(environment)
            if value is not UNDEFINED:
                order = tuple(expression(environment) for expression in self._order)
                yield Row(value, (*order, document.number, place), document)

    def _environments(self, body: dict[str, Any]) -> Iterable[Environment]:
        """The bindings of the FROM clause that pass the filter: one, or one for each element joined in."""
        environments: list[Environment] = [{}]
        for source, path in self._sources:
            bound = (joined for outer in environments for joined in _bind(outer, source, path, body))
            environments = list(islice(bound, _MOST_BINDINGS + 1))
            if len(environments) > _MOST_BINDINGS:
                raise CosmosError(408, "Request timed out.")
        where = self._where
        return environments if where is None else [each for each in environments if where(each) is True]

    def _aggregate_row(self, documents: Iterable[Document]) -> list[Row]:
        environments = [each for document in documents for each in self._environments(document.body)]
        results: list[Any] = []
        for name, argument in self._aggregates:
            values = [value for each in environments if (value := argument(each)) is not UNDEFINED]
            results.append(_aggregate(name, values))
        value = self._project({_AGGREGATES: results})
        return [] if value is UNDEFINED else [Row(value, (0, 0), None)]


def compile_query(query: Query, parameters: Mapping[str, Any]) -> CompiledQuery:
    return CompiledQuery(query, parameters)


def compile_predicate(alias: str, predicate: Node) -> Callable[[dict[str, Any]], bool]:
    """A patch's condition, as a test of one document."""
    test = _Compiler({}, [alias]).compile(predicate)
    return lambda body: test({alias: body}) is True


def _bind(
    outer: Environment, source: nodes.Source, path: Expression | None, body: dict[str, Any]
) -> Iterable[Environment]:
    if path is None:
        return [{**outer, source.alias: body}]
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


def _projection(query: Query, compiler: _Compiler) -> Expression:
    if not query.items:
        return compiler.compile(nodes.Name(query.sources[0].alias))
    if query.is_value:
        return compiler.compile(query.items[0].expression)
    unnamed = 0
    entries: list[tuple[str, Expression]] = []
    for item in query.items:
        if item.alias is None:
            unnamed += 1
        entries.append((item.alias or f"${unnamed}", compiler.compile(item.expression)))
    return _object_of(entries)


def _whole_number(compiler: _Compiler, node: Node | None, *, default: Any) -> Any:
    if node is None:
        return default
    value = compiler.constant(node)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise bad_request("TOP, OFFSET and LIMIT take a whole number that is not negative.")
    return value


def _without_repetitions(rows: Sequence[Row]) -> list[Row]:
    seen: set[str] = set()
    first: list[Row] = []
    for row in rows:
        key = hashable(row.value)
        if key not in seen:
            seen.add(key)
            first.append(row)
    return first
