"""Each test that the framework has for its history providers has a counterpart here, of the same class and name; or
this says which test takes its place, and why."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import pytest

UPSTREAM: Final = {
    "TestCosmosHistoryProviderInit": """
        test_uses_provided_container_client test_uses_provided_cosmos_client test_missing_required_settings_raises
        test_constructs_client_with_string_credential""",
    "TestCosmosHistoryProviderContainerConfig": "test_provider_container_name_is_used",
    "TestCosmosHistoryProviderGetMessages": """
        test_returns_deserialized_messages test_empty_returns_empty test_none_session_id_generates_guid_partition_key
        test_skips_non_dict_message_payload""",
    "TestCosmosHistoryProviderListSessions": "test_list_sessions_returns_unique_sorted_ids",
    "TestCosmosHistoryProviderSaveMessages": """
        test_saves_messages test_empty_messages_noop test_batches_when_message_count_exceeds_limit""",
    "TestCosmosHistoryProviderClear": "test_clear_deletes_all_session_items",
    "TestCosmosHistoryProviderBeforeAfterRun": "test_before_run_loads_history test_after_run_stores_input_and_response",
    "TestCosmosHistoryProviderClose": """
        test_close_closes_owned_client test_close_does_not_close_external_client
        test_async_context_manager_closes_owned_client test_async_context_manager_preserves_original_exception""",
    "TestHistoryProviderBase": """
        test_default_flags test_custom_flags test_before_run_loads_messages test_after_run_stores_inputs_and_responses
        test_after_run_stores_coalesced_code_interpreter_chunks test_after_run_skips_inputs_when_disabled
        test_after_run_skips_responses_when_disabled test_after_run_stores_context_messages
        test_after_run_stores_context_from_specific_sources""",
    "TestFileHistoryProvider": """
        test_is_marked_experimental test_uses_msgspec_json_by_default test_stores_and_loads_length_prefixed_msgpack
        test_msgpack_rejects_custom_json_codecs test_custom_json_codecs_are_deprecated test_stores_and_loads_messages
        test_preserves_non_finite_json_values test_reads_existing_stdlib_non_finite_json test_creates_storage_directory
        test_uses_encoded_filename_for_unsafe_session_id test_allows_custom_serializers_returning_bytes
        test_invalid_jsonl_line_raises test_truncated_msgpack_record_raises
        test_missing_session_file_returns_empty_messages test_none_session_id_uses_default_jsonl_file
        test_non_mapping_jsonl_line_raises test_skip_excluded_omits_excluded_messages
        test_serializer_must_return_single_line_json test_concurrent_writes_for_same_session_are_locked""",
    "TestRunPersistenceGate": """
        test_gate_defers_and_flush_runs_in_order test_flush_inside_the_scope_raises
        test_reentering_an_active_gate_raises test_gate_can_be_reused_sequentially
        test_drop_discards_deferred_persistence test_nested_gates_collect_independently
        test_suspension_makes_nested_persistence_inline test_reentrant_persist_during_flush_runs_inline
        test_bound_gate_defers_only_its_owner_run test_unbound_gate_defers_only_identity_less_persists
        test_bind_owner_accepts_every_adopted_identity test_claim_handshake_is_keyed_to_the_agent_instance
        test_flush_runs_callables_with_the_gate_context_suspended""",
}
"""The tests of agent-framework-azure-cosmos and agent-framework-core, by their classes."""

MODULES: Final = {
    "TestCosmosHistoryProvider": "test_cosmos_history_provider",
    "TestHistoryProviderBase": "test_history_provider_base",
    "TestFileHistoryProvider": "test_file_history_provider",
    "TestRunPersistenceGate": "test_run_persistence_gate",
}
"""Where the counterparts of a class lie, by what its name begins with."""

_GATE = "is of the gate alone, which is the framework's: nothing goes through it"
_FORMAT = "chooses between formats of a file; here, there is one, in which any message comes back as it was"
_AS_IT_WAS = "test_cosmos_history_provider::TestCosmosHistoryProviderGetMessages::test_a_message_comes_back_as_it_was"
_ANY_LENGTH = "TestCosmosHistoryProviderSaveMessages::test_takes_any_number_of_messages"
_CLOSES = "TestCosmosHistoryProviderClose::test_close_closes_what_it_opened"
_NO_SESSION = "test_faults::test_without_a_session_nothing_is_read_and_nothing_is_written"
_DAMAGED = "test_unreadable::test_a_turn_that_cannot_be_read_is_named"

OTHERWISE: Final = {
    "test_none_session_id_generates_guid_partition_key": (_NO_SESSION, "a random id is never found again"),
    "test_none_session_id_uses_default_jsonl_file": (_NO_SESSION, "one session for all who gave none"),
    "test_skips_non_dict_message_payload": (_DAMAGED, "a message is not lost in silence"),
    "test_batches_when_message_count_exceeds_limit": (
        f"test_cosmos_history_provider::{_ANY_LENGTH}",
        "a turn is one event, however many messages it has",
    ),
    "test_clear_deletes_all_session_items": (
        "test_cosmos_history_provider::TestCosmosHistoryProviderClear::test_clear_hides_all_session_items",
        "it hides them, and `erase` removes them",
    ),
    "test_close_closes_owned_client": (f"test_cosmos_history_provider::{_CLOSES}", "on both engines"),
    "test_async_context_manager_closes_owned_client": (
        "test_cosmos_history_provider::TestCosmosHistoryProviderClose::test_async_context_manager_closes",
        "on both engines",
    ),
    "test_is_marked_experimental": (None, "nothing here is marked so"),
    "test_uses_msgspec_json_by_default": (_AS_IT_WAS, _FORMAT),
    "test_stores_and_loads_length_prefixed_msgpack": (_AS_IT_WAS, _FORMAT),
    "test_msgpack_rejects_custom_json_codecs": (None, _FORMAT),
    "test_custom_json_codecs_are_deprecated": (None, _FORMAT),
    "test_allows_custom_serializers_returning_bytes": (None, _FORMAT),
    "test_serializer_must_return_single_line_json": (None, _FORMAT),
    "test_preserves_non_finite_json_values": (
        "test_file_history_provider::TestFileHistoryProvider::test_preserves_non_finite_values",
        "no JSON is written",
    ),
    "test_reads_existing_stdlib_non_finite_json": (
        None,
        "such files are imported",
    ),
    "test_creates_storage_directory": (
        "test_file_history_provider::TestFileHistoryProvider::test_makes_what_it_is_kept_in",
        "a folder, or a database and a container",
    ),
    "test_uses_encoded_filename_for_unsafe_session_id": (
        "test_file_history_provider::TestFileHistoryProvider::test_any_session_id_is_kept_as_it_is",
        "no id becomes the name of a file",
    ),
    "test_invalid_jsonl_line_raises": (_DAMAGED, "no JSON is read"),
    "test_truncated_msgpack_record_raises": (_DAMAGED, "no such records are read"),
    "test_non_mapping_jsonl_line_raises": (_DAMAGED, "no JSON is read"),
    "test_missing_session_file_returns_empty_messages": (
        "test_file_history_provider::TestFileHistoryProvider::test_missing_session_returns_empty_messages",
        "a session has no file of its own",
    ),
    "test_concurrent_writes_for_same_session_are_locked": (
        "test_file_history_provider::TestFileHistoryProvider::test_concurrent_writes_for_same_session_are_all_kept",
        "nothing is locked, and nothing is lost",
    ),
    "test_flush_inside_the_scope_raises": (None, _GATE),
    "test_reentering_an_active_gate_raises": (None, _GATE),
    "test_bind_owner_accepts_every_adopted_identity": (None, _GATE),
    "test_reentrant_persist_during_flush_runs_inline": (
        "test_run_persistence_gate::TestRunPersistenceGate::test_flush_runs_callables_with_the_gate_context_suspended",
        "the same, within another gate",
    ),
    "test_unbound_gate_defers_only_identity_less_persists": (
        "test_run_persistence_gate::TestRunPersistenceGate::test_gate_defers_and_flush_runs_in_order",
        "a save without an agent has no identity",
    ),
    "test_claim_handshake_is_keyed_to_the_agent_instance": (
        "test_run_persistence_gate::TestRunPersistenceGate::test_bound_gate_defers_only_its_owner_run",
        "by agents that run",
    ),
}
"""By the name of a test upstream: what stands in its place, or None, and why."""

NAMES = [(group, name) for group, names in UPSTREAM.items() for name in names.split()]


def counterpart(group: str, name: str) -> str | None:
    """Where the counterpart of a test is: `module::class::test`."""
    if name in OTHERWISE:
        return OTHERWISE[name][0]
    [module] = [module for beginning, module in MODULES.items() if group.startswith(beginning)]
    return f"{module}::{group}::{name}"


@pytest.mark.parametrize(("group", "name"), NAMES, ids=lambda each: each)
def test_each_test_of_upstreams_providers_has_a_counterpart(group: str, name: str) -> None:
    where = counterpart(group, name)
    if where is not None:
        module, *path = where.split("::")
        found = import_module(f".{module}", __package__)
        for step in path:
            found = getattr(found, step)
        assert callable(found)


def test_what_is_otherwise_is_of_a_test_that_there_is() -> None:
    assert set(OTHERWISE) <= {name for _, name in NAMES}
