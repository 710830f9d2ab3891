"""Real workflows of the framework on our storages: run, cut off, resumed by another object, as another process would.

An executor that raises stands for a process that dies: what it did in that superstep is lost, as after a kill.
`samples/` and `tests/test_samples.py` do the same with processes that are really killed.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, Never

import pytest
from agent_framework import (
    Agent,
    AgentExecutor,
    AgentExecutorResponse,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    CheckpointStorage,
    Content,
    Executor,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    RunContext,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    WorkflowExecutor,
    WorkflowRunResult,
    WorkflowRunState,
    handler,
    response_handler,
    step,
    workflow,
)
from packaging.version import Version

from eventckpt import (
    CheckpointConflictError,
    CheckpointEvent,
    CheckpointTypeNotAllowedError,
    EventCheckpointStorage,
    StreamId,
)
from eventckpt.events import ForkPoint

from ..engines import Engine

RUN = "order-42"
KEEPS_AN_ANSWERED_QUESTION = Version(version("agent-framework-core")) < Version("1.22")
"""Until then the framework asked the second question of a sub-workflow again while it took the answer to the first, and
kept it for ever."""


class CrashError(Exception):
    """The process dies here, as far as the workflow can tell."""


async def log(storage: EventCheckpointStorage, workflow_name: str, run_id: str = RUN) -> list[CheckpointEvent]:
    return [event async for event in storage.store.headers(StreamId(workflow_name, run_id))]


async def latest(storage: CheckpointStorage, workflow_name: str) -> WorkflowCheckpoint:
    found = await storage.get_latest(workflow_name=workflow_name)
    assert found is not None
    return found


# A chain of executors, of which any one may crash or wait


class Link(Executor):
    """Adds its id to the list that it gets, and passes it on."""

    def __init__(self, name: str, chain: Chain) -> None:
        super().__init__(id=name)
        self._chain = chain

    @handler
    async def add(self, ids: list[str], ctx: WorkflowContext[list[str], list[str]]) -> None:
        await self._chain.enter(self.id)
        ids = [*ids, self.id]
        ctx.set_state("ids", ids)
        if self.id == Chain.IDS[-1]:
            await ctx.yield_output(ids)
        else:
            await ctx.send_message(ids)


class Chain:
    """What one process makes of the chain: its workflow, and which executors ran to their end."""

    NAME = "chain"
    IDS = ("one", "two", "three", "four")
    EVENTS = len(IDS) + 1
    """Of an undisturbed run: one for the input, one for each superstep."""

    def __init__(
        self,
        *,
        crash_in: str | None = None,
        wait_in: str | None = None,
        wait: Callable[[], Awaitable[object]] | None = None,
        storage: CheckpointStorage | None = None,
    ) -> None:
        self.ran: list[str] = []
        self._crash_in, self._wait_in, self._wait = crash_in, wait_in, wait
        links = [Link(name, self) for name in self.IDS]
        self.workflow = (
            WorkflowBuilder(start_executor=links[0], name=self.NAME, checkpoint_storage=storage)
            .add_chain(links)
            .build()
        )

    async def enter(self, name: str) -> None:
        """An executor begins its work."""
        if name == self._crash_in:
            raise CrashError
        if name == self._wait_in and self._wait is not None:
            await self._wait()
        self.ran.append(name)


async def cut_off(storage: CheckpointStorage, *, in_: str) -> None:
    """A run of the chain whose process dies in one executor."""
    with pytest.raises(CrashError):
        await Chain(crash_in=in_).workflow.run([], checkpoint_storage=storage)


async def test_a_run_goes_on_in_another_workflow_and_storage_object_where_it_was_cut_off(engine: Engine) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="three")

    storage = engine.storage()
    run, chain = storage.for_run(RUN), Chain()
    checkpoint = await latest(run, Chain.NAME)
    result = await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert checkpoint.iteration_count == 2
    assert chain.ran == ["three", "four"]
    assert result.get_outputs() == [["one", "two", "three", "four"]]
    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("cut", ["one", "two", "three", "four"])
async def test_wherever_a_run_is_cut_off_its_log_ends_as_that_of_an_undisturbed_one(engine: Engine, cut: str) -> None:
    await cut_off(engine.storage().for_run(RUN), in_=cut)
    storage = engine.storage()
    run = storage.for_run(RUN)
    await Chain().workflow.run(checkpoint_id=(await latest(run, Chain.NAME)).checkpoint_id, checkpoint_storage=run)
    await Chain().workflow.run([], checkpoint_storage=storage.for_run("undisturbed"))

    resumed, undisturbed = [
        [(event.seq, event.iteration_count, event.summary) for event in await log(storage, Chain.NAME, run_id)]
        for run_id in (RUN, "undisturbed")
    ]
    assert resumed == undisturbed
    assert len(resumed) == Chain.EVENTS


@pytest.mark.parametrize("given", ["to run", "to the builder"])
async def test_the_storage_may_be_given_to_the_builder_or_to_run(
    engine: Engine, given: Literal["to run", "to the builder"]
) -> None:
    def chain(storage: CheckpointStorage, crash_in: str | None = None) -> tuple[Chain, dict[str, Any]]:
        if given == "to run":
            return Chain(crash_in=crash_in), {"checkpoint_storage": storage}
        return Chain(crash_in=crash_in, storage=storage), {}

    first, options = chain(engine.storage().for_run(RUN), crash_in="four")
    with pytest.raises(CrashError):
        await first.workflow.run([], **options)
    storage = engine.storage()
    second, options = chain(storage.for_run(RUN))
    checkpoint = await latest(storage.for_run(RUN), Chain.NAME)
    result = await second.workflow.run(checkpoint_id=checkpoint.checkpoint_id, **options)

    assert (first.ran, second.ran) == (["one", "two", "three"], ["four"])
    assert result.get_outputs() == [["one", "two", "three", "four"]]
    assert [event.seq for event in await log(storage, Chain.NAME)] == [1, 2, 3, 4, 5]


async def test_an_unbound_storage_finds_the_run_of_a_resumed_workflow_by_its_lineage(engine: Engine) -> None:
    await cut_off(engine.storage(), in_="three")
    storage = engine.storage()
    checkpoint = await latest(storage, Chain.NAME)
    await Chain().workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=storage)

    events = [event async for event in storage.store.workflow_headers(Chain.NAME)]
    assert {event.run_id for event in events} == {events[0].checkpoint_id}
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]


async def test_one_workflow_object_that_runs_twice_continues_its_run(engine: Engine) -> None:
    storage = engine.storage()
    chain = Chain(storage=storage.for_run(RUN))
    await chain.workflow.run([])
    await chain.workflow.run(["again"])

    events = await log(storage, Chain.NAME)
    assert [event.seq for event in events] == list(range(1, 2 * Chain.EVENTS + 1))
    assert [event.previous_checkpoint_id for event in events] == [None, *(event.checkpoint_id for event in events[:-1])]
    assert (await latest(storage.for_run(RUN), Chain.NAME)).state["ids"] == ["again", *Chain.IDS]


async def test_an_older_checkpoint_can_be_gone_back_to(engine: Engine) -> None:
    await Chain().workflow.run([], checkpoint_storage=engine.storage().for_run(RUN))

    storage = engine.storage()
    run, chain = storage.for_run(RUN), Chain()
    first = (await run.list_checkpoint_ids(workflow_name=Chain.NAME))[1]
    await chain.workflow.run(checkpoint_id=first, checkpoint_storage=run)

    events = await log(storage, Chain.NAME)
    assert chain.ran == ["two", "three", "four"]
    assert [event.iteration_count for event in events] == [0, 1, 2, 3, 4, 2, 3, 4]
    assert events[5].previous_checkpoint_id == first
    assert (await latest(run, Chain.NAME)).checkpoint_id == events[-1].checkpoint_id


async def test_a_streamed_run_is_cut_off_and_resumed_alike(engine: Engine) -> None:
    with pytest.raises(CrashError):
        async for _ in Chain(crash_in="three").workflow.run(
            [], checkpoint_storage=engine.storage().for_run(RUN), stream=True
        ):
            pass
    storage = engine.storage()
    run, chain = storage.for_run(RUN), Chain()
    stream = chain.workflow.run(
        checkpoint_id=(await latest(run, Chain.NAME)).checkpoint_id, checkpoint_storage=run, stream=True
    )
    completed = [event.executor_id async for event in stream if event.type == "executor_completed"]

    assert completed == chain.ran == ["three", "four"]
    assert (await stream.get_final_response()).get_outputs() == [list(Chain.IDS)]
    assert [event.seq for event in await log(storage, Chain.NAME)] == [1, 2, 3, 4, 5]


async def test_each_superstep_is_stored_before_the_next_one_begins(engine: Engine) -> None:
    storage = engine.storage()
    seen: list[tuple[str, list[int]]] = []

    class Watched(Chain):
        async def enter(self, name: str) -> None:
            engine.settle()
            seen.append((name, [event.seq for event in await log(storage, Chain.NAME)]))

    await Watched().workflow.run([], checkpoint_storage=engine.storage().for_run(RUN))

    assert seen == [("one", [1]), ("two", [1, 2]), ("three", [1, 2, 3]), ("four", [1, 2, 3, 4])]


async def test_a_run_whose_task_is_cancelled_goes_on_with_the_same_storage(engine: Engine) -> None:
    storage, entered = engine.storage(), asyncio.Event()
    run = storage.for_run(RUN)

    async def hang() -> None:
        entered.set()
        await asyncio.Event().wait()

    hanging = asyncio.ensure_future(
        Chain(wait_in="three", wait=hang).workflow.run([], checkpoint_storage=run),
    )
    await entered.wait()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    chain = Chain()
    await chain.workflow.run(checkpoint_id=(await latest(run, Chain.NAME)).checkpoint_id, checkpoint_storage=run)

    assert chain.ran == ["three", "four"]
    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3, 4]


async def test_another_process_that_looked_at_a_finished_run_may_give_it_new_input(engine: Engine) -> None:
    await Chain().workflow.run([], checkpoint_storage=engine.storage().for_run(RUN))
    storage = engine.storage()
    run = storage.for_run(RUN)
    await latest(run, Chain.NAME)
    await Chain().workflow.run(["again"], checkpoint_storage=run)

    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert (await latest(run, Chain.NAME)).state["ids"] == ["again", *Chain.IDS]


# State


@dataclass
class Task:
    remaining: list[int]


class Factors(Executor):
    """Shaped like Microsoft's own checkpoint sample: a loop that keeps its results by number."""

    NAME = "factors"

    def __init__(self, *, crash_at: int | None = None) -> None:
        super().__init__(id="factors")
        self._crash_at = crash_at
        self._pairs: dict[int, list[tuple[int, int]]] = {}

    @handler
    async def factorise(self, task: Task, ctx: WorkflowContext[Task, dict[int, list[tuple[int, int]]]]) -> None:
        number, *remaining = task.remaining
        if number == self._crash_at:
            raise CrashError
        self._pairs[number] = [(low, number // low) for low in range(1, number + 1) if number % low == 0]
        if remaining:
            await ctx.send_message(Task(remaining))
        else:
            await ctx.yield_output(self._pairs)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"pairs": self._pairs}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self._pairs = state["pairs"]

    @classmethod
    def workflow(cls, *, crash_at: int | None = None) -> Workflow:
        loop = cls(crash_at=crash_at)
        return WorkflowBuilder(start_executor=loop, name=cls.NAME).add_edge(loop, loop).build()


async def test_the_int_keys_of_an_executor_that_is_resumed_at_step_4_of_6_stay_ints(engine: Engine) -> None:
    allowed = [f"{__name__}:Task"]
    with pytest.raises(CrashError):
        await Factors.workflow(crash_at=4).run(
            Task([1, 2, 3, 4, 5, 6]), checkpoint_storage=engine.storage(allowed_checkpoint_types=allowed).for_run(RUN)
        )
    run = engine.storage(allowed_checkpoint_types=allowed).for_run(RUN)
    checkpoint = await latest(run, Factors.NAME)
    result = await Factors.workflow().run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    [pairs] = result.get_outputs()
    assert list(pairs) == [1, 2, 3, 4, 5, 6]
    assert (pairs[2], pairs[6]) == ([(1, 2), (2, 1)], [(1, 6), (2, 3), (3, 2), (6, 1)])


async def test_every_checkpoint_keeps_the_state_of_its_own_superstep(engine: Engine) -> None:
    allowed = [f"{__name__}:Task"]
    numbers = list(range(1, 61))
    await Factors.workflow().run(
        Task(numbers), checkpoint_storage=engine.storage(allowed_checkpoint_types=allowed).for_run(RUN)
    )

    storage = engine.storage(allowed_checkpoint_types=allowed)
    checkpoints = await storage.for_run(RUN).list_checkpoints(workflow_name=Factors.NAME)
    kept = [list(checkpoint.state["_executor_state"]["factors"]["pairs"]) for checkpoint in checkpoints]
    assert kept == [numbers[:count] for count in range(61)]
    sizes = [event.payload for event in await log(storage, Factors.NAME) if event.payload]
    assert sum(size.stored_size for size in sizes) < sum(size.raw_size for size in sizes) / 4


class Unregistered:
    """Application state that nobody put on the allow-list."""


class Careless(Executor):
    """Puts a type into the state that checkpoints may not hold, in the second superstep."""

    NAME = "careless"

    def __init__(self) -> None:
        super().__init__(id="careless")

    @handler
    async def go(self, again: bool, ctx: WorkflowContext[bool, str]) -> None:
        if again:
            await ctx.send_message(False)
        else:
            ctx.set_state("secret", Unregistered())
            await ctx.yield_output("done")


async def test_a_graph_workflow_survives_a_type_that_is_not_allowed_and_the_callback_hears_of_it(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[WorkflowCheckpoint, Exception]] = []
    storage = engine.storage(on_save_error=lambda checkpoint, error: heard.append((checkpoint, error)))
    executor = Careless()
    careless = WorkflowBuilder(start_executor=executor, name=Careless.NAME).add_edge(executor, executor).build()

    result = await careless.run(True, checkpoint_storage=storage.for_run(RUN))

    assert (result.get_outputs(), result.get_final_state()) == (["done"], WorkflowRunState.IDLE)
    [(checkpoint, error)] = heard
    assert checkpoint.iteration_count == 2
    assert isinstance(error, CheckpointTypeNotAllowedError)
    assert error.type_key == f"{__name__}:Unregistered"
    assert f"allowed_checkpoint_types=['{__name__}:Unregistered']" in str(error)
    assert [record.levelname for record in caplog.records if record.name == "eventckpt"] == ["ERROR"]
    assert [event.iteration_count for event in await log(storage, Careless.NAME)] == [0, 1]


# Questions to people


@dataclass
class Question:
    text: str


class Asker(Executor):
    """Asks one question per word of its input, and ends when all are answered."""

    NAME = "asker"

    def __init__(self) -> None:
        super().__init__(id="asker")
        self._answers: dict[str, int] = {}
        self._open = 0

    @handler
    async def ask(self, words: str, ctx: WorkflowContext[Never, dict[str, int]]) -> None:
        self._open = len(words.split())
        for word in words.split():
            await ctx.request_info(Question(word), int)

    @response_handler
    async def answered(self, question: Question, answer: int, ctx: WorkflowContext[Never, dict[str, int]]) -> None:
        self._answers[question.text] = answer
        if len(self._answers) == self._open:
            await ctx.yield_output(self._answers)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"answers": self._answers, "open": self._open}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self._answers, self._open = state["answers"], state["open"]

    @classmethod
    def workflow(cls, storage: CheckpointStorage | None = None) -> Workflow:
        return WorkflowBuilder(start_executor=cls(), name=cls.NAME, checkpoint_storage=storage).build()


