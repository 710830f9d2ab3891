"""Counterparts of the framework's tests of its history provider on Cosmos DB, class by class and name by name. What
does not ask for an account is held on every engine."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator

import agent_framework_azure_cosmos as upstream
import pytest
from agent_framework import AgentSession, Message
from agent_framework.exceptions import SettingNotFoundError
from azure.cosmos.aio import CosmosClient

from eventckpt import CheckpointStoreError, CosmosHistoryProvider, EventHistoryProvider
from eventckpt.stores import AuditStore

from ..conftest import cosmos_account
from ..engines import Engine
from ..stores.cosmos_stores import Settings, container_of, create_container, settings_of
from .histories import Histories, question_and_answer, stored
from .models import Model, agent_with, said, turn_of

ready_made = pytest.mark.parametrize("engine", ["sqlite", "cosmos"], indirect=True)
"""On the engines that have a provider of their own, which opens its store itself."""
SETTINGS = ("ENDPOINT", "KEY", "DATABASE_NAME", "CONTAINER_NAME")


@pytest.fixture
async def settings() -> AsyncGenerator[Settings, None]:
    """A container of its own."""
    async with cosmos_account() as account:
        yield settings_of(*account)


@pytest.fixture
async def client(settings: Settings) -> AsyncGenerator[CosmosClient, None]:
    async with CosmosClient(settings["endpoint"], settings["credential"]) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(f"AZURE_COSMOS_{name}", raising=False)


async def takes_a_turn(history: CosmosHistoryProvider) -> None:
    await history.save_messages("s", question_and_answer("one"))
    assert await stored(history) == turn_of("one")


class TestCosmosHistoryProviderInit:
    def test_takes_what_upstreams_takes_by_the_same_names_and_defaults(self) -> None:
        theirs = inspect.signature(upstream.CosmosHistoryProvider).parameters
        ours = inspect.signature(CosmosHistoryProvider).parameters
        assert {name: ours[name].default for name in theirs} == {name: each.default for name, each in theirs.items()}
        assert {name: ours[name].kind for name in theirs} == {name: each.kind for name, each in theirs.items()}
        assert CosmosHistoryProvider.DEFAULT_SOURCE_ID == upstream.CosmosHistoryProvider.DEFAULT_SOURCE_ID

    async def test_uses_provided_container_client(self, settings: Settings, client: CosmosClient) -> None:
        await create_container(client, settings, "/stream")
        container = container_of(client, settings)
        async with CosmosHistoryProvider(source_id="mem", container_client=container) as provider:
            assert provider.source_id == "mem"
            assert provider.load_messages is True
            assert provider.store_outputs is True
            assert provider.store_inputs is True
            await takes_a_turn(provider)

    async def test_uses_provided_cosmos_client(self, settings: Settings, client: CosmosClient) -> None:
        names = {name: settings[name] for name in ("database_name", "container_name")}
        async with CosmosHistoryProvider(source_id="mem", cosmos_client=client, **names) as provider:
            assert (provider.database_name, provider.container_name) == tuple(names.values())
            await takes_a_turn(provider)

    def test_missing_required_settings_raises(self) -> None:
        with pytest.raises(SettingNotFoundError, match="database_name"):
            CosmosHistoryProvider()

    async def test_constructs_client_with_string_credential(self, settings: Settings) -> None:
        async with CosmosHistoryProvider(**settings) as provider:
            await takes_a_turn(provider)

    async def test_takes_its_settings_from_the_environment(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values = (settings[name] for name in ("endpoint", "credential", "database_name", "container_name"))
        for name, value in zip(SETTINGS, values, strict=True):
            monkeypatch.setenv(f"AZURE_COSMOS_{name}", value)
        async with CosmosHistoryProvider() as provider:
            await takes_a_turn(provider)


class TestCosmosHistoryProviderContainerConfig:
    async def test_provider_container_name_is_used(self, settings: Settings, client: CosmosClient) -> None:
        async with CosmosHistoryProvider(**settings) as provider:
            await takes_a_turn(provider)
        database = client.get_database_client(settings["database_name"])
        made = [container["id"] async for container in database.list_containers()]
        assert f"{settings['container_name']}-sessions" in made


class TestCosmosHistoryProviderGetMessages:
    async def test_returns_deserialized_messages(self, histories: Histories) -> None:
        await histories.open().save_messages("s", [Message("user", ["Hello"]), Message("assistant", ["Hi"])])
        histories.settle()
        messages = await histories.open().get_messages("s")
        assert [(message.role, message.text) for message in messages] == [("user", "Hello"), ("assistant", "Hi")]

    async def test_empty_returns_empty(self, histories: Histories) -> None:
        history = histories.open()
        assert await history.get_messages("s") == []
        await history.save_messages("s", question_and_answer("one"))
        assert await history.get_messages("another") == []
        assert await histories.open(source_id="another").get_messages("s") == []

    async def test_a_message_comes_back_as_it_was(self, histories: Histories) -> None:
        history = histories.open()
        message = Message("assistant", ["text"], author_name="an author", message_id="m1")
        message.additional_properties["extra"] = {"nested": [1, 2.5, None, "é"]}
        await history.save_messages("s", [message])
        [found] = await history.get_messages("s")
        assert found.to_dict() == message.to_dict()


class TestCosmosHistoryProviderListSessions:
    async def test_list_sessions_returns_unique_sorted_ids(self, histories: Histories) -> None:
        history = histories.open(source_id="mem")
        for session_id in ("s2", "s1", "s1", "s3"):
            await history.save_messages(session_id, question_and_answer("one"))
        await histories.open(source_id="other").save_messages("s4", question_and_answer("one"))
        histories.settle()
        assert list(await history.list_sessions()) == ["s1", "s2", "s3"]

    async def test_a_branch_is_no_session_of_its_own(self, histories: Histories) -> None:
        history = histories.open()
        session = AgentSession(session_id="s")
        await agent_with(history, Model()).run("one", session=session)
        earlier = AgentSession.from_dict(session.to_dict())
        for each in (session, earlier):
            await agent_with(history, Model()).run("two", session=each)
        histories.settle()
        assert list(await history.list_sessions()) == ["s"]


class TestCosmosHistoryProviderSaveMessages:
    async def test_saves_messages(self, histories: Histories) -> None:
        history = histories.open()
        await history.save_messages("s", question_and_answer("one"))
        await history.save_messages("s", question_and_answer("two"))
        assert await stored(history) == [*turn_of("one"), *turn_of("two")]

    async def test_empty_messages_noop(self, histories: Histories, engine: Engine) -> None:
        history, state = histories.open(), {}
        await history.save_messages("s", [], state=state)
        assert list(await history.list_sessions()) == []
        assert await history.get_messages("s") == []

    @pytest.mark.parametrize("count", [100, 101, 250])
    async def test_takes_any_number_of_messages(self, histories: Histories, count: int) -> None:
        history = histories.open()
        texts = [f"msg-{number}" for number in range(count)]
        await history.save_messages("s", [Message("user", [text]) for text in texts])
        assert await stored(history) == texts


class TestCosmosHistoryProviderClear:
    async def test_clear_hides_all_session_items(self, histories: Histories) -> None:
        history = histories.open()
        for session_id in ("s", "other"):
            await history.save_messages(session_id, question_and_answer("one"))
            await history.save_messages(session_id, question_and_answer("two"))
        await history.clear("s")
        histories.settle()
        another = histories.open()
        assert await stored(another) == []
        assert await stored(another, "other") == [*turn_of("one"), *turn_of("two")]
        await another.save_messages("s", question_and_answer("three"))
        assert await stored(another) == turn_of("three")

    async def test_clear_hides_from_who_had_read_before_too(self, histories: Histories) -> None:
        history, state = histories.open(), {}
        await history.save_messages("s", question_and_answer("one"), state=state)
        assert said(await history.get_messages("s", state=state)) == turn_of("one")
        await history.clear("s")
        assert await history.get_messages("s", state=state) == []

    async def test_there_may_be_nothing_to_clear(self, histories: Histories) -> None:
        history = histories.open()
        await history.clear("never seen")
        assert await history.get_messages("never seen") == []


class TestCosmosHistoryProviderBeforeAfterRun:
    async def test_before_run_loads_history(self, histories: Histories) -> None:
        await histories.open().save_messages("s", [Message("user", ["old msg"])])
        histories.settle()
        model = Model()
        await agent_with(histories.open(), model).run("new msg", session=AgentSession(session_id="s"))
        assert model.shown == [["old msg", "new msg"]]

    async def test_after_run_stores_input_and_response(self, histories: Histories) -> None:
        history = histories.open()
        await agent_with(history, Model()).run("hi", session=AgentSession(session_id="s"))
        messages = await history.get_messages("s")
        assert [(each.role, each.text) for each in messages] == [("user", "hi"), ("assistant", "answer to hi")]


class TestCosmosHistoryProviderClose:
    async def test_close_does_not_close_external_client(self, settings: Settings, client: CosmosClient) -> None:
        names = {name: settings[name] for name in ("database_name", "container_name")}
        first, second = (CosmosHistoryProvider(cosmos_client=client, **names) for _ in range(2))
        await takes_a_turn(first)
        await first.close()
        assert await stored(second) == turn_of("one")
        await second.close()

    @ready_made
    async def test_close_closes_what_it_opened(self, histories: Histories) -> None:
        history = histories.open()
        await history.save_messages("s", question_and_answer("one"))
        await history.close()
        await history.close()
        with pytest.raises(CheckpointStoreError, match="closed"):
            await history.get_messages("s")

    async def test_a_store_that_was_passed_in_stays_open(self, engine: Engine) -> None:
        store = engine.open()
        assert isinstance(store, AuditStore)
        async with EventHistoryProvider(store) as history:
            await history.save_messages("s", question_and_answer("one"))
        assert await stored(EventHistoryProvider(store)) == turn_of("one")

    @ready_made
    async def test_async_context_manager_closes(self, histories: Histories) -> None:
        async with histories.open() as history:
            await history.save_messages("s", question_and_answer("one"))
        with pytest.raises(CheckpointStoreError, match="closed"):
            await history.get_messages("s")

    async def test_async_context_manager_preserves_original_exception(self, histories: Histories) -> None:
        async def fails() -> None:
            async with histories.open() as history:
                await history.save_messages("s", question_and_answer("one"))
                raise ValueError("inner error")

        with pytest.raises(ValueError, match="inner error"):
            await fails()


async def test_cosmos_history_provider_roundtrip_with_emulator(histories: Histories) -> None:
    """The framework's one test without mocks, on every engine."""
    history = histories.open()
    await history.save_messages("s", [Message("user", ["Hello Cosmos"]), Message("assistant", ["Hi from Cosmos"])])
    messages = await history.get_messages("s")
    assert [message.role for message in messages] == ["user", "assistant"]
    assert said(messages) == ["Hello Cosmos", "Hi from Cosmos"]
    histories.settle()
    assert "s" in list(await history.list_sessions())
    await history.clear("s")
    assert await history.get_messages("s") == []
