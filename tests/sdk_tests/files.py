"""Which of Microsoft's tests are run, and how many of them passed before there was a command for it.

Left out are the files that need what no test server can be: several regions (availability strategy, circuit breaker,
failover, excluded and preferred locations, health checks, multi-master), Entra ID as a service of its own (`test_aad*`,
the semantic reranker), vector, full-text and hybrid search, a global secondary index, a proxy; and those that never ask
a server (`*_unit*`, routing maps, murmur hashes, encodings of bodies and answers).
"""

from __future__ import annotations

FILES: tuple[str, ...] = ()

BEFORE: dict[tuple[str, ...], int] = {
    ("transactional_batch_async",): 9,
    ("change_feed_async",): 6,
    ("change_feed_split_async",): 1,
    ("changefeed_partition_key_variation_async",): 6,
    ("query_async",): 33,
    ("query_cross_partition_async",): 16,
    ("query_feed_range_async",): 19,
    ("query_feed_range_multipartition_async",): 15,
    ("orderby", "multi_orderby", "aggregate"): 17,
    ("partition_split_query_async",): 12,
    ("read_items_async", "read_items_partition_split_async"): 18,
    ("feed_range_async", "latest_session_token_async", "session_async"): 17,
    ("partition_key_async", "crud_subpartition_async"): 16,
    ("ttl", "encoding_async", "headers_async", "none_options_async"): 40,
    ("cosmos_responses_async", "auto_scale_async", "crud_database_async"): 21,
    ("resource_id_async",): 2,
    ("crud_async",): 21,
    ("crud_container_async",): 13,
    ("crud_response_payload_on_write_disabled_async",): 24,
}
"""Tests of azure-cosmos 4.17.1 that passed in October 2026, by file or by group of files; fewer is a fault."""
