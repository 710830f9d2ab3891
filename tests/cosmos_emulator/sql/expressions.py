"""Expressions as closures: what each operator, function and subquery of a query makes of the values around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import bad_request
from . import nodes
from .budget import Budget, checked_size, length_of_replaced
from .functions import FUNCTIONS
from .nodes import Node
from .patterns import like_pattern
from .values import UNDEFINED, as_number, equal, sort_key, type_rank

Environment = dict[str, Any]
"""What each name of the query stands for, at one row."""
Expression = Callable[[Environment], Any]

AGGREGATED = "\0aggregates"
"""The name under which the results of the query's aggregates are found."""
DIVISION_BY_ZERO = 4001
"""The substatus with which the service answers 400 (recorded on an account, October 2026)."""


# ---- operators


def _divisor(value: Any) -> Any:
    if not value:
        raise bad_request("A query divides by zero.", substatus=DIVISION_BY_ZERO)
    return value


def _arithmetic(operator: str) -> Callable[[Any, Any], Any]:
    operations: dict[str, Callable[[Any, Any], Any]] = {
        "+": lambda left, right: left + right,
        "-": lambda left, right: left - right,
        "*": lambda left, right: left * right,
        "/": lambda left, right: left / _divisor(right),
        "%": lambda left, right: math.fmod(left, _divisor(right)),
    }
    operation = operations[operator]

    def apply(left: Any, right: Any) -> Any:
        return as_number(operation(left, right)) if type_rank(left) == type_rank(right) == 3 else UNDEFINED

    return apply


def _ordering(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    """<, <=, >, >= are defined between two booleans, numbers or strings (and nulls), nothing else."""

    def apply(left: Any, right: Any) -> Any:
        rank = type_rank(left)
        if rank != type_rank(right) or not 1 <= rank <= 4:
            return UNDEFINED
        return test(sort_key(left), sort_key(right))

    return apply


def _equality(left: Any, right: Any) -> Any:
    """Undefined between two types, as the page "Equality and comparison operators" has it (11 June 2025).

    Not with null: that `c.x != null` finds the items with a value is what every LINQ query with a null check rests on.
    """
    if left is UNDEFINED or right is UNDEFINED:
        return UNDEFINED
    if type_rank(left) != type_rank(right):
        return False if left is None or right is None else UNDEFINED
    return equal(left, right)


def _inequality(left: Any, right: Any) -> Any:
    """Of two arrays or two objects it is undefined, by the same page."""
    return UNDEFINED if type_rank(left) == type_rank(right) > 4 else _negate(_equality(left, right))


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


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "=": _equality,
    "!=": _inequality,
    "<": _ordering(lambda left, right: left < right),
    "<=": _ordering(lambda left, right: left <= right),
    ">": _ordering(lambda left, right: left > right),
    ">=": _ordering(lambda left, right: left >= right),
    "AND": _and,
    "OR": _or,
    "??": lambda left, right: right if left is UNDEFINED else left,
    **{operator: _arithmetic(operator) for operator in "+-*/%"},
}


_LENGTHS: dict[str, Callable[..., int]] = {
    "CONCAT": lambda *texts: sum(map(len, texts)),
    "REPLACE": length_of_replaced,
}
"""How long the texts become that are longer than their parts."""


def _member(base: Any, key: Any) -> Any:
    if isinstance(base, dict) and isinstance(key, str):
        return base.get(key, UNDEFINED)
    if isinstance(base, list) and isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(base):
        return base[key]
    return UNDEFINED


