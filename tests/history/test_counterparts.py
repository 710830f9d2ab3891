"""Each test that the framework has for its history providers and session stores has a counterpart here, of the same
class and name; or this says which test takes its place, and why."""

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
    "TestSessionStore": """
        test_is_marked_experimental test_get_returns_none_for_missing_id test_set_then_get_returns_independent_copy
        test_set_stores_independent_snapshot test_set_replaces_existing_entry test_delete_forgets_session
        test_accepts_opaque_non_empty_session_id test_empty_session_id_raises test_operations_mark_feature_usage""",
    "TestFileSessionStore": """
        test_operations_mark_feature_usage test_round_trips_session_across_store_instances
        test_round_trips_binary_messagepack_session test_rejects_custom_agent_session_subclass
        test_unregistered_to_dict_state_preserves_legacy_durable_serialization
        test_unregistered_pydantic_state_warns_for_durable_serialization
        test_unsupported_state_object_is_rejected_for_durable_storage
        test_non_finite_state_is_rejected_for_durable_storage test_missing_and_deleted_sessions_return_none
        test_set_replaces_atomically_without_leaving_temp_files
        test_corrupt_session_file_is_quarantined_and_retry_returns_none
        test_invalid_registered_payload_preserves_snapshot test_registered_decoder_attribute_error_preserves_snapshot
        test_unsupported_snapshot_version_preserves_snapshot test_invalid_snapshot_schema_preserves_snapshot
        test_corrupt_quarantine_does_not_remove_concurrent_replacement test_invalid_session_id_raises
        test_opaque_session_id_round_trips_through_safe_filename
        test_rejects_symlinked_session_file_within_storage_root test_reserved_windows_filename_is_encoded""",
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

IN_THE_MODULE: Final = {
    "TestSessionStore": "test_session_store",
    "TestFileSessionStore": "test_session_store",
}
"""Classes whose counterparts are no methods but functions of a module."""

_FILES = "is of files and their names; here, a session is no file"
_STAYS = "test_session_store::test_what_is_no_session_is_refused_and_stays_where_it_is"
_AS_FILES = "test_session_states::test_a_state_comes_back_as_from_files"
_REFUSED = "test_session_states::test_what_files_refuse_is_refused_by_its_place"
_ANY_ID = "test_session_store::test_accepts_opaque_non_empty_session_id"
_NO_ID = "test_session_store::test_an_id_that_is_no_text_or_empty_raises"
_DECODER = "test_session_store::test_what_a_registered_decoder_fails_on_stays_where_it_is"
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
    "TestFileHistoryProvider::test_is_marked_experimental": (None, "nothing here is marked so"),
    "TestSessionStore::test_is_marked_experimental": (
        "test_session_store::test_it_is_a_session_store_and_marked_experimental_as_that_is",
        "as its base is",
    ),
    "test_empty_session_id_raises": (_NO_ID, "nor is what is no text"),
    "test_invalid_session_id_raises": (_NO_ID, "any text names a session"),
    "test_operations_mark_feature_usage": (None, "nobody is told what is used"),
    "test_round_trips_binary_messagepack_session": (_AS_FILES, _FORMAT),
    "test_unregistered_to_dict_state_preserves_legacy_durable_serialization": (_AS_FILES, "value by value"),
    "test_unregistered_pydantic_state_warns_for_durable_serialization": (
        "test_session_states::test_a_model_that_is_not_registered_is_warned_of_as_by_files",
        "beside a file",
    ),
    "test_unsupported_state_object_is_rejected_for_durable_storage": (_REFUSED, "value by value"),
    "test_non_finite_state_is_rejected_for_durable_storage": (_REFUSED, "value by value"),
    "test_missing_and_deleted_sessions_return_none": (
        "test_session_store::test_delete_forgets_session",
        "on both engines",
    ),
    "test_set_replaces_atomically_without_leaving_temp_files": (
        "test_session_store::test_set_replaces_existing_entry",
        "a write is one event: all of it, or nothing",
    ),
    "test_corrupt_session_file_is_quarantined_and_retry_returns_none": (_STAYS, "nothing is put aside"),
    "test_corrupt_quarantine_does_not_remove_concurrent_replacement": (_STAYS, "nothing is put aside"),
    "test_invalid_registered_payload_preserves_snapshot": (_DECODER, "the same"),
    "test_registered_decoder_attribute_error_preserves_snapshot": (_DECODER, "the same"),
    "test_unsupported_snapshot_version_preserves_snapshot": (_STAYS, "value by value"),
    "test_invalid_snapshot_schema_preserves_snapshot": (_STAYS, "value by value"),
    "test_opaque_session_id_round_trips_through_safe_filename": (_ANY_ID, _FILES),
    "test_reserved_windows_filename_is_encoded": (_ANY_ID, _FILES),
    "test_rejects_symlinked_session_file_within_storage_root": (None, _FILES),
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
"""By the name of a test upstream, with its class where two have it: what stands in its place, or None, and why."""

NAMES = [(group, name) for group, names in UPSTREAM.items() for name in names.split()]


def counterpart(group: str, name: str) -> str | None:
    """Where the counterpart of a test is: `module::class::test`."""
    for known in (f"{group}::{name}", name):
        if known in OTHERWISE:
            return OTHERWISE[known][0]
    if group in IN_THE_MODULE:
        return f"{IN_THE_MODULE[group]}::{name}"
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
    assert set(OTHERWISE) <= {name for _, name in NAMES} | {f"{group}::{name}" for group, name in NAMES}
