"""Answers that are given on a page: once, by whoever signed in, whatever happens to the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Never

import httpx
import pytest
from agent_framework import WorkflowBuilder, WorkflowContext, response_handler

from eventckpt import EventCheckpointStorage, answer
from eventckpt.stores.documents import Document, DocumentStore

from ..answers.workflows import (
    ALLOWED,
    NAME,
    RUN,
    Approval,
    Broken,
    Clerk,
    Paid,
    asked,
    functional,
    log,
    nested,
    refund,
    storage_on,
)
from ..cli.test_answer import WORKFLOW, build
from ..cli.test_answer import asked as asked_there
from ..engines import Engine
from ..interleaving import Interrupted
from ..projections.commands import PATIENCE
from ..storage.removed import audited
from .answering import TOKEN, Browser, answering_viewer
from .html import Element, read
from .serving import served


async def answers(engine: Engine) -> list[tuple[str | None, tuple[str, ...]]]:
    """Who answered what, by the log."""
    found = [(event.actor, event.summary.answered_requests) for event in await log(storage_on(engine))]
    return [each for each in found if each[1]]


@pytest.mark.parametrize("kind", [refund, nested, functional])
async def test_an_answer_is_acted_on_and_the_page_that_follows_says_by_whom(engine: Engine, kind: Any) -> None:
    await asked(engine, build=kind)
    paid = Paid()
    async with answering_viewer(engine, paid, kind) as viewers, viewers.browser("ann") as ann:
        said = await ann.answer("true")
        assert said.status_code == 303
        engine.settle()
        shown = await ann.page(said.headers["location"])
    assert paid == [("shoes", True)]
    assert await answers(engine) == [("ann", ("may-shoes",))]
    assert "Answered by ann" in shown.text
    assert [form.attributes["action"] for form in shown.all("form")] == ["/sign-out"]


async def test_a_double_click_acts_once_and_both_are_told_so(engine: Engine) -> None:
    await asked(engine)
    paid = Paid()
    async with answering_viewer(engine, paid, wait=30.0) as viewers, viewers.browser("ann") as ann:
        action, fields = await ann.form()
        both = await asyncio.gather(*(ann.post(action, response="true", **fields) for _ in range(2)))
        assert [said.status_code for said in both] == [303, 303]
        engine.settle()
        for said in both:
            assert "Answered by ann" in (await ann.page(said.headers["location"])).text
        again = await ann.post(action, response="true", **fields)  # the page is sent again, later
        assert (again.status_code, "was answered by 'ann'" in again.text) == (409, False)
        assert "was answered by &#39;ann&#39;" in again.text
    assert paid == [("shoes", True)]
    assert await answers(engine) == [("ann", ("may-shoes",))]


async def test_of_two_people_in_two_viewers_the_second_is_told_what_the_first_said(engine: Engine) -> None:
    await asked(engine)
    paid = Paid()
    async with (
        answering_viewer(engine, paid, wait=30.0) as here,
        answering_viewer(engine, paid, wait=30.0) as there,
        here.browser("ann") as ann,
        there.browser("bob") as bob,
    ):
        forms = await ann.form(), await bob.form()
        said = await asyncio.gather(
            ann.post(forms[0][0], response="true", **forms[0][1]),
            bob.post(forms[1][0], response="false", **forms[1][1]),
        )
        engine.settle()
        assert sorted(each.status_code for each in said) == [303, 409]
        second = next(read(each.text) for each in said if each.status_code == 409)
        [(first, response)] = [
            ("ann", "True") if each.status_code == 303 and each is said[0] else ("bob", "False")
            for each in said
            if each.status_code == 303
        ]
        assert f"was answered by '{first}'" in second.one(role="alert").text
        assert f"Answered by {first}" in second.by_id("question").text
        assert second.one("pre", aria_label="The answer").text == response
    assert len(paid) == 1


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("yes", "The answer takes JSON"),
        ('"yes"', "takes bool"),
        ("", "The answer was not given"),
        ("[" * 65 + "]" * 65, "nests more than 64 deep"),
        ("[" * 20_000, "The answer takes JSON"),
        ("\x1b\u202e</textarea><script>", "The answer takes JSON"),
    ],
    ids=["no JSON", "another type", "nothing", "deep", "very deep", "hostile"],
)
async def test_what_is_no_answer_is_said_beside_the_form_and_nothing_is_done(
    engine: Engine, typed: str, says: str
) -> None:
    await asked(engine)
    before, paid = await log(storage_on(engine)), Paid()
    async with answering_viewer(engine, paid) as viewers, viewers.browser() as ann:
        said = await ann.answer(typed)
        shown = read(said.text)
    assert said.status_code == 400
    assert says in shown.by_id("problem").text
    assert shown.form("/inbox/question")
    assert (paid, await log(storage_on(engine))) == ([], before)


async def test_each_type_of_answer_has_its_field_and_what_was_typed_comes_back(engine: Engine) -> None:
    await asked_there(engine, "shoes", RUN)
    async with (
        answering_viewer(engine, Paid(), lambda _: build(), storage=engine.storage()) as viewers,
        viewers.browser() as ann,
    ):
        query = {"run": RUN, "workflow": WORKFLOW}
        form = (await ann.page("/inbox/question", request="may-shoes", **query)).form("/inbox/question")
        said = await ann.post(form.action, response="true", **form.fields)
        assert said.status_code == 303, said.text
        engine.settle()
        page = await ann.page("/inbox/question", request="remark", **query)
        form = page.form("/inbox/question")
        assert page.one("textarea").attributes["name"] == "response"
        fields = {**form.fields, "response": "two\r\nlines"}
        assert (await ann.post(form.action, **fields)).status_code == 303
        engine.settle()
        shown = await ann.page("/inbox/question", request="remark", **query)
        assert shown.one("pre", aria_label="The answer").text == '"two\\nlines"'


async def test_a_workflow_that_fails_is_said_as_text_and_the_answer_is_on_record(engine: Engine) -> None:
    await asked(engine)
    async with answering_viewer(engine, Broken()) as viewers, viewers.browser() as ann:
        said = await ann.answer("true")
        alert = read(said.text).one(role="alert").text
    assert said.status_code == 409
    assert "ZeroDivisionError: shoes. The answer is on record, and the run is failed." in alert
    assert await answers(engine) == [("ann", ("may-shoes",))]


class Leaving(Paid):
    """Ends the program, if it can, by what it is told to raise."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def __call__(self, item: str, approved: bool) -> None:
        raise self._error