QUESTION = [f"{__name__}:Question"]


def ids_of(checkpoint: WorkflowCheckpoint) -> dict[str, str]:
    """The pending requests' ids by the question's text."""
    return {event.data.text: request_id for request_id, event in checkpoint.pending_request_info_events.items()}


async def test_a_question_is_answered_by_another_process_with_the_checkpoint_and_the_responses_at_once(
    engine: Engine,
) -> None:
    asked = await Asker.workflow().run(
        "why", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    )
    assert asked.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS

    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    run = storage.for_run(RUN)
    checkpoint = await latest(run, Asker.NAME)
    result = await Asker.workflow().run(
        checkpoint_id=checkpoint.checkpoint_id, responses={ids_of(checkpoint)["why"]: 7}, checkpoint_storage=run
    )

    assert (result.get_outputs(), result.get_final_state()) == ([{"why": 7}], WorkflowRunState.IDLE)
    summaries = [event.summary for event in await log(storage, Asker.NAME)]
    [pending] = summaries[1].pending_requests
    assert (pending.source_executor_id, pending.request_type) == ("asker", QUESTION[0])
    assert [len(summary.pending_requests) for summary in summaries] == [0, 1, 0, 0]
    assert [summary.answered_requests for summary in summaries] == [(), (), (pending.request_id,), ()]


