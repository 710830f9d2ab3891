"""Which classes of the framework are records: the two reviewed lists behind the allow-list.

A record only holds data. The framework's own loader admits every class under its package prefixes, and among them are
agents, tools, executors and storages: live things, which stored bytes could put together and have called. The rule
that `ADMITTED` follows: dataclasses, TypedDicts and named tuples of data, enums with members, exceptions, pydantic
models, and classes that do nothing but carry fields. What runs, opens, calls, or is called is in `REFUSED`; so is what
exists to hold such a thing, even where a single instance happens not to.

`tests/test_records.py` walks every class of the installed versions and fails where one is on neither list. A class
that a newer framework adds is judged by `looks_like_a_record` until it is reviewed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import EnumMeta
from typing import Any, Final

__all__ = ["ADMITTED", "FRAMEWORK", "OPENAI", "PLAIN_DICTS", "REFUSED", "REVIEWED_MODULES", "looks_like_a_record"]

FRAMEWORK: Final = ("agent_framework.", "agent_framework_orchestrations.")
"""Prefixes of the modules whose classes are on the lists."""
OPENAI: Final = "openai.types."
"""Prefix of the modules whose classes are judged by their base class: there are thousands, all of two kinds."""


def _keys(modules: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{module}:{name}" for module, names in modules.items() for name in names.split())


_FRAMEWORK = "agent_framework."
_WORKFLOWS = "agent_framework._workflows."
_ORCHESTRATIONS = "agent_framework_orchestrations."

ADMITTED: Final = _keys(
    {
        _FRAMEWORK + "_agent_hooks": "_AgentHooksWriteBackError _ToolSeamBlockFailure",
        _FRAMEWORK + "_agents": "_RunContext",
        _FRAMEWORK + "_evaluation": (
            "CheckResult EvalItemResult EvalNotPassedError EvalResults EvalScoreResult ExpectedToolCall RubricScore "
            "_AgentEvalData"
        ),
        _FRAMEWORK + "_feature_stage": "ExperimentalFeature ExperimentalWarning FeatureStageWarning",
        # What a background agent was asked and how that stands: an id, texts and a status.
        _FRAMEWORK + "_harness._background_agents": "BackgroundTaskInfo BackgroundTaskStatus",
        # A match and a listing of files are texts and numbers; the stores that open files are refused.
        _FRAMEWORK + "_harness._file_access": (
            "FileSearchMatch FileSearchResult FileStoreEntry _DeleteFileInput _LineEdit _ListInput _ReadFileInput "
            "_ReadLinesInput _ReplaceInput _ReplaceLinesInput _SearchFilesInput _SearchTimeout _WriteFileInput"
        ),
        _FRAMEWORK + "_harness._file_memory": (
            "_DeleteFileInput _LineEdit _ListInput _ReadFileInput _ReplaceInput _ReplaceLinesInput _SearchFilesInput "
            "_WriteFileInput"
        ),
        _FRAMEWORK + "_harness._loop": "JudgeVerdict",
        _FRAMEWORK + "_harness._memory": "MemoryIndexEntry MemoryTopicRecord",
        # Todo items and tool approvals are what a session's state holds between turns.
        _FRAMEWORK + "_harness._todo": (
            "TodoCompleteInput TodoInput TodoItem _TodoAddItemSchema _TodoCompleteItemSchema"
        ),
        _FRAMEWORK + "_harness._tool_approval": "ToolApprovalRule ToolApprovalState",
        _FRAMEWORK + "_mcp": "MCPSpecificApproval _MCPDeadlineExpired _MCPTaskAbandoned",
        _FRAMEWORK + "_middleware": "MiddlewareDict MiddlewareFailure MiddlewareTermination MiddlewareType",
        _FRAMEWORK + "_sessions": "AgentSession AgentSessionDict _AgentSessionDictRequired",
        # The metadata of a skill are texts; skills themselves read files and run scripts.
        _FRAMEWORK + "_skills": "SkillFrontmatter _ArchiveFormat",
        _FRAMEWORK + "_telemetry": "FeatureIndex",
        _FRAMEWORK + "_tools": (
            "FunctionInvocationConfiguration _ApprovalCallOccurrence _FunctionArgumentValidationError "
            "_FunctionArgumentsChangedAfterApproval _FunctionExecutionBatch _FunctionProcessingResult "
            "_FunctionResultCarrier _UnknownFunctionCallError"
        ),
        _FRAMEWORK + "_types": (
            "AgentResponse AgentResponseUpdate Annotation ChatResponse ChatResponseUpdate ComputerSafetyCheck Content "
            "ContinuationToken Embedding EmbeddingGenerationOptions GeneratedEmbeddings Message TextSpanRegion "
            "ToolMode UsageDetails _ChatOptionsBase _ParsedDataUri"
        ),
        _FRAMEWORK + "_vector_filters": "Filter FilterGroup Param",
        _FRAMEWORK + "_vectors": "SearchResponse VectorStoreCollectionDefinition VectorStoreField",
        _FRAMEWORK + "exceptions": (
            "AdditionItemMismatch AgentContentFilterException AgentException AgentFrameworkException "
            "AgentInvalidAuthException AgentInvalidRequestException AgentInvalidResponseException "
            "ChatClientContentFilterException ChatClientException ChatClientInvalidAuthException "
            "ChatClientInvalidRequestException ChatClientInvalidResponseException ContentError "
            "IntegrationContentFilterException IntegrationException IntegrationInitializationError "
            "IntegrationInvalidAuthException IntegrationInvalidRequestException IntegrationInvalidResponseException "
            "MiddlewareException ResponseInvalidatedException SettingNotFoundError ToolException "
            "ToolExecutionException UserInputRequiredException WorkflowCheckpointException "
            "WorkflowConvergenceException WorkflowException WorkflowRunnerException"
        ),
        _FRAMEWORK + "observability": "EdgeGroupDeliveryStatus OtelAttr _ObservabilitySettingsData",
        # The labels of contents travel with them; the stores and the middleware that enforce them are refused.
        _FRAMEWORK + "security": (
            "ConfidentialityLabel ContentLabel InspectVariableInput IntegrityLabel LabeledMessage "
            "VariableReferenceContent _PendingPolicyApproval _Principal"
        ),
        _WORKFLOWS + "_agent_executor": "AgentExecutorCheckpointState AgentExecutorRequest AgentExecutorResponse",
        _WORKFLOWS + "_checkpoint": "WorkflowCheckpoint",
        _WORKFLOWS + "_events": "WorkflowErrorDetails WorkflowEvent WorkflowEventSource WorkflowRunState",
        _WORKFLOWS + "_functional": "WorkflowInterrupted _WorkflowInterruptedBase",
        _WORKFLOWS + "_runner_context": "MessageType WorkflowMessage",
        _WORKFLOWS + "_validation": (
            "EdgeDuplicationError GraphConnectivityError TypeCompatibilityError ValidationTypeEnum "
            "WorkflowValidationError"
        ),
        # A result is the list of its events: what a sub-workflow gave may lie in the state of the one around it.
        _WORKFLOWS + "_workflow": "OutputDesignation WorkflowInvocationKwargs WorkflowRunResult",
        _WORKFLOWS + "_workflow_executor": "ExecutionContext SubWorkflowRequestMessage SubWorkflowResponseMessage",
        _ORCHESTRATIONS + "_base_group_chat_orchestrator": (
            "GroupChatParticipantMessage GroupChatRequestMessage GroupChatRequestSentEvent GroupChatResponseMessage "
            "GroupChatResponseReceivedEvent"
        ),
        _ORCHESTRATIONS + "_feature_usage": "FeatureIndex",
        _ORCHESTRATIONS + "_group_chat": "AgentOrchestrationOutput GroupChatState",
        _ORCHESTRATIONS + "_handoff": "HandoffAgentUserRequest HandoffConfiguration HandoffSentEvent",
        _ORCHESTRATIONS + "_magentic": (
            "MagenticContext MagenticOrchestratorEvent MagenticOrchestratorEventType MagenticPlanReviewRequest "
            "MagenticPlanReviewResponse MagenticProgressLedger MagenticProgressLedgerItem MagenticResetSignal "
            "_MagenticTaskLedger"
        ),
        _ORCHESTRATIONS + "_orchestration_request_info": "AgentRequestInfoResponse",
        _ORCHESTRATIONS + "_orchestration_state": "OrchestrationState",
    }
)
"""Records of the framework, as `"module:qualname"`: what a checkpoint may hold without being asked."""

REFUSED: Final = _keys(
    {
        _FRAMEWORK + "_agent_hooks": (
            "_AgentHooksAgentMiddleware _AgentHooksChatMiddleware _AgentHooksConfig _AgentHooksFunctionMiddleware "
            "_AgentHooksMiddlewareBase _InputCodec _ModelRequestCodec _ModelResponseCodec _OutputCodec _RunState "
            "_ToolArgumentsCodec _ToolResultCodec"
        ),
        _FRAMEWORK + "_agents": "Agent BaseAgent RawAgent SupportsAgentRun",
        _FRAMEWORK + "_clients": (
            "BaseChatClient BaseEmbeddingClient SupportsChatGetResponse SupportsCodeInterpreterTool "
            "SupportsFileSearchTool SupportsGetEmbeddings SupportsImageGenerationTool SupportsMCPTool "
            "SupportsShellTool SupportsWebSearchTool"
        ),
        _FRAMEWORK + "_compaction": (
            "CharacterEstimatorTokenizer CompactionProvider CompactionStrategy ContextWindowCompactionStrategy "
            "SelectiveToolCallCompactionStrategy SlidingWindowStrategy SummarizationStrategy "
            "TokenBudgetComposedStrategy TokenizerProtocol ToolResultCompactionStrategy TruncationStrategy"
        ),
        # An item to evaluate carries the tools; the enum of splits is callable.
        _FRAMEWORK + "_evaluation": (
            "AgentEvalConverter ConversationSplit ConversationSplitter EvalItem Evaluator LocalEvaluator"
        ),
        _FRAMEWORK + "_feature_stage": "ReleaseCandidateFeature",  # an enum without members: calling it makes a class
        _FRAMEWORK + "_harness._background_agents": "BackgroundAgentsProvider _RuntimeState",
        _FRAMEWORK + "_harness._file_access": (
            "AgentFileStore FileAccessProvider FileSystemAgentFileStore InMemoryAgentFileStore _BoundedSearchPattern "
            "_SearchMatch _SearchPattern"
        ),
        _FRAMEWORK + "_harness._file_memory": "FileMemoryProvider",
        _FRAMEWORK + "_harness._loop": "AgentLoopMiddleware",
        _FRAMEWORK + "_harness._memory": "MemoryContextProvider MemoryFileStore MemoryStore",
        _FRAMEWORK + "_harness._mode": "AgentModeProvider",
        _FRAMEWORK + "_harness._todo": "TodoFileStore TodoProvider TodoSessionStore TodoStore",
        _FRAMEWORK + "_harness._tool_approval": "ToolApprovalMiddleware",
        _FRAMEWORK + "_in_memory": "InMemoryCollection InMemoryStore _InMemoryCollectionState",
        _FRAMEWORK + "_mcp": (
            "MCPStdioTool MCPStreamableHTTPTool MCPTaskOptions MCPTool MCPWebsocketTool _ClientMCPConnection "
            "_EncodedSizeBudget _MCPConnection _MCPHeaderScopedClient _MCPHostPayloadCapture _SessionMCPConnection"
        ),
        # The contexts of middleware hold the agent, the client and the function that they are about to call.
        _FRAMEWORK + "_middleware": (
            "AgentContext AgentMiddleware AgentMiddlewareLayer AgentMiddlewarePipeline BaseMiddlewarePipeline "
            "ChatContext ChatMiddleware ChatMiddlewareLayer ChatMiddlewarePipeline FunctionInvocationContext "
            "FunctionMiddleware FunctionMiddlewarePipeline MiddlewareBundle MiddlewareWrapper "
            "_ApprovalResponseObserver _EmptyAsyncIterator"
        ),
        _FRAMEWORK + "_serialization": "SerializationMixin SerializationProtocol",
        # A session's context carries the tools and the middleware of one call.
        _FRAMEWORK + "_sessions": (
            "ContextProvider FileHistoryProvider FileSessionStore HistoryProvider InMemoryHistoryProvider "
            "MessageInjectionMiddleware PerServiceCallHistoryPersistingMiddleware SessionContext SessionStore "
            "_RunPersistenceGate _SessionSnapshot _SessionStatePayload _StateTypeRegistration"
        ),
        # A secret has no place in a store; the framework's own loader cannot rebuild one either.
        _FRAMEWORK + "_settings": "SecretString",
        _FRAMEWORK + "_skills": (
            "AggregatingSkillsSource CachingSkillsSource ClassSkill DeduplicatingSkillsSource DelegatingSkillsSource "
            "FileSkill FileSkillScript FileSkillsSource FilteringSkillsSource InMemorySkillsSource InlineSkill "
            "InlineSkillResource InlineSkillScript MCPSkill MCPSkillResource MCPSkillsSource Skill SkillResource "
            "SkillScript SkillScriptRunner SkillsProvider SkillsSource SkillsSourceContext _ArchiveEntryLoader "
            "_FileSkillResource _McpSkillIndex _McpSkillIndexEntry _SkillPathScope"
        ),
        # A tool is callable, also one that only declares a function: what it would call is an attribute of it.
        _FRAMEWORK + "_tools": (
            "FunctionInvocationLayer FunctionTool _FunctionResultPayloadBudget _OpaqueArgumentToken "
            "_PreparedArgumentsState _SkipParsingSentinel"
        ),
        _FRAMEWORK + "_types": "ResponseStream",
        _FRAMEWORK + "_vector_filters": "_FilterValidator _ParamDataValidator",
        _FRAMEWORK + "_vectors": (
            "BaseVectorCollection BaseVectorSearch BaseVectorStore SearchResults SupportsVectorSearch "
            "SupportsVectorUpsert VectorCollectionContextProvider VectorStoreHistoryProvider "
            "_VectorModelRegistration _VectorStoreModelDecorator _VectorStoreRecordHandler"
        ),
        _FRAMEWORK + "observability": (
            "AgentTelemetryLayer ChatTelemetryLayer EmbeddingTelemetryLayer MessageListTimestampFilter "
            "ObservabilitySettings"
        ),
        _FRAMEWORK + "security": (
            "ContentVariableStore LabelTrackingFunctionMiddleware PolicyEnforcementFunctionMiddleware "
            "SecureAgentConfig SecureMCPToolProxy _ScopedVariableStore _SecurityScope _SecurityScopeBinding"
        ),
        _WORKFLOWS + "_agent": "WorkflowAgent",
        _WORKFLOWS + "_agent_executor": "AgentExecutor",
        _WORKFLOWS + "_checkpoint": (
            "CheckpointStorage FileCheckpointStorage InMemoryCheckpointStorage _DestinationQueue _ReleaseTrampoline "
            "_WriteTicket"
        ),
        _WORKFLOWS + "_checkpoint_encoding": "_RestrictedUnpickler",
        # Edges belong to the graph, not to its state, and carry the functions that decide a route.
        _WORKFLOWS + "_edge": (
            "Case Default Edge EdgeGroup FanInEdgeGroup FanOutEdgeGroup InternalEdgeGroup SingleEdgeGroup "
            "SwitchCaseEdgeGroup SwitchCaseEdgeGroupCase SwitchCaseEdgeGroupDefault"
        ),
        _WORKFLOWS + "_edge_runner": (
            "EdgeRunner FanInEdgeRunner FanOutEdgeRunner SingleEdgeRunner SwitchCaseEdgeRunner"
        ),
        _WORKFLOWS + "_executor": "Executor",
        _WORKFLOWS + "_function_executor": "FunctionExecutor",
        _WORKFLOWS + "_functional": (
            "FunctionalWorkflow FunctionalWorkflowAgent FunctionalWorkflowDefinition RunContext StepWrapper "
            "_WorkflowTaskFactoryState"
        ),
        _WORKFLOWS + "_model_utils": "DictConvertible",
        _WORKFLOWS + "_request_info_mixin": "RequestInfoMixin",
        _WORKFLOWS + "_runner": "RunnerImpl",
        _WORKFLOWS + "_runner_context": "InProcRunnerContext RunnerContext",
        _WORKFLOWS + "_state": "State _DeleteSentinelType",
        _WORKFLOWS + "_validation": "WorkflowGraphValidator",
        _WORKFLOWS + "_viz": "WorkflowViz",
        _WORKFLOWS + "_workflow": "Workflow",
        _WORKFLOWS + "_workflow_builder": "WorkflowBuilder",
        _WORKFLOWS + "_workflow_context": "WorkflowContext",
        _WORKFLOWS + "_workflow_executor": "WorkflowExecutor",
        _ORCHESTRATIONS + "_base_group_chat_orchestrator": "BaseGroupChatOrchestrator ParticipantRegistry",
        _ORCHESTRATIONS + "_concurrent": (
            "ConcurrentBuilder _AggregateAgentConversations _CallbackAggregator _DispatchToAllParticipants"
        ),
        _ORCHESTRATIONS + "_group_chat": "AgentBasedGroupChatOrchestrator GroupChatBuilder GroupChatOrchestrator",
        _ORCHESTRATIONS + "_handoff": (
            "HandoffAgentExecutor HandoffBuilder _AutoHandoffContextProvider _AutoHandoffMiddleware"
        ),
        _ORCHESTRATIONS + "_magentic": (
            "MagenticAgentExecutor MagenticBuilder MagenticManagerBase MagenticOrchestrator StandardMagenticManager"
        ),
        _ORCHESTRATIONS + "_orchestration_request_info": (
            "AgentApprovalExecutor AgentRequestInfoExecutor _TerminalAgentRequestInfoExecutor"
        ),
        _ORCHESTRATIONS + "_sequential": "SequentialBuilder _InputToConversation",
        _ORCHESTRATIONS + "_workflow_builder": "OrchestrationWorkflowBuilder",
    }
)
"""Classes of the framework that are no records."""

REVIEWED_MODULES: Final = frozenset(key.partition(":")[0] for key in ADMITTED | REFUSED)
"""Modules of the framework that may be imported to look for a class that is on neither list."""

PLAIN_DICTS: Final[Mapping[str, tuple[str, ...]]] = {"agent_framework._types:Content": ("additional_properties",)}
"""Fields of records whose own `__setstate__` calls a method of what the field holds: it has to be a dict."""

_DOES_SOMETHING = ("__call__", "__setstate__", "__reduce__", "__reduce_ex__", "__post_init__", "__getattr__", "__del__")


def looks_like_a_record(cls: type[Any]) -> bool:
    """Whether a class that nobody reviewed is a record, by a strict rule: a dataclass, TypedDict or named tuple, an
    enum with members, an exception or a pydantic model, with no method that a load or a reader would call unasked."""
    own = [base for base in cls.__mro__ if not _is_foundation(base)]
    if any(name in vars(base) and not _is_generated(vars(base)[name]) for base in own for name in _DOES_SOMETHING):
        return False
    if isinstance(cls, EnumMeta):
        return bool(cls.__members__)
    named_tuple = tuple in cls.__mro__ and hasattr(cls, "_fields")
    typed_dict = hasattr(cls, "__total__")
    return (
        dataclasses.is_dataclass(cls)
        or issubclass(cls, BaseException)
        or named_tuple
        or typed_dict
        or (_is_plain_model(cls))
    )


def _is_foundation(cls: type[Any]) -> bool:
    """Whether a base class is the interpreter's, or pydantic's own: what those define is known."""
    return cls.__module__.partition(".")[0] in ("abc", "builtins", "enum", "pydantic", "typing")


def _is_generated(method: object) -> bool:
    """Of a frozen dataclass with slots: how it sets its fields is dataclasses' own."""
    return getattr(method, "__module__", None) == "dataclasses"


def _is_plain_model(cls: type[Any]) -> bool:
    decorators = getattr(cls, "__pydantic_decorators__", None)
    return decorators is not None and not any(
        getattr(decorators, kind, None)
        for kind in ("validators", "field_validators", "root_validators", "model_validators")
    )
