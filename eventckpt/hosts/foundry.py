"""For `agent-framework-foundry-hosting`: what its servers keep of workflows, sessions and approvals, in one store.

Each class is what a parameter of `ResponsesHostServer` or `InvocationsHostServer` takes. Where the host runs on
Foundry, everything is kept apart by user and sandbox, as its own stores do it: ids that a client can name are not
enough to find anything.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from agent_framework import AgentSession, CheckpointStorage, Content, SessionStore
from agent_framework_foundry_hosting import (
    ContextScopedStoreProvider,
    FoundryRequestScope,
    FunctionApprovalStore,
    StoreProvider,
)
from azure.ai.agentserver.core import AgentConfig, FoundryAgentRequestContext
from azure.ai.agentserver.core.storage import FoundryStoragePreconditionError

from .. import settings
from ..errors import CheckpointDecodeError, SessionConflictError
from ..history.session_store import restored, stored
from ..history.snapshots import APPROVALS, FOUNDRY_SESSIONS, Seen, Snapshots
from ..storage import EventCheckpointStorage
from ..stores import AuditStore
from ..text import described, safe

__all__ = ["FoundryApprovalStores", "FoundryCheckpointStores", "FoundrySessionStores"]

_OVERTAKEN: Final = "Another request advanced this agent session; reload before writing."
"""The Responses host passes on the error of a session that somebody else has written to if it says this, and this only.
The Invocations host goes by an error of Foundry's storage among its causes."""

_SCOPED: Final = re.compile("[0-9a-f]{64}/")
"""How a name begins that `_scope` comes before."""


class FoundryCheckpointStores(ContextScopedStoreProvider[CheckpointStorage]):
    """For `checkpoint_store_provider=`: each context of the host is a run of `storage`.

    A run is called by the context's id: of a conversation, of a response, or of what the host follows a workflow by. On
    Foundry, and wherever a request has a user, the hash of who that is comes before it, and a slash.

    Args:
        storage: is not closed with this.
    """

    def __init__(self, storage: EventCheckpointStorage) -> None:
        self._storage = settings.instance(
            "storage", storage, EventCheckpointStorage, what="a checkpoint storage of this package"
        )

    def get_store(
        self, *, config: AgentConfig, context_id: str, platform_context: FoundryAgentRequestContext
    ) -> CheckpointStorage:
        """A handle of its own for this request, confined to the context's run.

        Raises:
            ValueError: `context_id` is blank, or longer than the name of a run can be, or names what a user's is
                called, and the request has no user.
            RuntimeError: on Foundry, the request does not say whose it is.
        """
        settings.text("context_id", context_id)
        return self._storage.for_run(_name(_scope(config, platform_context), context_id), confined=True)


class FoundrySessionStores(StoreProvider[SessionStore]):
    """For `agent_session_store_provider=`: the host's sessions, beside the runs in `store`.

    Args:
        store: the engine, such as the `store` of a storage. It is not closed with this.
        actor: who writes, kept on each event.

    Raises:
        CheckpointStoreError: the engine keeps no sessions.
    """

    def __init__(self, store: AuditStore, *, actor: str | None = None) -> None:
        self._sessions = _kept(store, FOUNDRY_SESSIONS, actor)

    def get_store(self, *, config: AgentConfig, platform_context: FoundryAgentRequestContext) -> SessionStore:
        """The sessions as this request sees them.

        Raises:
            RuntimeError: on Foundry, the request does not say whose it is.
        """
        return _Sessions(self._sessions, _scope(config, platform_context), creates=config.is_hosted)


class FoundryApprovalStores(StoreProvider[FunctionApprovalStore]):
    """For `function_approval_store_provider=`: calls that wait for an approval, beside the runs in `store`.

    Args:
        store: the engine, such as the `store` of a storage. It is not closed with this.
        actor: who writes, kept on each event.

    Raises:
        CheckpointStoreError: the engine keeps no sessions.
    """

    def __init__(self, store: AuditStore, *, actor: str | None = None) -> None:
        self._requests = _kept(store, APPROVALS, actor)

    def get_store(self, *, config: AgentConfig, platform_context: FoundryAgentRequestContext) -> FunctionApprovalStore:
        """The requests of whoever this request is of.

        Raises:
            RuntimeError: on Foundry, the request does not say whose it is.
        """
        return _Approvals(self._requests, _scope(config, platform_context))