async def test_a_restored_workflow_asks_again_and_takes_the_answer_later(engine: Engine) -> None:
    await Asker.workflow().run("why", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN))
    run = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    asker = Asker.workflow(run)
    restored = await asker.run(checkpoint_id=(await latest(run, Asker.NAME)).checkpoint_id)
    [request] = restored.get_request_info_events()
    result = await asker.run(responses={request.request_id: 7})

    assert request.data == Question("why")
    assert result.get_outputs() == [{"why": 7}]


async def test_each_of_several_questions_may_be_answered_by_a_process_of_its_own(engine: Engine) -> None:
    await Asker.workflow().run(
        "when where who", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    )
    left = ["when", "where", "who"]
    outputs: list[Any] = []
    for answer, text in enumerate(["who", "when", "where"]):
        run = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
        checkpoint = await latest(run, Asker.NAME)
        assert sorted(ids_of(checkpoint)) == left
        result = await Asker.workflow().run(
            checkpoint_id=checkpoint.checkpoint_id, responses={ids_of(checkpoint)[text]: answer}, checkpoint_storage=run
        )
        outputs += result.get_outputs()
        left.remove(text)

    assert outputs == [{"who": 0, "when": 1, "where": 2}]
    witness = engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    assert (await latest(witness, Asker.NAME)).pending_request_info_events == {}


