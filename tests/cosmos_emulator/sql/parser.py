"""Recursive descent from tokens to a `Query`. What Cosmos SQL has and this does not is refused by name (501)."""

from __future__ import annotations

from functools import lru_cache

from ..errors import CosmosError, bad_request, unsupported
from . import nodes
from .checks import check_query, check_subquery
from .functions import FUNCTIONS, check_arity
from .lexer import RESERVED, Token, tokenize
from .nodes import AGGREGATES, Node, Query
from .values import UNDEFINED

_CONSTANTS = {"TRUE": True, "FALSE": False, "NULL": None, "UNDEFINED": UNDEFINED}
_COMPARISONS = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})


@lru_cache(maxsize=2048)
def parse_query(text: str) -> Query:
    """The tree of one SELECT statement; the same text is parsed once."""
    parser = _Parser(text)
    query = parser.query()
    parser.expect_end()
    return query


@lru_cache(maxsize=512)
def parse_expression(text: str) -> Node:
    parser = _Parser(text)
    expression = parser.expression()
    parser.expect_end()
    return expression


@lru_cache(maxsize=512)
def parse_filter(text: str) -> tuple[str, Node]:
    """A patch condition, `from c where …`: its alias and its predicate."""
    parser = _Parser(text)
    parser.expect("FROM")
    source = parser.source()
    parser.expect("WHERE")
    predicate = parser.expression()
    parser.expect_end()
    return source.alias, predicate


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = tokenize(text)
        self._at = 0

    # ---- tokens

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._now
        self._at += 1
        return token

    def _is(self, *texts: str) -> bool:
        """Whether the current token is one of these keywords or symbols."""
        token = self._now
        return (token.kind == "symbol" and token.text in texts) or (token.kind == "word" and token.keyword in texts)

    def _take(self, *texts: str) -> str | None:
        if not self._is(*texts):
            return None
        token = self._next()
        return token.keyword or token.text

    def expect(self, text: str) -> None:
        if self._take(text) is None:
            raise self._syntax_error()

    def expect_end(self) -> None:
        if self._now.kind != "end":
            raise self._syntax_error()

    def _syntax_error(self) -> CosmosError:
        token = self._now
        return bad_request(f"Syntax error, incorrect syntax near '{token.text}' at position {token.position}.")

    def _identifier(self) -> str:
        if self._now.kind != "word" or self._now.keyword in RESERVED:
            raise self._syntax_error()
        return self._next().text

    # ---- the statement

    def query(self, *, nested: bool = False) -> Query:
        self.expect("SELECT")
        distinct = self._take("DISTINCT") is not None
        top = self._count() if self._take("TOP") else None
        is_value = self._take("VALUE") is not None
        items = () if not is_value and self._take("*") else self._select_items(is_value)
        if not self._is("FROM") and not nested:
            raise unsupported("a query without FROM") if self._now.kind == "end" else self._syntax_error()
        sources = self._sources() if self._take("FROM") else ()
        where = self.expression() if self._take("WHERE") else None
        group_by = self._group_keys() if self._take("GROUP") else ()
        order_by = self._order_items() if self._take("ORDER") else ()
        offset = limit = None
        if self._take("OFFSET"):
            offset = self._count()
            self.expect("LIMIT")
            limit = self._count()
        query = Query(items, is_value, sources, where, group_by, order_by, distinct, top, offset, limit)
        if nested:
            check_subquery(query)
        check_query(query)
        return query

    def _subquery(self, kind: str = "") -> nodes.Subquery:
        """From `SELECT` to the closing parenthesis."""
        query = self.query(nested=True)
        self.expect(")")
        return nodes.Subquery(kind, query)

    def _count(self) -> Node:
        token = self._next()
        if token.kind == "number" and isinstance(token.value, int):
            return nodes.Literal(token.value)
        if token.kind == "parameter":
            return nodes.Parameter(token.text)
        self._at -= 1
        raise self._syntax_error()

    def _select_items(self, is_value: bool) -> tuple[nodes.SelectItem, ...]:
        items = [self._select_item(is_value)]
        while self._take(","):
            items.append(self._select_item(is_value))
        if is_value and len(items) > 1:
            raise bad_request("'SELECT VALUE' takes one expression.")
        return tuple(items)

    def _select_item(self, is_value: bool) -> nodes.SelectItem:
        expression = self.expression()
        if is_value:
            return nodes.SelectItem(expression, None)
        if self._take("AS") or (self._now.kind == "word" and self._now.keyword not in RESERVED):
            return nodes.SelectItem(expression, self._identifier())
        if isinstance(expression, nodes.Property):
            return nodes.SelectItem(expression, expression.key)
        return nodes.SelectItem(expression, expression.name if isinstance(expression, nodes.Name) else None)

    def _sources(self) -> tuple[nodes.Source, ...]:
        sources = [self.source()]
        while self._take("JOIN"):
            sources.append(self._joined())
        if self._is(","):
            raise unsupported("several inputs in FROM")
        return tuple(sources)

    def _joined(self) -> nodes.Source:
        """`JOIN (SELECT …) AS x`, each row of it; or a path."""
        if not self._take("("):
            return self.source()
        rows = self._subquery("ARRAY")
        named = self._take("AS") or (self._now.kind == "word" and self._now.keyword not in RESERVED)
        return nodes.Source(self._identifier() if named else "", rows, iterate=True)

    def source(self) -> nodes.Source:
        if self._is("("):
            raise unsupported("subqueries in FROM")
        name = self._identifier()
        if self._take("IN"):
            rows = self._subquery() if self._take("(") else self._path(self._identifier())
            return nodes.Source(name, rows, iterate=True)
        path = self._path(name)
        alias = None
        if self._take("AS") or (self._now.kind == "word" and self._now.keyword not in RESERVED):
            alias = self._identifier()
        if isinstance(path, nodes.Name):  # `FROM c`, `FROM root r`: the collection, by whatever name
            return nodes.Source(alias or path.name)
        if alias is None:
            assert isinstance(path, nodes.Property)
            alias = path.key
        return nodes.Source(alias, path)

    def _path(self, root: str) -> Node:
        node: Node = nodes.Name(root)
        while self._is(".", "["):
            node = self._member(node)
            if not isinstance(node, nodes.Property):
                raise unsupported("computed paths in FROM")
        return node

    def _group_keys(self) -> tuple[Node, ...]:
        self.expect("BY")
        keys = [self.expression()]
        while self._take(","):
            keys.append(self.expression())
        return tuple(keys)

    def _order_items(self) -> tuple[nodes.OrderItem, ...]:
        self.expect("BY")
        if self._is("RANK"):
            raise unsupported("ORDER BY RANK")
        items = [self._order_item()]
        while self._take(","):
            items.append(self._order_item())
        return tuple(items)

    def _order_item(self) -> nodes.OrderItem:
        expression = self.expression()
        if nodes.path_of(expression) is None:
            raise unsupported("ORDER BY an expression that is not a path")
        return nodes.OrderItem(expression, self._take("ASC", "DESC") == "DESC")

    # ---- expressions, loosest first

    def expression(self) -> Node:
        condition = self._coalesce()
        if self._take("?"):
            then = self.expression()
            self.expect(":")
            return nodes.Conditional(condition, then, self.expression())
        return condition

    def _coalesce(self) -> Node:
        left = self._or()
        while self._take("??"):
            left = nodes.Binary("??", left, self._or())
        return left

    def _or(self) -> Node:
        left = self._and()
        while self._take("OR"):
            left = nodes.Binary("OR", left, self._and())
        return left

    def _and(self) -> Node:
        left = self._not()
        while self._take("AND"):
            left = nodes.Binary("AND", left, self._not())
        return left

    def _not(self) -> Node:
        if self._take("NOT"):
            return nodes.Unary("NOT", self._not())
        return self._comparison()

    def _comparison(self) -> Node:
        left = self._concatenation()
        while True:
            negated = self._is("NOT") and self._tokens[self._at + 1].keyword in {"IN", "BETWEEN", "LIKE"}
            if negated:
                self._next()
            if operator := self._take(*_COMPARISONS):
                left = nodes.Binary("!=" if operator == "<>" else operator, left, self._concatenation())
            elif self._is("IN", "BETWEEN", "LIKE"):
                left = self._test(left)
            else:
                return left
            if negated:
                left = nodes.Unary("NOT", left)

    def _test(self, operand: Node) -> Node:
        if self._take("IN"):
            self.expect("(")
            if self._is(")"):
                raise bad_request("Syntax error, incorrect syntax near ')': IN takes one value or more.")
            return nodes.In(operand, self._list_until(")"))
        if self._take("BETWEEN"):
            low = self._concatenation()
            self.expect("AND")
            return nodes.Between(operand, low, self._concatenation())
        self.expect("LIKE")
        pattern = self._concatenation()
        escape = self._concatenation() if self._take("ESCAPE") else None
        return nodes.Like(operand, pattern, escape)

    def _concatenation(self) -> Node:
        left = self._additive()
        while self._take("||"):
            left = nodes.Binary("||", left, self._additive())
        if self._is("&", "|", "^", "~", "<<", ">>", ">>>"):
            raise unsupported(f"the bitwise operator {self._now.text}")
        return left

    def _additive(self) -> Node:
        left = self._multiplicative()
        while operator := self._take("+", "-"):
            left = nodes.Binary(operator, left, self._multiplicative())
        return left

    def _multiplicative(self) -> Node:
        left = self._unary()
        while operator := self._take("*", "/", "%"):
            left = nodes.Binary(operator, left, self._unary())
        return left

    def _unary(self) -> Node:
        if operator := self._take("-", "+"):
            return nodes.Unary(operator, self._unary())
        if self._is("~"):
            raise unsupported("the bitwise operator ~")
        node = self._primary()
        while self._is(".", "["):
            node = self._member(node)
        return node

    def _member(self, base: Node) -> Node:
        if self._take("."):
            return nodes.Property(base, self._identifier())
        self.expect("[")
        key = self.expression()
        self.expect("]")
        if isinstance(key, nodes.Literal) and isinstance(key.value, str):
            return nodes.Property(base, key.value)
        return nodes.Index(base, key)

    def _primary(self) -> Node:
        token = self._now
        if token.kind in {"number", "string"}:
            return nodes.Literal(self._next().value)
        if token.kind == "parameter":
            return nodes.Parameter(self._next().text)
        if token.keyword in _CONSTANTS:
            return nodes.Literal(_CONSTANTS[self._next().keyword])
        if self._take("("):
            return self._parenthesised()
        if self._take("["):
            return nodes.ArrayLiteral(self._list_until("]"))
        if self._take("{"):
            return self._object()
        if token.kind == "word":
            return self._name_or_call()
        raise self._syntax_error()

    def _parenthesised(self) -> Node:
        if self._is("SELECT"):
            return self._subquery()
        inner = self.expression()
        self.expect(")")
        return inner

    def _list_until(self, closing: str) -> tuple[Node, ...]:
        if self._is("SELECT"):
            raise unsupported("a subquery as a list")
        items: list[Node] = []
        while not self._take(closing):
            if items:
                self.expect(",")
            items.append(self.expression())
        return tuple(items)

    def _object(self) -> Node:
        entries: list[tuple[str, Node]] = []
        while not self._take("}"):
            if entries:
                self.expect(",")
            token = self._next()
            if token.kind not in {"string", "word"}:
                self._at -= 1
                raise self._syntax_error()
            self.expect(":")
            entries.append((token.value if token.kind == "string" else token.text, self.expression()))
        return nodes.ObjectLiteral(tuple(entries))

    def _name_or_call(self) -> Node:
        following = self._tokens[self._at + 1]
        if self._is("UDF") and following.text == ".":
            raise unsupported("user-defined functions")
        if self._is("EXISTS", "ARRAY") and following.text == "(":
            kind = self._next().keyword
            self._next()
            return self._subquery(kind)
        if following.text != "(":
            return nodes.Name(self._identifier())
        name = self._next().keyword
        self._next()
        if name not in FUNCTIONS and name not in AGGREGATES:
            raise unsupported(f"the function {name}")
        arguments = self._list_until(")")
        check_arity(name, arguments)
        return nodes.Call(name, arguments)
