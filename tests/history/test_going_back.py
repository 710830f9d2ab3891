"""The model sees exactly its own past, wherever a conversation went back to, forked or was tried again: by plays that
are made up, through an agent and through a workflow, with one save a turn and with one a call of the model."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from agent_framework import Agent, AgentExecutor, AgentSession, Workflow, WorkflowBuilder
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eventckpt import EventCheckpointStorage

from ..conftest import cosmos_account
from ..cosmos_emulator import Switches
from ..engines import CosmosEngine, Engine, SqliteEngine
from .histories import Histories, copy_of
from .models import Model, agent_with, said, turn_of

pytestmark = pytest.mark.slow  # hundreds of turns

QUESTIONS = ["yes", "no", "look_up: tea", "look_up: tea coffee"]
"""Few, so that the same turn comes again and again."""
WORKFLOW = "conversation"


class Step(NamedTuple):
    """A turn that follows on some earlier one."""

    after: int
    """Which: any number."""
    question: str
    stream: bool
    fails_first: bool
    """The model fails in the middle of it, so that it is taken again from where it began."""
    forks: bool
    """In a session of its own, forked there, where that can be: from a turn that no other branch was taken before."""


class Node(NamedTuple):
    """Where a conversation stands after a turn."""

    place: Any
    """What goes on from there is given this."""
    past: list[str]


steps = st.builds(
    Step,
    after=st.integers(0, 20),
    question=st.sampled_from(QUESTIONS),
    stream=st.booleans(),
    fails_first=st.booleans(),
    forks=st.booleans(),
)


class FailingModel(Model):
    """Fails instead of giving the answer; the calls of tools before it are made."""

    def _inner_get_response(self, **kwargs: Any) -> Any:
        if self.shown or not kwargs["messages"][-1].text.startswith("look_up"):
            raise ModelError
        return super()._inner_get_response(**kwargs)


class ModelError(Exception):
    """The service of the model is out of order."""


async def run(target: Agent | Workflow, question: str, *, stream: bool, **options: Any) -> None:
    if stream:
        await target.run(question, stream=True, **options).get_final_response()
    else:
        await target.run(question, **options)


class Conversation(ABC):
    """Something that takes turns, each in what stands for a process of its own."""

    def __init__(self, engine: Engine, *, per_call: bool) -> None:
        self.histories = Histories(engine)
        self.engine = engine
        self._per_call = per_call

    async def begin(self, question: str) -> Node:
        return await self._turn(self.start(), [], question, stream=False)

    async def take(self, node: Node, step: Step) -> Node:
        place = node.place
        if step.forks and (forked := await self.forked(place)):
            place = forked
        if step.fails_first:
            with pytest.raises(ModelError):
                await self.say(place, FailingModel(), step.question, stream=step.stream)
            self.histories.settle()
        return await self._turn(place, node.past, step.question, stream=step.stream)

    async def _turn(self, place: Any, past: list[str], question: str, *, stream: bool) -> Node:
        model = Model()
        after = await self.say(place, model, question, stream=stream)
        self.histories.settle()
        turn = turn_of(question)
        assert model.shown == [[*past, *turn[:length]] for length in range(1, len(turn), 2)]
        return Node(after, [*past, *turn])

    def agent(self, model: Model) -> Agent:
        return agent_with(self.histories.open(), model, per_call=self._per_call)

    @abstractmethod
    def start(self) -> Any: ...

    @abstractmethod
    async def forked(self, place: Any) -> Any:
        """A session of its own that begins there; None where none can be made."""

    @abstractmethod
    async def say(self, place: Any, model: Model, question: str, *, stream: bool) -> Any: ...

    @abstractmethod
    async def session(self, place: Any) -> AgentSession: ...


class ByAgent(Conversation):
    """An application that keeps the sessions itself. A place is a session."""

    def start(self) -> AgentSession:
        return AgentSession(session_id="s")

    async def session(self, place: AgentSession) -> AgentSession:
        return copy_of(place)

    async def forked(self, place: AgentSession) -> AgentSession | None:
        history = self.histories.open()
        state = place.state[history.source_id]
        if state.get("branch"):
            return None
        made = AgentSession(session_id=f"fork-{uuid.uuid4()}")
        await history.fork(place.session_id, made.session_id, upto_seq=state["seq"])
        self.histories.settle()
        made.state[history.source_id] = {"seq": 1}  # the fork itself: a session that has seen it, and nothing later
        return made

    async def say(self, place: AgentSession, model: Model, question: str, *, stream: bool) -> AgentSession:
        session = await self.session(place)
        await run(self.agent(model), question, stream=stream, session=session)
        return session


class ByWorkflow(Conversation):
    """A workflow whose checkpoints keep the session. A place is the id of one."""

    def start(self) -> None:
        return None

    async def session(self, place: str) -> AgentSession:
        state = (await self._storage().load(place)).state["_executor_state"]["assistant"]
        return AgentSession.from_dict(state["agent_session"])

    async def forked(self, place: str | None) -> None:
        return None

    async def say(self, place: str | None, model: Model, question: str, *, stream: bool) -> str:
        storage, agent = self._storage(), self.agent(model)
        executor = AgentExecutor(agent, session=agent.create_session(session_id="s"))
        workflow = WorkflowBuilder(start_executor=executor, name=WORKFLOW).build()
        if place is not None:
            await workflow.run(checkpoint_id=place, checkpoint_storage=storage)
            assert model.shown == [], "nothing is left to do in a checkpoint after a turn"
        await run(workflow, question, stream=stream, checkpoint_storage=storage)
        latest = await storage.get_latest(workflow_name=WORKFLOW)
        assert latest is not None
        return latest.checkpoint_id

    def _storage(self) -> EventCheckpointStorage:
        return self.engine.storage()


async def play(engines: Callable[[], Any], kind: type[Conversation], plan: list[Step], *, per_call: bool) -> None:
    async with engines() as engine:
        conversation = kind(engine, per_call=per_call)
        nodes = [await conversation.begin("yes")]
        for step in plan:
            nodes.append(await conversation.take(nodes[step.after % len(nodes)], step))
        for node in nodes:
            session, history = await conversation.session(node.place), conversation.histories.open()
            state = session.state[history.source_id]
            assert said(await history.get_messages(session.session_id, state=state)) == node.past
        await conversation.histories.close()


@asynccontextmanager
async def sqlite() -> AsyncGenerator[Engine, None]:
    with tempfile.TemporaryDirectory() as folder:
        engine = SqliteEngine(Path(folder) / "store.db")
        yield engine
        await engine.close()


@asynccontextmanager
async def cosmos() -> AsyncGenerator[Engine, None]:
    async with cosmos_account(Switches.from_environment()) as (endpoint, key):
        engine = CosmosEngine(endpoint, key, f"test-{uuid.uuid4()}")
        yield engine
        await engine.close()


@pytest.mark.parametrize("per_call", [False, True], ids=["a save a turn", "a save a call"])
@pytest.mark.parametrize("kind", [ByAgent, ByWorkflow])
@pytest.mark.parametrize(("engines", "plays"), [(sqlite, 12), (cosmos, 5)])
def test_the_model_sees_exactly_its_own_past(
    engines: Callable[[], Any], plays: int, kind: type[Conversation], *, per_call: bool
) -> None:
    @settings(max_examples=plays, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
    @given(st.lists(steps, min_size=4, max_size=8))
    def plays_of(plan: list[Step]) -> None:
        asyncio.run(play(engines, kind, plan, per_call=per_call))

    plays_of()