# Shapes of graphs


class Source(Executor):
    @handler
    async def spread(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(text)


class Tag(Executor):
    @handler
    async def tag(self, text: str, ctx: WorkflowContext[str]) -> None:
        await ctx.send_message(f"{text}.{self.id}")


class Join(Executor):
    def __init__(self, *, crash: bool) -> None:
        super().__init__(id="join")
        self._crash = crash

    @handler
    async def join(self, texts: list[str], ctx: WorkflowContext[Never, list[str]]) -> None:
        if self._crash:
            raise CrashError
        await ctx.yield_output(sorted(texts))


def diamond(*, crash: bool = False) -> Workflow:
    """A fan-out into a short and a long way, and a fan-in that waits for both."""
    source, short, long, longer, join = (
        Source(id="source"), Tag(id="short"), Tag(id="long"), Tag(id="longer"), Join(crash=crash)
    )  # fmt: skip
    return (
        WorkflowBuilder(start_executor=source, name="diamond")
        .add_fan_out_edges(source, [short, long])
        .add_edge(long, longer)
        .add_fan_in_edges([short, longer], join)
        .build()
    )


async def test_what_a_fan_in_has_already_collected_survives(engine: Engine) -> None:
    with pytest.raises(CrashError):
        await diamond(crash=True).run("x", checkpoint_storage=engine.storage().for_run(RUN))
    storage = engine.storage()
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "diamond")
    result = await diamond().run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert set(checkpoint.messages) == {"longer"}, "the short way's message waits in the fan-in, not in flight"
    assert result.get_outputs() == [["x.long.longer", "x.short"]]
    assert [set(event.summary.messages) for event in await log(storage, "diamond")] == [
        {"internal:source"},
        {"source"},
        {"short", "long"},
        {"longer"},
        set(),
    ]


