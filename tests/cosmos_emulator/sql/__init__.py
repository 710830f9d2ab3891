"""A small Cosmos SQL: lexer, parser, evaluator, and the plan a client needs to run a query over several ranges."""

from .checks import check_compositions
from .evaluator import CompiledQuery, Row, compile_predicate, compile_query
from .nodes import Query
from .parser import parse_expression, parse_query
from .plan import ALL_FEATURES, aggregates_columns, needs_client_merge, partition_keys_in_filter, query_info

__all__ = [
    "ALL_FEATURES",
    "CompiledQuery",
    "Query",
    "Row",
    "aggregates_columns",
    "check_compositions",
    "compile_predicate",
    "compile_query",
    "needs_client_merge",
    "parse_expression",
    "parse_query",
    "partition_keys_in_filter",
    "query_info",
]