@pytest.mark.parametrize("kind", [refund, nested, functional])
@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt()], ids=repr)
async def test_a_workflow_that_exits_fails_and_ends_neither_the_viewer_nor_what_others_answer(
    engine: Engine, kind: Any, error: BaseException
) -> None:
    await asked(engine, build=kind)
    async with answering_viewer(engine, Leaving(error), kind) as viewers, viewers.browser() as ann:
        alert = read((await ann.answer("true")).text).one(role="alert").text
        engine.settle()
        assert "failed" in (await ann.question()).text
    assert f"The workflow's code raised {type(error).__name__}" in alert


async def test_what_builds_the_workflow_may_exit_too(engine: Engine) -> None:
    await asked(engine)
    broken = False

    def build_or_exit(pay: Any) -> Any:
        if broken:
            raise KeyboardInterrupt
        return refund(pay)

    async with answering_viewer(engine, Paid(), build_or_exit) as viewers, viewers.browser() as ann:
        broken = True
        assert "KeyboardInterrupt" in read((await ann.answer("true")).text).one(role="alert").text
    assert await answers(engine) == []


TWO = ("shoes", "hat")


@pytest.mark.parametrize("items", [TWO, (*TWO, "boots")], ids="+".join)
async def test_each_question_of_a_functional_workflow_is_answered_with_those_of_before(
    engine: Engine, items: tuple[str, ...]
) -> None:
    await asked(engine, " ".join(items), build=functional)
    paid = Paid()
    async with answering_viewer(engine, paid, functional, app="shop:build") as viewers, viewers.browser() as ann:
        for number, item in enumerate(items):
            page = await ann.question(f"may-{item}")
            form = page.form("/inbox/question")
            assert [name for name in form.fields if name.startswith("request-")] == [
                f"request-{each}" for each in range(number)
            ]
            told = [each.text for each in page.one("form", action=form.action).all("p", "pre")]
            for other in items[:number]:
                assert f'item="{other}"' in page.one("pre", aria_label=f"What was asked: may-{other}").text
            assert sum("Asked by" in text and "Answered by ann" in text for text in told) == number
            also = "".join(f"--also may-{each}=ANSWER " for each in items[:number])
            assert f"--json ANSWER {also}--app shop:build" in page.one("pre", aria_label="Command").text
            before = await log(storage_on(engine))
            if number:  # without them nothing is done, and it is said which are missing
                refused = await ann.post(form.action, **{**form.fields, "response": "true"})
                assert (refused.status_code, "asks again for" in refused.text) == (400, True)
                engine.settle()
                after = await log(storage_on(engine))
                assert not [each for each in after[len(before) :] if not each.is_claim]
            earlier = {f"response-{each}": "true" for each in range(number)}
            said = await ann.post(form.action, **{**form.fields, **earlier, "response": "true"})
            assert said.status_code == 303, said.text
            engine.settle()
        assert "hold no answers" in (await ann.question(f"may-{items[-1]}")).text
    assert paid == [(item, True) for item in items]