def nested() -> Workflow:
    """A workflow whose only executor is another workflow, which asks."""
    inner = WorkflowExecutor(Asker.workflow(), id="inner", propagate_request=True)
    sink = Collector(id="sink")
    return WorkflowBuilder(start_executor=inner, name="nested", output_from=[sink]).add_edge(inner, sink).build()


class Collector(Executor):
    @handler
    async def collect(self, answers: dict[str, int], ctx: WorkflowContext[Never, int]) -> None:
        await ctx.yield_output(sum(answers.values()))


async def test_a_question_inside_a_sub_workflow_is_answered_by_another_process(engine: Engine) -> None:
    await nested().run("how often", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN))
    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "nested")
    ids = ids_of(checkpoint)
    result = await nested().run(
        checkpoint_id=checkpoint.checkpoint_id,
        responses={ids["how"]: 2, ids["often"]: 40},
        checkpoint_storage=run,
    )

    assert result.get_outputs() == [42]
    pending = [event.summary.pending_requests for event in await log(storage, "nested")]
    assert {(request.source_executor_id, request.request_type) for request in pending[1]} == {("inner", QUESTION[0])}
    assert [request.request_id for request in pending[-1]] == [ids["often"]] * KEEPS_AN_ANSWERED_QUESTION


# Agents


