"""What a Foundry host is given for each request: whose it is decides what it finds; who was overtaken hears of it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from agent_framework import AgentSession, Content
from azure.ai.agentserver.core import AgentConfig, FoundryAgentRequestContext

from eventckpt import (
    CheckpointDecodeError,
    CheckpointNotFoundError,
    CheckpointStoreError,
    EventCheckpointStorage,
    EventSessionStore,
)
from eventckpt.history.snapshots import APPROVALS, FOUNDRY_SESSIONS, Snapshots
from eventckpt.hosts.ag_ui import AGUISnapshotStore
from eventckpt.hosts.foundry import FoundryApprovalStores, FoundryCheckpointStores, FoundrySessionStores

from ..engines import Engine
from ..storage.checkpoints import WORKFLOW, checkpoint, history

CALL = Content.from_function_call("call-1", "delete", arguments={"name": "x"})
REQUEST = Content.from_function_approval_request("request-1", CALL)


def config(session_id: str | None) -> AgentConfig:
    """Of a host on Foundry, in a sandbox; None: of one that runs elsewhere."""
    names = dict.fromkeys(
        ("agent_name", "agent_version", "agent_id", "project_endpoint", "project_id", "otlp_endpoint"), ""
    )
    return AgentConfig(
        **names,
        is_hosted=session_id is not None,
        session_id=session_id or "",
        port=0,
        appinsights_connection_string="",
        sse_keepalive_interval=0,
    )


def request_of(user: str | None, sandbox: str | None = None) -> dict[str, Any]:
    context = FoundryAgentRequestContext(user_id=user, call_id="call" if user else None, session_id=sandbox)
    return {"config": config(sandbox), "platform_context": context}


WHOSE = {
    "anna": request_of("anna"),
    "ben": request_of("ben"),
    "nobody": request_of(None),
    "anna, hosted": request_of("anna", "sandbox 1"),
    "ben, hosted": request_of("ben", "sandbox 1"),
    "anna, hosted elsewhere": request_of("anna", "sandbox 2"),
}

PROVIDERS: dict[str, Callable[[EventCheckpointStorage], Any]] = {
    "checkpoints": FoundryCheckpointStores,
    "sessions": lambda storage: FoundrySessionStores(storage.store),  # type: ignore[arg-type]
    "approvals": lambda storage: FoundryApprovalStores(storage.store),  # type: ignore[arg-type]
}


def session(said: str) -> AgentSession:
    made = AgentSession(session_id="s")
    made.state["said"] = said
    return made


async def test_the_same_names_are_another_ones_for_every_other_user_and_sandbox(engine: Engine) -> None:
    for turn in range(2):
        storage = engine.storage()
        given = {name: make(storage) for name, make in PROVIDERS.items()}
        for whose, request in WHOSE.items():
            runs = given["checkpoints"].get_store(context_id="conversation", **request)
            sessions = given["sessions"].get_store(**request)
            approvals = given["approvals"].get_store(**request)
            if turn == 0:
                assert await runs.get_latest(workflow_name=WORKFLOW) is None
                assert await sessions.get("conversation") is None
                with pytest.raises(KeyError):
                    await approvals.load_approval_request("request")
                await runs.save(checkpoint(checkpoint_id=f"of {whose}"))
                await sessions.set("conversation", session(whose))
                call = Content.from_function_call("c", "delete", arguments={"name": whose})
                await approvals.save_approval_request("request", Content.from_function_approval_request("r", call))
                continue
            assert await runs.list_checkpoint_ids(workflow_name=WORKFLOW) == [f"of {whose}"]
            for other in WHOSE.keys() - {whose}:
                with pytest.raises(CheckpointNotFoundError):
                    await runs.load(f"of {other}")
            found = await sessions.get("conversation")
            assert found is not None
            assert found.state == {"said": whose}
            assert (await approvals.load_approval_request("request")).function_call.arguments == {"name": whose}
        engine.settle()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "missing",
    [
        {"config": config(" "), "platform_context": FoundryAgentRequestContext(user_id="anna", call_id="c")},
        request_of(None, "sandbox 1"),
        {"config": config("sandbox 1"), "platform_context": FoundryAgentRequestContext(user_id="anna")},
        {
            "config": config("sandbox 1"),
            "platform_context": FoundryAgentRequestContext(user_id="a", call_id="c", session_id="sandbox 2"),
        },
    ],
    ids=["no sandbox", "no user", "no call", "the client's sandbox"],
)
async def test_on_foundry_a_request_that_does_not_say_whose_it_is_gets_nothing(
    engine: Engine, provider: str, missing: dict[str, Any]
) -> None:
    more = {"context_id": "c"} if provider == "checkpoints" else {}
    with pytest.raises(RuntimeError):
        PROVIDERS[provider](engine.storage()).get_store(**missing, **more)


async def test_a_request_without_a_user_cannot_name_what_is_a_users(engine: Engine) -> None:
    storage = engine.storage()
    given = {name: make(storage) for name, make in PROVIDERS.items()}
    for whose in ("anna", "anna, hosted"):
        run = given["checkpoints"].get_store(context_id="c", **WHOSE[whose])
        await run.save(checkpoint(checkpoint_id=whose))
    scopes = [stream.run_id.removesuffix("c") async for stream in storage.store.streams()]
    assert len(scopes) == 2
    for scope in scopes:
        sessions = given["sessions"].get_store(**WHOSE["nobody"])
        approvals = given["approvals"].get_store(**WHOSE["nobody"])
        for name in (scope, f"{scope}c"):
            refused = f"^'{name}' begins like the names of a user, and the request does not say whose it is"
            with pytest.raises(ValueError, match=refused):
                given["checkpoints"].get_store(context_id=name, **WHOSE["nobody"])
            for call in (
                sessions.get(name),
                sessions.set(name, session("x")),
                sessions.delete(name),
                approvals.save_approval_request(name, REQUEST),
                approvals.load_approval_request(name),
            ):
                with pytest.raises(ValueError, match=refused):
                    await call
        almost = scope[1:] + "c"
        await sessions.set(almost, session("mine"))
        await given["sessions"].get_store(**WHOSE["ben"]).set(f"{scope}c", session("ben's"))
        assert (await sessions.get(almost)).state == {"said": "mine"}


async def test_sessions_of_a_host_are_none_of_routes_of_ones_own(engine: Engine) -> None:
    storage = engine.storage()
    own = EventSessionStore(storage.store)  # type: ignore[arg-type]
    for whose in ("nobody", "anna"):
        sessions = PROVIDERS["sessions"](storage).get_store(**WHOSE[whose])
        await sessions.set("s", session(whose))
    for name in ("s", f"{sha256(b'anna').hexdigest()}/s"):
        assert await own.get(name) is None
        await own.set(name, session("mine"))
    assert (await PROVIDERS["sessions"](storage).get_store(**WHOSE["anna"]).get("s")).state == {"said": "anna"}


@pytest.mark.parametrize("wrong", ["", " ", "x" * 256])
async def test_a_context_that_cannot_name_a_run_is_refused(engine: Engine, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"context_id is blank|1 to 255 characters"):
        FoundryCheckpointStores(engine.storage()).get_store(context_id=wrong, **WHOSE["nobody"])


@pytest.mark.parametrize("provider", [FoundryCheckpointStores, FoundrySessionStores, FoundryApprovalStores])
@pytest.mark.parametrize("wrong", [None, "store.db", object()])
def test_what_is_no_store_is_refused(provider: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^(storage is a checkpoint storage|store is an AuditStore)"):
        provider(wrong)


# Sessions


each_host = pytest.mark.parametrize("whose", ["nobody", "anna, hosted"], ids=["local", "on Foundry"])


@each_host
async def test_of_two_requests_that_got_a_session_one_hears_of_the_other(engine: Engine, whose: str) -> None:
    """In the words that the host passes on to its client."""
    providers = [PROVIDERS["sessions"](engine.storage()) for _ in range(2)]
    await providers[0].get_store(**WHOSE[whose]).set("s", session("before"))
    engine.settle()
    one, other = (provider.get_store(**WHOSE[whose]) for provider in providers)
    got = [await store.get("s") for store in (one, other)]
    got[0].state["said"] = "one"
    await one.set("s", got[0])
    await one.set("s", got[0])  # it knows of its own
    engine.settle()
    with pytest.raises(RuntimeError, match=r"^Another request advanced this agent session; reload before writing\.$"):
        await other.set("s", got[1])
    assert (await other.get("s")).state == {"said": "one"}
    await other.set("s", session("other"))


@each_host
async def test_of_two_first_requests_one_hears_of_the_other(engine: Engine, whose: str) -> None:
    """Each makes a session object of its own, which no store has seen."""
    provider = PROVIDERS["sessions"](engine.storage())
    one, other = (provider.get_store(**WHOSE[whose]) for _ in range(2))
    assert [await store.get("s") for store in (one, other)] == [None, None]
    await one.set("s", session("one"))
    with pytest.raises(RuntimeError, match="Another request advanced"):
        await other.set("s", session("other"))
    assert (await other.get("s")).state == {"said": "one"}


@pytest.mark.parametrize(("whose", "overwrites"), [("nobody", True), ("anna, hosted", False)])
async def test_what_was_not_looked_for_is_overwritten_only_where_the_host_runs_alone(
    engine: Engine, whose: str, overwrites: bool
) -> None:
    provider = PROVIDERS["sessions"](engine.storage())
    await provider.get_store(**WHOSE[whose]).set("s", session("one"))
    blind = provider.get_store(**WHOSE[whose])
    if overwrites:
        await blind.set("s", session("two"))
    else:
        with pytest.raises(RuntimeError, match="Another request advanced"):
            await blind.set("s", session("two"))
    assert (await blind.get("s")).state == {"said": "two" if overwrites else "one"}


async def test_a_session_goes_under_several_names_and_comes_back_as_copies(engine: Engine) -> None:
    store = PROVIDERS["sessions"](engine.storage()).get_store(**WHOSE["anna"])
    made = session("hello")
    for name in ("conversation", "response 1", "response 2"):
        await store.set(name, made)
    made.state["said"] = "changed"
    copies = [await store.get("response 1") for _ in range(2)]
    copies[0].state["said"] = "changed, too"
    assert copies[1].state == {"said": "hello"}
    await store.delete("response 1")
    assert await store.get("response 1") is None
    await store.set("response 1", made)
    assert (await store.get("conversation")).state == {"said": "hello"}


@pytest.mark.parametrize("wrong", ["", None, 1])
async def test_a_session_id_is_text(engine: Engine, wrong: Any) -> None:
    store = PROVIDERS["sessions"](engine.storage()).get_store(**WHOSE["nobody"])
    for call in (store.get(wrong), store.set(wrong, session("x")), store.delete(wrong)):
        with pytest.raises(ValueError, match="session_id"):
            await call


# Approvals


async def test_a_request_comes_back_as_it_was_from_another_store_object(engine: Engine) -> None:
    await PROVIDERS["approvals"](engine.storage()).get_store(**WHOSE["anna"]).save_approval_request("r", REQUEST)
    engine.settle()
    found = await PROVIDERS["approvals"](engine.storage()).get_store(**WHOSE["anna"]).load_approval_request("r")
    assert found.to_dict() == REQUEST.to_dict()
    assert found.to_function_approval_response(True).function_call == CALL


async def test_a_request_is_kept_once_and_missing_where_nobody_kept_it(engine: Engine) -> None:
    store = PROVIDERS["approvals"](engine.storage()).get_store(**WHOSE["anna"])
    await store.save_approval_request("r", REQUEST)
    with pytest.raises(ValueError, match="There is an approval request 'r' already"):
        await store.save_approval_request("r", Content.from_function_approval_request("other", CALL))
    with pytest.raises(KeyError, match="There is no approval request 'q'"):
        await store.load_approval_request("q")
    assert (await store.load_approval_request("r")).id == "request-1"


@pytest.mark.parametrize("whose", ["anna", "nobody"])
@pytest.mark.parametrize("wrong", [None, 5, b"r"])
async def test_the_id_of_a_request_is_text(engine: Engine, whose: str, wrong: Any) -> None:
    store = PROVIDERS["approvals"](engine.storage()).get_store(**WHOSE[whose])
    for call in (store.save_approval_request(wrong, REQUEST), store.load_approval_request(wrong)):
        with pytest.raises(TypeError, match=r"^approval_request_id is text, not "):
            await call


@pytest.mark.parametrize(
    "hostile", [{}, {"type": 1}, {"session_id": 1, "state": 7}, {"type": "text", "text": []}], ids=str
)
async def test_what_is_no_session_is_refused_by_name_and_the_others_are_readable(
    engine: Engine, hostile: dict[str, Any]
) -> None:
    storage: Any = engine.storage()
    sessions = PROVIDERS["sessions"](storage).get_store(**WHOSE["nobody"])
    await sessions.set("good", session("hello"))
    await Snapshots(storage.store.sessions(), FOUNDRY_SESSIONS).set("bad", hostile)
    with pytest.raises(CheckpointDecodeError, match=r"^Session 'bad'.* cannot be read"):
        await sessions.get("bad")
    assert (await sessions.get("good")).state == {"said": "hello"}


@pytest.mark.parametrize("hostile", [{}, {"type": 1}, {"type": "text", "annotations": 7}], ids=str)
async def test_what_is_no_request_is_refused_by_name(engine: Engine, hostile: dict[str, Any]) -> None:
    storage: Any = engine.storage()
    await Snapshots(storage.store.sessions(), APPROVALS).set("bad", hostile)
    with pytest.raises(CheckpointDecodeError, match=r"Approval request 'bad' cannot be read"):
        await PROVIDERS["approvals"](storage).get_store(**WHOSE["nobody"]).load_approval_request("bad")


@pytest.mark.parametrize("adapter", [FoundrySessionStores, FoundryApprovalStores, AGUISnapshotStore])
def test_a_store_that_keeps_no_sessions_is_refused_at_once(adapter: Callable[[Any], Any], engine: Engine) -> None:
    """Such as the log of sessions itself."""
    store: Any = engine.open()
    with pytest.raises(CheckpointStoreError, match="sessions"):
        adapter(store.sessions())


async def test_a_run_is_called_by_the_name_that_the_host_gave_behind_a_hash_of_whose_it_is(engine: Engine) -> None:
    storage = engine.storage()
    for whose in ("nobody", "anna"):
        run = FoundryCheckpointStores(storage).get_store(context_id="conversation", **WHOSE[whose])
        await run.save(checkpoint(checkpoint_id=whose))
    assert await history(storage.store, "conversation") != []
    assert await history(storage.store, f"{sha256(b'anna').hexdigest()}/conversation") != []