async def test_of_an_answer_that_is_given_again_the_page_says_who_gave_it_first_and_where_that_is_on_record(
    engine: Engine,
) -> None:
    await asked(engine, "shoes hat boots", build=functional)
    given: dict[str, Any] = {}
    for item, actor in (("shoes", "ann"), ("hat", "bob")):  # bob gives what ann said once more
        given[f"may-{item}"] = True
        await answer(storage_on(engine), RUN, given, workflow=functional(Paid()), actor=actor)
    first: dict[str, int] = {}
    for event in await log(storage_on(engine)):
        for request_id in event.summary.answered_requests:
            first.setdefault(request_id, event.seq)
    async with answering_viewer(engine, Paid(), functional) as viewers:
        async with viewers.browser("eve") as eve:
            page = await eve.question("may-boots")
            said = [each.text for each in page.all("p") if "Answered by" in each.text]
            assert [f"Answered by {actor} " in text for actor, text in zip(("ann", "bob"), said, strict=True)] == [
                True
            ] * 2
            assert [text.rpartition("seq ")[2] for text in said] == [f"{seq}." for seq in first.values()]
            assert {"may-shoes", "may-hat"} <= page.links().keys()
        async with viewers.browser(None) as nobody:
            assert (await nobody.question("may-boots")).all("form") == []


async def test_from_question_to_question_of_a_run_links_lead_until_all_are_answered(engine: Engine) -> None:
    items = ["shoes", "hat", "boots"]
    await asked(engine, " ".join(items))
    paid, seen = Paid(), list[str]()
    async with answering_viewer(engine, paid) as viewers, viewers.browser() as ann:
        page, request_id = await ann.question(f"may-{items[0]}"), f"may-{items[0]}"
        while request_id:
            assert request_id not in _others(page)
            form = page.form("/inbox/question")
            said = await ann.post(form.action, response="true", **form.fields)
            assert said.status_code == 303
            seen.append(request_id)
            engine.settle()
            rest = _others(await ann.page(said.headers["location"]))
            assert len(rest) == len(items) - len(seen)
            request_id, where = next(iter(rest.items()), ("", ""))
            page = await ann.page(where or said.headers["location"])
    assert sorted(seen) == sorted(f"may-{item}" for item in items)
    assert sorted(paid) == sorted((item, True) for item in items)


def _others(page: Element) -> dict[str, str]:
    """Where the links to the other questions lead."""
    lists = page.all("ul", aria_label="Other questions")
    return {link.text: link.attributes["href"] for each in lists for link in each.all("a")}