class Parrot(FunctionInvocationLayer, BaseChatClient):
    """Answers with the number of the turn, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[list[str]] = []

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        self.heard.append([message.text for message in messages if message.role in ("user", "assistant")])
        answer = f"answer to {messages[-1].text}"
        if stream:
            return self._build_response_stream(self._updates(answer))
        return self._response(answer)

    async def _response(self, answer: str) -> ChatResponse:
        return ChatResponse(messages=[Message("assistant", [answer])])

    async def _updates(self, answer: str) -> AsyncIterable[ChatResponseUpdate]:
        yield ChatResponseUpdate(role="assistant", contents=[Content.from_text(answer)])


def conversation(parrot: Parrot, *, session_id: str) -> Workflow:
    agent = Agent(parrot, name="parrot")
    executor = AgentExecutor(agent, session=agent.create_session(session_id=session_id))
    return WorkflowBuilder(start_executor=executor, name="conversation").build()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_remembers_its_session_in_another_process(engine: Engine, stream: bool) -> None:
    async def say(workflow: Workflow, text: str, storage: CheckpointStorage) -> None:
        if stream:
            await workflow.run(text, checkpoint_storage=storage, stream=True).get_final_response()
        else:
            await workflow.run(text, checkpoint_storage=storage)

    first = conversation(Parrot(), session_id="the customer's")
    await say(first, "one", engine.storage().for_run(RUN))

    storage, parrot = engine.storage(), Parrot()
    run = storage.for_run(RUN)
    second = conversation(parrot, session_id="another")
    await second.run(checkpoint_id=(await latest(run, "conversation")).checkpoint_id, checkpoint_storage=run)
    assert parrot.heard == [], "nothing was left to do"
    await say(second, "two", run)

    assert parrot.heard == [["one", "answer to one", "two"]]
    state = (await latest(run, "conversation")).state["_executor_state"]["parrot"]
    assert state["agent_session"]["session_id"] == "the customer's"
    assert [message.text for message in state["full_conversation"]][-2:] == ["two", "answer to two"]
    assert len({event.run_id for event in await log(storage, "conversation")}) == 1


async def test_an_agent_that_was_asked_before_the_crash_is_not_asked_again(engine: Engine) -> None:
    def workflow(parrot: Parrot, *, crash: bool) -> Workflow:
        agent = AgentExecutor(Agent(parrot, name="parrot"))
        sink = Sink(crash=crash)
        return WorkflowBuilder(start_executor=agent, name="paid", output_from=[sink]).add_edge(agent, sink).build()

    asked, spared = Parrot(), Parrot()
    with pytest.raises(CrashError):
        await workflow(asked, crash=True).run("dear", checkpoint_storage=engine.storage().for_run(RUN))
    run = engine.storage().for_run(RUN)
    result = await workflow(spared, crash=False).run(
        checkpoint_id=(await latest(run, "paid")).checkpoint_id, checkpoint_storage=run
    )

    assert (asked.heard, spared.heard) == ([["dear"]], [])
    assert result.get_outputs() == ["answer to dear"]


class Sink(Executor):
    def __init__(self, *, crash: bool) -> None:
        super().__init__(id="sink")
        self._crash = crash

    @handler
    async def take(self, response: AgentExecutorResponse, ctx: WorkflowContext[Never, str]) -> None:
        if self._crash:
            raise CrashError
        await ctx.yield_output(response.agent_response.text)


async def test_a_workflow_used_as_an_agent_goes_on_in_another_process(engine: Engine) -> None:
    first = conversation(Parrot(), session_id="s")
    await first.as_agent().run("one", checkpoint_storage=engine.storage().for_run(RUN))

    storage, parrot = engine.storage(), Parrot()
    run = storage.for_run(RUN)
    second = conversation(parrot, session_id="s")
    checkpoint = await latest(run, "conversation")
    answer = await second.as_agent().run("two", checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert answer.text == "answer to two"
    assert parrot.heard == [["one", "answer to one", "two"]]
    events = await log(storage, "conversation")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].checkpoint_id == (await latest(run, "conversation")).checkpoint_id


# Two that resume one checkpoint


async def resume_together(*storages: EventCheckpointStorage) -> list[WorkflowRunResult]:
    """Resume the run's latest checkpoint with each storage; nobody saves before all have loaded it."""
    loaded = asyncio.Barrier(len(storages))

    async def resume(storage: EventCheckpointStorage) -> WorkflowRunResult:
        run = storage.for_run(RUN)
        checkpoint = await latest(run, Chain.NAME)
        chain = Chain(wait_in="three", wait=loaded.wait)
        return await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    return await asyncio.gather(*map(resume, storages))


