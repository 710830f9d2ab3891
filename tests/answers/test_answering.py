"""What becomes of an answer: checked before anything is done, acted on once, and on record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Workflow, WorkflowBuilder, WorkflowCheckpointException, WorkflowRunState

from eventckpt import (
    AnswerMissingError,
    CheckpointEvent,
    EventCheckpointStorage,
    RequestNotPendingError,
    ResponseTypeError,
    RunClaimedError,
    RunNotFoundError,
    SqliteEventStore,
    StoreFullError,
    WorkflowRunningError,
    answer,
    answer_from_json,
)
from eventckpt.runs import fold

from ..engines import Engine, SqliteEngine
from .workflows import ALLOWED, NAME, RUN, Broken, Clerk, Paid, asked, functional, log, nested, refund, storage_on

every_kind = pytest.mark.parametrize("build", [refund, nested, functional], ids=lambda build: build.__name__)
by_value_and_by_json = pytest.mark.parametrize("answering", [answer, answer_from_json])

Build = Callable[[Callable[[str, bool], object]], Any]


@every_kind
@by_value_and_by_json
async def test_what_one_process_asked_another_is_told_and_acts_on_once(
    engine: Engine, build: Build, answering: Callable[..., Any]
) -> None:
    await asked(engine, build=build)
    paid, storage = Paid(), storage_on(engine)

    result = await answering(storage, RUN, {"may-shoes": True}, workflow=build(paid), actor="ann")

    assert paid == [("shoes", True)]
    assert result.get_final_state() is WorkflowRunState.IDLE
    [event] = [event for event in await log(storage) if "may-shoes" in event.summary.answered_requests]
    assert event.actor == "ann"
    assert [event async for event in storage.store.headers(event.stream) if event.forked_from] == []


@every_kind
async def test_who_answers_second_is_told_who_was_first_and_nothing_is_done(engine: Engine, build: Build) -> None:
    await asked(engine, build=build)
    await answer(storage_on(engine), RUN, {"may-shoes": False}, workflow=build(Paid()), actor="ann")
    paid, storage = Paid(), storage_on(engine)
    before = await log(storage)

    with pytest.raises(RequestNotPendingError, match="was answered by 'ann' at ") as refused:
        await answer(storage, RUN, {"may-shoes": True}, workflow=build(paid), actor="bob")

    first = refused.value.answer
    assert (refused.value.request_id, refused.value.state) == ("may-shoes", "answered")
    assert first is not None
    [told] = [event for event in before if "may-shoes" in event.summary.answered_requests]
    assert (first.actor, first.seq, first.recorded_at) == ("ann", told.seq, told.recorded_at)
    assert (first.has_response, first.response) == ((False, None) if build is functional else (True, False))
    assert (paid, await log(storage)) == ([], before)


@by_value_and_by_json
@pytest.mark.parametrize("response", [1, "true", None, [True], {"approved": True}])
async def test_a_response_of_another_type_is_refused_before_anything_is_done(
    engine: Engine, response: object, answering: Callable[..., Any]
) -> None:
    await asked(engine, "shoes hat")
    paid, storage = Paid(), storage_on(engine)
    before = await log(storage)

    with pytest.raises(ResponseTypeError, match=f"'may-hat' of run '{RUN}' of workflow '{NAME}' takes bool") as refused:
        await answering(storage, RUN, {"may-shoes": True, "may-hat": response}, workflow=refund(paid))

    assert refused.value.request_id == "may-hat"
    assert isinstance(refused.value, TypeError)
    assert (paid, await log(storage)) == ([], before)


async def test_a_request_that_was_never_asked_is_unknown_and_what_the_run_waits_for_is_named(engine: Engine) -> None:
    await asked(engine)
    storage = storage_on(engine)
    before = await log(storage)

    paid = Paid()
    with pytest.raises(RequestNotPendingError, match=r"was never asked in run .*: it waits for 'may-shoes'") as refused:
        await answer(storage, RUN, {"may-shoes": True, "may-boots": True}, workflow=refund(paid))

    assert (refused.value.state, refused.value.answer) == ("unknown", None)
    assert (paid, await log(storage)) == ([], before)


async def test_a_request_that_the_run_left_behind_has_expired(engine: Engine) -> None:
    """The application went on without an answer, by a new input."""
    await asked(engine)
    storage = storage_on(engine)
    run = storage.for_run(RUN)
    await run.get_latest(workflow_name=NAME)
    await refund(Paid()).run("hat", checkpoint_storage=run)
    before = await log(storage)

    paid = Paid()
    with pytest.raises(RequestNotPendingError, match="was asked at seq 2, and the run went on") as refused:
        await answer(storage, RUN, {"may-shoes": True}, workflow=refund(paid))

    assert (refused.value.state, refused.value.answer) == ("expired", None)
    assert (paid, await log(storage)) == ([], before)


async def test_of_several_questions_all_are_answered_at_once_or_one_after_the_other(engine: Engine) -> None:
    await asked(engine, "shoes hat boots")
    paid = Paid()
    result = await answer(
        storage_on(engine), RUN, {"may-hat": True, "may-boots": False}, workflow=refund(paid), actor="ann"
    )
    assert result.get_final_state() is WorkflowRunState.IDLE_WITH_PENDING_REQUESTS
    result = await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=refund(paid), actor="bob")

    assert result.get_final_state() is WorkflowRunState.IDLE
    assert sorted(paid) == [("boots", False), ("hat", True), ("shoes", True)]
    answers = [(event.actor, sorted(event.summary.answered_requests)) for event in await log(storage_on(engine))]
    assert [each for each in answers if each[1]] == [("ann", ["may-boots", "may-hat"]), ("bob", ["may-shoes"])]


async def test_a_functional_workflow_is_given_its_earlier_answers_again_and_each_is_of_its_type(engine: Engine) -> None:
    await asked(engine, "shoes hat", functional)
    paid = Paid()
    await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=functional(paid), actor="ann")
    with pytest.raises(ResponseTypeError, match="'may-shoes'"):
        await answer(storage_on(engine), RUN, {"may-shoes": "yes", "may-hat": True}, workflow=functional(paid))
    result = await answer(
        storage_on(engine), RUN, {"may-shoes": True, "may-hat": False}, workflow=functional(paid), actor="bob"
    )

    assert result.get_final_state() is WorkflowRunState.IDLE
    assert paid == [("shoes", True), ("hat", False)]
    answers = [(event.actor, event.summary.answered_requests) for event in await log(storage_on(engine))]
    assert [each for each in answers if each[1]] == [("ann", ("may-shoes",)), ("bob", ("may-shoes", "may-hat"))]
    with pytest.raises(RequestNotPendingError, match="answered by 'ann'"):
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=functional(paid))


ITEMS = ("shoes", "hat", "boots")


@pytest.mark.parametrize("recording", [False, True], ids=["", "recording"])
@pytest.mark.parametrize("left_out", [ITEMS[:1], ITEMS[1:2], ITEMS[:2]], ids="+".join)
async def test_an_answer_that_did_not_reach_the_function_is_not_on_record_and_its_question_stays_open(
    engine: Engine, left_out: tuple[str, ...], recording: bool
) -> None:
    await asked(engine, " ".join(ITEMS), functional)
    given: dict[str, bool] = {}
    for item in ITEMS[:2]:
        given[f"may-{item}"] = True
        await answer(storage_on(engine), RUN, given, workflow=functional(Paid()), actor="ann")
    before, again = await log(storage_on(engine)), Paid()

    some = {key: value for key, value in given.items() if key.removeprefix("may-") not in left_out}
    with pytest.raises(AnswerMissingError, match=f"asks again for 'may-{left_out[0]}'") as refused:
        await answer(
            storage_on(engine),
            RUN,
            {**some, "may-boots": True},
            workflow=functional(again),
            actor="bob",
            recording=recording,
        )

    assert refused.value.request_ids == (f"may-{left_out[0]}",)
    after = await log(storage_on(engine))
    assert [event for event in after[len(before) :] if not event.is_claim] == []
    assert again == []
    result = await answer(storage_on(engine), RUN, {**given, "may-boots": True}, workflow=functional(again))
    assert result.get_final_state() is WorkflowRunState.IDLE
    assert again == [("boots", True)]


async def test_a_function_that_is_given_new_input_asks_all_over_again(engine: Engine) -> None:
    """What was answered of the input of before says nothing."""
    for _ in range(2):
        storage = storage_on(engine)
        run = storage.for_run(RUN)
        await run.get_latest(workflow_name=NAME)
        await functional(Paid()).run("shoes hat", checkpoint_storage=run)
        engine.settle()
        paid = Paid()
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=functional(paid))
        await answer(storage_on(engine), RUN, {"may-shoes": True, "may-hat": True}, workflow=functional(paid))
        assert paid == [("shoes", True), ("hat", True)]


async def test_one_workflow_object_goes_on_with_one_run_at_a_time(engine: Engine) -> None:
    runs = ("order-1", "order-2")
    for run_id in runs:
        await asked(engine, run_id=run_id)
    storage, paid = storage_on(engine), Paid()
    before = [len(await log(storage, run_id)) for run_id in runs]
    shared = refund(paid)
    results = await asyncio.gather(
        *(answer(storage, run_id, {"may-shoes": True}, workflow=shared) for run_id in runs), return_exceptions=True
    )
    assert isinstance(results[1], WorkflowRunningError)
    assert paid == [("shoes", True)]
    assert len(await log(storage, runs[0])) > before[0]
    assert len(await log(storage, runs[1])) == before[1]
    await answer(storage, runs[1], {"may-shoes": True}, workflow=shared)
    assert paid == [("shoes", True)] * 2


async def test_a_workflow_that_begins_to_run_while_the_run_is_claimed_is_left_alone(engine: Engine) -> None:
    await asked(engine)
    busy = refund(Paid(), restored=lambda: asyncio.sleep(0))
    running = busy.run("hat", stream=True)

    class Starting(EventCheckpointStorage):
        """Begins to run the workflow at the second look, which is under the claim."""

        looks = 0

        def for_run(self, *args: Any, **options: Any) -> Any:
            handle = super().for_run(*args, **options)
            get_latest = handle.get_latest

            async def starting(**names: Any) -> Any:
                self.looks += 1
                if self.looks == 2:
                    await anext(running)
                return await get_latest(**names)

            handle.get_latest = starting
            return handle

    storage = Starting(storage_on(engine).store, allowed_checkpoint_types=ALLOWED)
    with pytest.raises(WorkflowRunningError):
        await answer(storage, RUN, {"may-shoes": True}, workflow=busy)
    assert [event for event in await log(storage) if event.summary.answered_requests] == []
    async for _ in running:
        pass


async def test_an_answer_of_before_answers_nothing_by_itself_and_in_a_graph_nothing_at_all(engine: Engine) -> None:
    await asked(engine, "shoes hat", functional)
    await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=functional(Paid()))
    with pytest.raises(RequestNotPendingError) as refused:
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=functional(Paid()))
    assert refused.value.state == "answered"

    await asked(engine, "shoes hat", run_id="another")
    await answer(storage_on(engine), "another", {"may-shoes": True}, workflow=refund(Paid()))
    with pytest.raises(RequestNotPendingError) as refused:
        await answer(storage_on(engine), "another", {"may-shoes": True, "may-hat": True}, workflow=refund(Paid()))
    assert refused.value.request_id == "may-shoes"


async def test_a_run_that_somebody_else_has_is_left_alone(engine: Engine) -> None:
    await asked(engine)
    storage = storage_on(engine)
    async with storage_on(engine, actor="ann").for_run(RUN, workflow_name=NAME).claim():
        engine.settle()
        before = await log(storage)
        paid = Paid()
        with pytest.raises(RunClaimedError, match="ann"):
            await answer(storage, RUN, {"may-shoes": True}, workflow=refund(paid))
    assert (paid, await log(storage)) == ([], before)


@every_kind
async def test_what_the_workflow_raises_is_raised_and_the_run_is_free_again(engine: Engine, build: Build) -> None:
    await asked(engine, build=build)
    with pytest.raises(ZeroDivisionError):
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=build(Broken()))
    engine.settle()
    async with storage_on(engine).for_run(RUN, workflow_name=NAME).claim():
        pass


@every_kind
@by_value_and_by_json
async def test_how_a_run_goes_on_is_annotated_where_that_is_asked_for(
    engine: Engine, build: Build, answering: Any
) -> None:
    for pay, outcome, reason in [(Broken(), "failed", "ZeroDivisionError at tests.answers"), (Paid(), "done", "")]:
        await asked(engine, build=build, run_id=outcome)
        with suppress(ZeroDivisionError):
            await answering(
                storage_on(engine), outcome, {"may-shoes": True}, workflow=build(pay), actor="ann", recording=True
            )
        engine.settle()
        storage = storage_on(engine)
        info = fold(events := await log(storage, outcome))
        assert info is not None
        assert (info.outcome, (info.reason or "").startswith(reason)) == (outcome, True)
        assert (events[-1].actor, events[-1].claim is not None) == ("ann", True), "said while it is claimed"


async def test_of_a_run_that_asks_more_or_whose_answer_was_refused_nothing_is_annotated(engine: Engine) -> None:
    await asked(engine, "shoes hat")
    storage = storage_on(engine)
    await answer(storage, RUN, {"may-shoes": True}, workflow=refund(Paid()), recording=True)
    for request_id, response in [("may-shoes", True), ("may-hat", "yes"), ("may-coat", True)]:
        with pytest.raises((RequestNotPendingError, ResponseTypeError)):
            await answer(storage, RUN, {request_id: response}, workflow=refund(Paid()), recording=True)
    assert not any(event.annotation for event in await log(storage))


def another_graph(pay: Callable[[str, bool], object]) -> Workflow:
    clerk = Clerk(pay)
    return WorkflowBuilder(start_executor=clerk, name=NAME).add_edge(clerk, nested_executor()).build()


def nested_executor() -> Any:
    other = Clerk(Paid())
    other.id = "another clerk"
    return other


async def test_a_workflow_of_another_graph_or_name_does_not_go_on_with_a_run(engine: Engine) -> None:
    await asked(engine)
    storage = storage_on(engine)
    before = await log(storage)
    with pytest.raises(WorkflowCheckpointException, match="was saved under another graph"):
        await answer(storage, RUN, {"may-shoes": True}, workflow=another_graph(Paid()))
    with pytest.raises(ValueError, match="workflow_name is 'orders', and the workflow's own name is 'refund'"):
        await answer(storage, RUN, {"may-shoes": True}, workflow=refund(Paid()), workflow_name="orders")
    with pytest.raises(RunNotFoundError, match="has no run 'order-1'"):
        await answer(storage, "order-1", {"may-shoes": True}, workflow=refund(Paid()))
    assert await log(storage) == before


@pytest.mark.parametrize("build", [refund, functional], ids=lambda build: build.__name__)
async def test_a_workflow_that_is_running_is_left_alone(engine: Engine, build: Build) -> None:
    await asked(engine, build=build)
    began, go_on = asyncio.Event(), asyncio.Event()
    storage = storage_on(engine)
    busy = build(Paid())

    class Waiting(EventCheckpointStorage):
        async def save(self, checkpoint: Any) -> str:
            began.set()
            await go_on.wait()
            return await super().save(checkpoint)

    running = asyncio.create_task(
        busy.run("hat", checkpoint_storage=Waiting(storage.store, allowed_checkpoint_types=ALLOWED))
    )
    await began.wait()
    before = await log(storage)
    with pytest.raises(WorkflowRunningError, match="is running"):
        await answer(storage, RUN, {"may-shoes": True}, workflow=busy)
    assert await log(storage) == before
    go_on.set()
    await running


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"responses": {}}, "responses is empty"),
        ({"responses": ["may-shoes"]}, "responses is a mapping"),
        ({"responses": {"": True}}, "A request id is blank"),
        ({"run_id": " "}, "The run id is blank"),
        ({"workflow": 7}, "workflow is a workflow"),
        ({"storage": None}, "storage is an EventCheckpointStorage"),
        ({"ttl": 0}, "ttl"),
        ({"wait": -1}, "wait"),
        ({"actor": ""}, "actor"),
        ({"recording": 1}, "recording"),
    ],
)
async def test_an_argument_of_another_kind_is_named_and_nothing_is_done(
    engine: Engine, wrong: dict[str, Any], says: str
) -> None:
    await asked(engine)
    storage = storage_on(engine)
    given: dict[str, Any] = {"storage": storage, "run_id": RUN, "responses": {"may-shoes": True}}
    given |= {"workflow": refund(paid := Paid())} | wrong
    with pytest.raises((TypeError, ValueError), match=says):
        await answer(given.pop("storage"), given.pop("run_id"), given.pop("responses"), **given)
    assert len(await log(storage)) == 2
    assert paid == []


async def test_a_run_that_was_cancelled_waits_for_no_answer_until_that_is_taken_back(engine: Engine) -> None:
    await asked(engine)
    run = storage_on(engine).for_run(RUN, workflow_name=NAME)
    await run.annotate(outcome="cancelled", reason="the customer has kept them")
    paid = Paid()
    with pytest.raises(RequestNotPendingError, match="was asked at seq 2, and the run was cancelled since") as refused:
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=refund(paid))
    assert (refused.value.state, paid) == ("expired", [])

    await run.annotate(outcome="failed")
    await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=refund(paid))
    assert paid == [("shoes", True)]


async def test_what_a_function_or_a_builder_builds_goes_on_as_the_workflow_itself(engine: Engine) -> None:
    await asked(engine, "shoes hat")
    paid = Paid()
    await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=lambda: refund(paid))
    builder = WorkflowBuilder(start_executor=Clerk(paid), name=NAME)
    await answer(storage_on(engine), RUN, {"may-hat": True}, workflow=builder)
    assert paid == [("shoes", True), ("hat", True)]


class FullStore(SqliteEventStore):
    """A store in which there is no room for a checkpoint any more."""

    async def append(self, event: CheckpointEvent) -> None:
        if event.type == "checkpoint":
            raise StoreFullError("There is no room left.")
        await super().append(event)


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("build", [refund, nested], ids=lambda build: build.__name__)
async def test_an_answer_that_cannot_be_recorded_is_not_acted_on_and_the_question_stays_open(
    tmp_path: Path, build: Build, recording: bool
) -> None:
    engine = SqliteEngine(tmp_path / "store.db")
    await asked(engine, build=build)
    paid = Paid()
    async with FullStore(engine.path) as full:
        storage = EventCheckpointStorage(full, allowed_checkpoint_types=ALLOWED)
        with pytest.raises(StoreFullError):
            await answer(storage, RUN, {"may-shoes": True}, workflow=build(paid), recording=recording)
    assert paid == []
    assert not any(event.annotation for event in await log(storage_on(engine))), "it did not fail: it goes on to ask"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0

    await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=build(paid))
    assert paid == [("shoes", True)]
    await engine.close()