class _Sessions(SessionStore):
    """The sessions that one request of the host works with, compared by their ids when they are written.

    The host gets a session, and writes it under several ids. So what counts is what this object last saw of an id, not
    which session object it is: an id that had nothing is created, and of two first requests one hears of the other.
    """

    def __init__(self, sessions: Snapshots, scope: str, *, creates: bool) -> None:
        super().__init__()
        self._kept = sessions
        self._scope = scope
        self._creates = creates
        self._seen: dict[str, Seen | None] = {}

    async def get(self, session_id: str) -> AgentSession | None:
        """A copy of the session; None: there is none.

        Raises:
            ValueError: the id names what a user's is called, and the request has no user.
            CheckpointDecodeError: what is stored is damaged, or no session.
        """
        self.validate_session_id(session_id)
        found = await self._kept.get(_name(self._scope, session_id))
        self._seen[session_id] = found[1] if found is not None else None
        return restored(session_id, *found) if found is not None else None

    async def set(self, session_id: str, session: AgentSession) -> None:
        """Write the session.

        Raises:
            RuntimeError: another request has written it since this one has seen it.
            TypeError, ValueError: its state holds something that would not come back.
            ValueError: as of `get`.
        """
        self.validate_session_id(session_id)
        key, value = _name(self._scope, session_id), stored(session)
        seen = self._seen.get(session_id)
        creates = seen is None and (self._creates or session_id in self._seen)
        try:
            written = await (self._kept.create(key, value) if creates else self._kept.set(key, value, seen))
        except SessionConflictError as error:
            overtaken = FoundryStoragePreconditionError(safe(error))
            overtaken.__cause__ = error
            raise RuntimeError(_OVERTAKEN) from overtaken
        self._seen[session_id] = written

    async def delete(self, session_id: str) -> None:
        """Let there be no such session.

        Raises:
            ValueError: as of `get`.
        """
        self.validate_session_id(session_id)
        await self._kept.delete(_name(self._scope, session_id))
        self._seen.pop(session_id, None)


class _Approvals:
    """The host's `FunctionApprovalStore`."""

    def __init__(self, requests: Snapshots, scope: str) -> None:
        self._requests = requests
        self._scope = scope

    async def save_approval_request(self, approval_request_id: str, request: Content) -> None:
        """Keep a request.

        Raises:
            TypeError: the id is no text.
            ValueError: there is one with this id, or it names what a user's is called, and the request has no user.
        """
        try:
            await self._requests.create(self._name(approval_request_id), request.to_dict())
        except SessionConflictError as error:
            raise ValueError(f"There is an approval request {described(approval_request_id)} already.") from error

    async def load_approval_request(self, approval_request_id: str) -> Content:
        """A request that was kept.

        Raises:
            TypeError: the id is no text.
            ValueError: the id names what a user's is called, and the request has no user.
            KeyError: there is none with this id.
            CheckpointDecodeError: what is stored is damaged, or no request.
        """
        found = await self._requests.get(self._name(approval_request_id))
        if found is None:
            raise KeyError(f"There is no approval request {described(approval_request_id)}.")
        try:
            request = Content.from_dict(found[0])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _no_request(approval_request_id, safe(error)) from error
        if request.type != "function_approval_request":
            raise _no_request(approval_request_id, f"its type is {described(request.type)}")
        return request

    def _name(self, approval_request_id: object) -> str:
        return _name(self._scope, settings.instance("approval_request_id", approval_request_id, str, what="text"))


def _no_request(approval_request_id: str, why: str) -> CheckpointDecodeError:
    return CheckpointDecodeError(
        f"Approval request {described(approval_request_id)} cannot be read: what is stored is none: {why}."
    )


def _kept(store: AuditStore, source: str, actor: str | None) -> Snapshots:
    settings.instance("store", store, AuditStore, what="an AuditStore")
    if actor is not None:
        settings.text("actor", actor)
    return Snapshots(store.sessions(), source, actor=actor)


def _scope(config: AgentConfig, context: FoundryAgentRequestContext) -> str:
    """What keeps apart whose things are whose: in front of each name, and of one length for everybody."""
    if config.is_hosted:
        return f"{FoundryRequestScope.from_context(config, context).storage_key}/"
    return f"{sha256(context.user_id.encode()).hexdigest()}/" if context.user_id else ""


def _name(scope: str, name: str) -> str:
    """What a name is called in a scope. Without one, it must not be what another one's is called.

    Raises:
        ValueError: it could be.
    """
    if not scope and _SCOPED.match(name):
        raise ValueError(
            f"{described(name)} begins like the names of a user, and the request does not say whose it is."
        )
    return scope + name