async def test_two_that_resume_one_checkpoint_end_as_two_runs_and_nothing_is_lost(engine: Engine) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="three")
    both = [engine.storage(actor=actor) for actor in ("left", "right")]
    results = await resume_together(*both)

    assert [result.get_outputs() for result in results] == [[list(Chain.IDS)]] * 2
    witness = engine.storage()
    events = [event async for event in witness.store.workflow_headers(Chain.NAME)]
    run, fork = (
        [event for event in events if (event.run_id == RUN) is is_run] for is_run in (True, False)
    )  # fmt: skip
    resumed = run[2]
    assert [(event.seq, event.iteration_count) for event in run] == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]
    assert [(event.seq, event.iteration_count) for event in fork] == [(1, 3), (2, 4)]
    assert {event.run_id for event in fork} == {f"{RUN}~{fork[0].checkpoint_id[:8]}"}
    assert fork[0].forked_from == ForkPoint(
        workflow_name=Chain.NAME, run_id=RUN, seq=3, checkpoint_id=resumed.checkpoint_id
    )
    assert fork[0].previous_digest == resumed.digest
    assert {run[3].actor, fork[0].actor} == {"left", "right"}, "one each"
    assert [event.actor for event in run[3:]] == [run[3].actor] * 2, "no run mixes the two"
    for event in events:
        checkpoint = await witness.load(event.checkpoint_id)
        assert (checkpoint.iteration_count, checkpoint.previous_checkpoint_id) == (
            event.iteration_count,
            event.previous_checkpoint_id,
        )


async def test_a_fork_is_resumed_like_any_run(engine: Engine) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="two")
    loaded = asyncio.Barrier(2)

    async def resume(crash_in: str | None) -> None:
        run = engine.storage().for_run(RUN)
        chain = Chain(wait_in="two", wait=loaded.wait, crash_in=crash_in)
        checkpoint = await latest(run, Chain.NAME)
        await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    await asyncio.gather(resume("four"), resume("four"), return_exceptions=True)
    storage = engine.storage()
    [fork] = {event.run_id async for event in storage.store.workflow_headers(Chain.NAME)} - {RUN}
    run, chain = storage.for_run(fork), Chain()
    checkpoint = await latest(run, Chain.NAME)
    result = await chain.workflow.run(checkpoint_id=checkpoint.checkpoint_id, checkpoint_storage=run)

    assert (chain.ran, result.get_outputs()) == (["four"], [list(Chain.IDS)])
    assert [event.iteration_count for event in await log(storage, Chain.NAME, fork)] == [2, 3, 4]
    assert [event.iteration_count for event in await log(storage, Chain.NAME)] == [0, 1, 2, 3]


async def test_told_to_raise_the_slower_of_two_keeps_nothing_and_the_callback_hears_every_refusal(
    engine: Engine,
) -> None:
    await cut_off(engine.storage().for_run(RUN), in_="three")
    heard: dict[str, list[Exception]] = {"left": [], "right": []}

    def strict(actor: str) -> EventCheckpointStorage:
        return engine.storage(
            actor=actor, on_conflict="raise", on_save_error=lambda _, error: heard[actor].append(error)
        )

    results = await resume_together(strict("left"), strict("right"))

    assert [result.get_outputs() for result in results] == [[list(Chain.IDS)]] * 2, "the framework swallows the error"
    witness = engine.storage()
    events = [event async for event in witness.store.workflow_headers(Chain.NAME)]
    assert [(event.run_id, event.seq) for event in events] == [(RUN, seq) for seq in (1, 2, 3, 4, 5)]
    winner = events[3].actor or ""
    assert [event.actor for event in events[3:]] == [winner] * 2
    [loser] = {"left", "right"} - {winner}
    assert (heard[winner], len(heard[loser])) == ([], 2)
    for error in heard[loser]:
        assert isinstance(error, CheckpointConflictError)
        assert (error.stream, error.expected_seq) == (StreamId(Chain.NAME, RUN), 4)


async def test_twenty_runs_at_once_each_have_their_own_log_result_and_latest(engine: Engine) -> None:
    storage = engine.storage()
    run_ids = [f"order-{number}" for number in range(20)]
    everyone = asyncio.Barrier(len(run_ids))

    async def run(run_id: str) -> WorkflowRunResult:
        chain = Chain(wait_in="two", wait=everyone.wait)
        return await chain.workflow.run([run_id], checkpoint_storage=storage.for_run(run_id))

    results = await asyncio.gather(*map(run, run_ids))

    assert [result.get_outputs() for result in results] == [[[run_id, *Chain.IDS]] for run_id in run_ids]
    other = engine.storage()
    for run_id in run_ids:
        assert [event.seq for event in await log(other, Chain.NAME, run_id)] == [1, 2, 3, 4, 5]
        assert (await latest(other.for_run(run_id), Chain.NAME)).state["ids"] == [run_id, *Chain.IDS]
    assert len([event async for event in other.store.workflow_headers(Chain.NAME)]) == 20 * Chain.EVENTS