async def test_of_very_many_other_questions_the_first_are_linked_and_the_rest_counted(engine: Engine) -> None:
    await asked(engine, " ".join([*(f"item-{number}" for number in range(23)), "x" * 2_000]))
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser() as ann:
        page = await ann.question("may-item-7")
        assert list(_others(page)) == [f"may-item-{number}" for number in range(21) if number != 7]
        assert "3 more: the run has them." in page.text
        assert list(_others(await ann.question("may-item-22")))[-1] == "may-item-19"


async def test_a_run_that_was_cancelled_waits_for_no_other_question(engine: Engine) -> None:
    await asked(engine, "shoes hat")
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser() as ann:
        assert list(_others(await ann.question())) == ["may-hat"]
        await storage_on(engine).for_run(RUN, workflow_name=NAME).annotate(outcome="cancelled")
        engine.settle()
        assert _others(await ann.question()) == {}


async def test_what_is_wrong_with_ones_answer_is_said_to_nobody_else(engine: Engine) -> None:
    await asked(engine)
    async with (
        answering_viewer(engine, Paid()) as viewers,
        viewers.browser("ann") as ann,
        viewers.browser("bob") as bob,
    ):
        elsewhere = storage_on(engine, actor="the night shift").for_run(RUN, workflow_name=NAME)
        async with elsewhere.claim():
            engine.settle()
            claimed = read((await ann.answer("true")).text).by_id("problem").text
        assert claimed.startswith("the night shift has the run at this moment, until ")
        assert claimed.endswith("Nothing was done: try again later.")
        engine.settle()
        assert "takes bool" in read((await ann.answer("1")).text).by_id("problem").text
        for each in (ann, bob):
            assert not (await each.question()).all(role="alert")


async def test_a_failure_is_said_with_whose_answer_it_was_until_somebody_else_has_answered(engine: Engine) -> None:
    await asked(engine, build=functional)
    async with (
        answering_viewer(engine, Broken(), functional) as viewers,
        viewers.browser("ann") as ann,
        viewers.browser("bob") as bob,
    ):
        assert (await ann.answer("true")).status_code == 409
        engine.settle()
        told = (await bob.question()).one(role="alert")
        assert told.text.startswith("The answer that ann gave now: The workflow failed: ZeroDivisionError")
        assert told.one("time")
        await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=functional(Paid()), actor="zoe")
        engine.settle()
        after = await bob.question()
        assert not after.all(role="alert")
        assert "Answered by zoe" in after.text


async def test_what_was_typed_is_not_lost_with_the_session(engine: Engine) -> None:
    await asked(engine)
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser("ann") as ann:
        action, fields = await ann.form()
        kept = dict(ann.client.cookies)
        ann.client.cookies.clear()
        said = await ann.post(action, response="an hour of <typing>", **fields)
        page = read(said.text)
        assert said.status_code == 403
        assert "not signed in" in page.by_id("problem").text
        assert page.by_id("typed").text.strip() == "an hour of <typing>"
        form = (await ann.page(page.links()["Sign in to answer"])).form("/sign-in")
        back = await ann.post(form.action, **{**form.fields, "actor": "bob", "token": TOKEN})
        assert back.headers["location"] == action
        said = await ann.post(action, response="true", **fields)  # in the window of ann, who is bob by now
        page = read(said.text)
        assert said.status_code == 403
        assert "signed in as 'bob' by now" in page.by_id("problem").text
        assert page.form("/inbox/question").fields["form_token"] != fields["form_token"]
        said = await ann.post(action, response='"' + "x" * 65_536, **fields)
        assert said.status_code == 413
        assert read(said.text).form("/inbox/question")
    assert kept