class Compiler:
    """Turns one query's expressions into closures, collecting the aggregates it meets on the way.

    `nested` compiles the subqueries; a parameter without a value is undefined, as on the service. The `budget` is that
    of the whole request.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        aliases: Sequence[str],
        nested: Callable[[nodes.Subquery], Expression] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._budget = budget or Budget()
        self._parameters = parameters
        self._aliases = set(aliases)
        self._nested = nested
        self.aggregates: list[tuple[str, Expression]] = []

    def compile(self, node: Node) -> Expression:
        return getattr(self, f"_compile_{type(node).__name__.lower()}")(node)

    def constant(self, node: Node) -> Any:
        return self.compile(node)({})

    def _compile_literal(self, node: nodes.Literal) -> Expression:
        return lambda environment: node.value

    def _compile_parameter(self, node: nodes.Parameter) -> Expression:
        value = self._parameters.get(node.name, UNDEFINED)
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
            """What is undefined is null here: an array keeps its length (recorded on an account, October 2026)."""
            values = (part(environment) for part in parts)
            return checked_size([None if value is UNDEFINED else value for value in values])

        return array

    def _compile_objectliteral(self, node: nodes.ObjectLiteral) -> Expression:
        return object_of([(key, self.compile(value)) for key, value in node.entries])

    def _compile_unary(self, node: nodes.Unary) -> Expression:
        operand = self.compile(node.operand)
        if node.operator == "NOT":
            return lambda environment: _negate(operand(environment))
        sign = -1 if node.operator == "-" else 1
        multiply = _BINARY["*"]
        return lambda environment: multiply(sign, operand(environment))

    def _compile_binary(self, node: nodes.Binary) -> Expression:
        if node.operator == "||":
            return self._compile_growing("CONCAT", (node.left, node.right))
        left, right, apply = self.compile(node.left), self.compile(node.right), _BINARY[node.operator]
        if node.operator == "AND":  # the right side is not needed once the left is false
            return lambda environment: (
                False if (first := left(environment)) is False else _and(first, right(environment))
            )
        return lambda environment: apply(left(environment), right(environment))

    def _compile_conditional(self, node: nodes.Conditional) -> Expression:
        condition, then, otherwise = map(self.compile, (node.condition, node.then, node.otherwise))

        def choose(environment: Environment) -> Any:
            answer = condition(environment)
            if answer is UNDEFINED:
                return UNDEFINED
            return then(environment) if answer is True else otherwise(environment)

        return choose

    def _compile_between(self, node: nodes.Between) -> Expression:
        operand, low, high = map(self.compile, (node.operand, node.low, node.high))

        def between(environment: Environment) -> Any:
            value = operand(environment)
            return _and(_BINARY[">="](value, low(environment)), _BINARY["<="](value, high(environment)))

        return between

    def _compile_in(self, node: nodes.In) -> Expression:
        operand, options = self.compile(node.operand), [self.compile(option) for option in node.options]
        texts = self._texts(node.options)

        def within(environment: Environment) -> Any:
            value, answer = operand(environment), False
            if texts is not None and isinstance(value, str):
                return value in texts
            for option in options:
                answer = _or(answer, _equality(value, option(environment)))
                if answer is True:
                    return True
            return UNDEFINED if value is UNDEFINED else answer

        return within

    def _texts(self, options: Sequence[nodes.Node]) -> frozenset[str] | None:
        """The options where all are constant texts: a client that reads many items asks for a thousand of them."""
        if not all(isinstance(option, nodes.Literal | nodes.Parameter) for option in options):
            return None
        values = [self.compile(option)({}) for option in options]
        return frozenset(values) if all(isinstance(value, str) for value in values) else None

    def _compile_like(self, node: nodes.Like) -> Expression:
        operand, pattern = self.compile(node.operand), self.compile(node.pattern)
        escape = self.compile(node.escape) if node.escape else lambda environment: None

        def like(environment: Environment) -> Any:
            value, wanted = operand(environment), pattern(environment)
            if not isinstance(value, str) or not isinstance(wanted, str):
                return UNDEFINED
            return like_pattern(wanted, escape(environment)).fullmatch(value) is not None

        return like

    def _compile_subquery(self, node: nodes.Subquery) -> Expression:
        if self._nested is None:
            raise bad_request("A subquery is not allowed here.")
        return self._nested(node)

    def _compile_call(self, node: nodes.Call) -> Expression:
        if nodes.is_aggregate(node):
            slot = len(self.aggregates)
            self.aggregates.append((node.name, self.compile(node.arguments[0])))
            return lambda environment: environment[AGGREGATED][slot]
        if node.name in _LENGTHS:
            return self._compile_growing(node.name, node.arguments)
        arguments, apply = [self.compile(argument) for argument in node.arguments], FUNCTIONS[node.name].apply
        return lambda environment: apply(*(argument(environment) for argument in arguments))

    def _compile_growing(self, name: str, operands: Sequence[Node]) -> Expression:
        """A function whose text is longer than its parts: its length is known, and allowed, before it is made."""
        arguments, apply, length = list(map(self.compile, operands)), FUNCTIONS[name].apply, _LENGTHS[name]
        budget = self._budget

        def grow(environment: Environment) -> Any:
            texts = [argument(environment) for argument in arguments]
            if not all(isinstance(text, str) for text in texts):
                return UNDEFINED
            budget.build(length(*texts))
            return apply(*texts)

        return grow


def object_of(entries: Sequence[tuple[str, Expression]]) -> Expression:
    def build(environment: Environment) -> dict[str, Any]:
        values = ((key, value(environment)) for key, value in entries)
        return checked_size({key: value for key, value in values if value is not UNDEFINED})

    return build