# Functional workflows

ran: list[str] = []
"""Which steps ran to their end, in this test."""
crash_in: set[str] = set()
"""The steps that die."""


@pytest.fixture(autouse=True)
def _every_process_lives() -> None:
    ran.clear()
    crash_in.clear()


def enter(name: str) -> None:
    if name in crash_in:
        raise CrashError
    ran.append(name)


with warnings.catch_warnings():
    # The framework says once per process that functional workflows are experimental: at their first decorator.
    warnings.simplefilter("ignore", FutureWarning)

    @step
    async def parse(text: str) -> list[int]:
        enter("parse")
        return [int(word) for word in text.split()]

    @step
    async def total(numbers: list[int]) -> int:
        enter("total")
        return sum(numbers)

    @step
    async def tell(number: int) -> str:
        enter("tell")
        return f"it is {number}"

    @workflow(name="adding")
    async def adding(text: str) -> str:
        return await tell(await total(await parse(text)))

    @workflow(name="reviewing")
    async def reviewing(text: str, ctx: RunContext) -> str:
        number = await total(await parse(text))
        approved = await ctx.request_info(Question(f"may it be {number}?"), bool)
        return await tell(number) if approved else "refused"

    @step
    async def careless() -> Unregistered:
        return Unregistered()

    @workflow(name="careless-steps")
    async def careless_steps(text: str) -> str:
        await careless()
        return text


async def test_a_functional_workflow_does_not_repeat_finished_steps_in_another_process(engine: Engine) -> None:
    crash_in.add("tell")
    with pytest.raises(CrashError):
        await adding.build().run("1 2 3", checkpoint_storage=engine.storage().for_run(RUN))
    assert ran == ["parse", "total"]

    ran.clear()
    crash_in.clear()
    storage = engine.storage()
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "adding")
    result = await adding.build(checkpoint_storage=run).run(checkpoint_id=checkpoint.checkpoint_id)

    assert (ran, result.get_outputs()) == (["tell"], ["it is 6"])
    events = await log(storage, "adding")
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.previous_checkpoint_id for event in events] == [None, *(event.checkpoint_id for event in events[:-1])]


async def test_a_functional_workflow_that_runs_twice_on_one_bound_run_continues_its_stream(engine: Engine) -> None:
    storage = engine.storage()
    run = storage.for_run(RUN)
    first = await adding.build().run("1 2", checkpoint_storage=run)
    second = await adding.build().run("3 4", checkpoint_storage=run)

    assert [result.get_outputs() for result in (first, second)] == [["it is 3"], ["it is 7"]]
    events = await log(storage, "adding")
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [seq for seq, event in enumerate(events, 1) if event.previous_checkpoint_id is None] == [1, 5]
    assert [event.run_id for event in events if event.forked_from] == []
    assert (await latest(run, "adding")).state["_original_message"] == "3 4"


async def test_a_functional_workflow_asks_and_another_process_answers(engine: Engine) -> None:
    asked = await reviewing.build().run(
        "20 22", checkpoint_storage=engine.storage(allowed_checkpoint_types=QUESTION).for_run(RUN)
    )
    assert asked.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS

    ran.clear()
    storage = engine.storage(allowed_checkpoint_types=QUESTION)
    run = storage.for_run(RUN)
    checkpoint = await latest(run, "reviewing")
    [(request_id, request)] = checkpoint.pending_request_info_events.items()
    result = await reviewing.build().run(
        checkpoint_id=checkpoint.checkpoint_id, responses={request_id: True}, checkpoint_storage=run
    )

    assert request.data == Question("may it be 42?")
    assert (ran, result.get_outputs()) == (["tell"], ["it is 42"])
    pending = [len(event.summary.pending_requests) for event in await log(storage, "reviewing")]
    assert (pending[2], pending[-1]) == (1, 0)


async def test_a_functional_workflow_fails_where_a_step_returns_a_type_that_is_not_allowed(engine: Engine) -> None:
    heard: list[Exception] = []
    storage = engine.storage(on_save_error=lambda _, error: heard.append(error))

    with pytest.raises(CheckpointTypeNotAllowedError) as raised:
        await careless_steps.build().run("x", checkpoint_storage=storage.for_run(RUN))

    assert raised.value.type_key == f"{__name__}:Unregistered"
    assert heard == [raised.value]
    assert await log(storage, "careless-steps") == []