async def test_of_a_run_that_was_cut_off_the_page_says_that_nobody_goes_on_with_it(engine: Engine) -> None:
    await asked(engine)
    gate = Gate()

    def cut(pay: Any) -> Any:
        async def waits() -> None:
            gate.reached.set()
            await gate.open.wait()

        return Held(waits).workflow()

    async with answering_viewer(engine, gate, cut, patience=0.0) as viewers, viewers.browser() as ann:
        await ann.answer("true")
        await gate.reached.wait()
        engine.settle()
        going_on = await ann.question()
        assert "is being acted on" in going_on.text
        assert "What became of it" not in going_on.text
        assert going_on.by_id("question").has(hx_trigger="every 2s")
        assert going_on.one("noscript").one("meta").has(http_equiv="refresh", content="2")
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser("bob") as bob:
        left = await bob.question()
        assert "Nobody has claimed the run" in left.by_id("left").text
        async with storage_on(engine, actor="the night shift").for_run(RUN, workflow_name=NAME).claim():
            engine.settle()
            held = await bob.question()
            assert "The run is claimed by the night shift" in held.text
            assert "Nobody has claimed" not in held.text


class Gate(Paid):
    """A workflow that takes as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.open = asyncio.Event(), asyncio.Event()


class Held:
    """The clerk, who holds what was answered until something has happened."""

    def __init__(self, waits: Callable[[], Awaitable[object]]) -> None:
        self._waits = waits

    def workflow(self) -> Any:
        waits = self._waits

        class Slow(Clerk):
            @response_handler
            async def decided(self, question: Approval, approved: bool, ctx: WorkflowContext[Never, str]) -> None:
                await waits()

        Slow.__name__, Slow.__qualname__, Slow.__module__ = Clerk.__name__, Clerk.__qualname__, Clerk.__module__
        return WorkflowBuilder(start_executor=Slow(Paid()), name=NAME).build()


def slow(gate: Any) -> Any:
    async def waits() -> None:
        gate.reached.set()
        await gate.open.wait()

    return refund(gate, waits)


async def test_a_run_that_takes_long_holds_no_page_and_goes_on_when_it_is_closed(engine: Engine) -> None:
    await asked(engine)
    gate = Gate()
    async with answering_viewer(engine, gate, slow, patience=0.0) as viewers, viewers.browser() as ann:
        said = await ann.answer("true")
        assert said.status_code == 303
        await gate.reached.wait()
        shown = await ann.page(said.headers["location"])
        assert "The answer of ann is being acted on." in shown.one(role="status").text
        assert "hx-get" in shown.by_id("question").attributes
        assert all(form.attributes["action"] != "/inbox/question" for form in shown.all("form"))
        [going_on] = viewers.answering._going_on.values()
        gate.open.set()
        async with asyncio.timeout(PATIENCE):
            await going_on
        engine.settle()
        ended = await ann.question()
        assert "hx-get" not in ended.by_id("question").attributes
        assert "Answered by ann" in ended.text
    assert gate == [("shoes", True)]


async def test_at_the_end_a_run_that_goes_on_is_interrupted_and_can_be_answered_anywhere(engine: Engine) -> None:
    await asked(engine)
    gate = Gate()
    async with answering_viewer(engine, gate, slow, patience=0.0) as viewers, viewers.browser() as ann:
        await ann.answer("true")
        await gate.reached.wait()
    assert gate == []
    paid = Paid()
    await answer(storage_on(engine), RUN, {"may-shoes": True}, workflow=refund(paid), actor="bob")
    assert paid == [("shoes", True)]


async def test_no_more_answers_are_acted_on_at_once_than_may_be(engine: Engine) -> None:
    await asked(engine, "shoes hat")
    gate = Gate()
    async with answering_viewer(engine, gate, slow, patience=0.0, most=1) as viewers, viewers.browser() as ann:
        assert (await ann.answer("true")).status_code == 303
        await gate.reached.wait()
        said = await ann.answer("true", "may-hat")
        assert (said.status_code, said.headers["retry-after"]) == (503, "5")
        assert "1 answers are acted on already" in said.text
        gate.open.set()


async def test_a_run_that_somebody_else_has_is_said_to_be_theirs_and_nothing_is_done(engine: Engine) -> None:
    await asked(engine)
    paid = Paid()
    elsewhere = storage_on(engine, actor="the night shift").for_run(RUN, workflow_name=NAME)
    async with elsewhere.claim(), answering_viewer(engine, paid) as viewers, viewers.browser() as ann:
        said = await ann.answer("true")
    assert said.status_code == 409
    assert "the night shift" in read(said.text).one(role="alert").text
    assert (paid, await answers(engine)) == ([], [])


async def test_a_run_of_another_workflow_has_no_form_and_takes_no_answer(engine: Engine) -> None:
    await asked_there(engine, "shoes", RUN)
    async with answering_viewer(engine, Paid(), _other) as viewers, viewers.browser() as ann:
        page = await ann.question()
        assert all(form.attributes["action"] == "/sign-out" for form in page.all("form"))
        token = page.form("/sign-out").fields["form_token"]
        path = f"/inbox/question?run={RUN}&workflow={WORKFLOW}&request=may-shoes"
        said = await ann.post(path, response="true", form_token=token)
        assert (said.status_code, "this viewer was given" in said.text) == (400, True)


@pytest.mark.slow
async def test_cut_off_at_any_request_an_answer_is_given_once_by_whoever_tries_again(engine: Engine) -> None:
    """The viewer is stopped right before one request after the other, until none is left to stop it at."""
    at, cut = 0, 1
    while cut:
        run_id = f"order-{at}"
        await asked(engine, run_id=run_id)
        cut = await _cut_off(engine, run_id, at)
        paid = Paid()
        async with answering_viewer(engine, paid) as viewers, viewers.browser("bob") as bob:
            if any(event.summary.answered_requests for event in await log(storage_on(engine), run_id)):
                assert "Answered by ann" in (await bob.question(run_id=run_id)).text
            else:
                action, fields = await bob.form(run_id=run_id)
                assert (await bob.post(action, response="true", **fields)).status_code == 303
                assert paid == [("shoes", True)]
        at += 1
    assert at > 5


class _Whole(Interrupted):
    """With its documents, which a claim needs, and each request for one."""

    def document_store(self) -> DocumentStore:
        return _Documents(self._store.document_store(), self._step)


class _Documents(DocumentStore):
    def __init__(self, documents: DocumentStore, step: Callable[[], Awaitable[None]]) -> None:
        self._documents = documents
        self._step = step

    async def list_documents(self, prefix: str) -> list[Document]:
        await self._step()
        return await self._documents.list_documents(prefix)

    async def read(self, name: str) -> Document | None:
        await self._step()
        return await self._documents.read(name)

    async def create(self, document: Document) -> Document | None:
        await self._step()
        return await self._documents.create(document)

    async def replace(self, document: Document, etag: str) -> Document | None:
        await self._step()
        return await self._documents.replace(document, etag)

    async def delete(self, name: str, etag: str) -> bool:
        await self._step()
        return await self._documents.delete(name, etag)


async def _cut_off(engine: Engine, run_id: str, at: int) -> int:
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stop() -> None:
        stopped.set_result(None)
        await asyncio.Event().wait()

    store = _Whole(audited(engine), at, stop)
    storage = EventCheckpointStorage(store, allowed_checkpoint_types=ALLOWED)
    async with answering_viewer(engine, Paid(), storage=storage) as viewers, viewers.browser("ann") as ann:
        action, fields = await ann.form(run_id=run_id)
        answered = asyncio.ensure_future(ann.post(action, response="true", **fields))
        await asyncio.wait({answered, stopped}, return_when=asyncio.FIRST_COMPLETED)
        was_cut = stopped.done()
    assert (await answered).status_code in ((303,) if not was_cut else (303, 409, 500))
    engine.settle()
    return int(was_cut)


def _other(pay: Any) -> Any:
    return WorkflowBuilder(start_executor=Clerk(pay), name="another").build()


async def test_on_a_port_two_clicks_at_once_act_once(engine: Engine) -> None:
    await asked(engine)
    paid = Paid()
    async with (
        answering_viewer(engine, paid, wait=30.0) as viewers,
        served(viewers.app) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        ann = Browser(client)
        assert (await ann.sign_in("ann")).status_code == 303
        action, fields = await ann.form()
        both = await asyncio.gather(*(ann.post(action, response="true", **fields) for _ in range(2)))
        assert [said.status_code for said in both] == [303, 303]
    assert paid == [("shoes", True)]
