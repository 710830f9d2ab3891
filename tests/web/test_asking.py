"""How an answer is asked for: a field that fits its type, in words, and what is sent by it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any, Never

import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler, response_handler
from pydantic import BaseModel

from eventckpt import EventCheckpointStorage, StreamId
from eventckpt.events import PendingRequest
from eventckpt.rendering.about_run import how_to_answer
from eventckpt.web.asking import field_for

from ..answers.workflows import NAME, RUN, Approval
from ..cli.conftest import Cli
from ..engines import Engine
from .answering import TOKEN, Browser, Viewers, answering_viewer
from .html import Document, read


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Address:
    street: str
    number: int
    tags: list[str] = field(default_factory=list[str])
    country: str = "NL"


class Parcel(BaseModel):
    weight: float
    note: str = "fragile"


@dataclass
class Wrapping:
    """That may be left as it is."""

    paper: str = "brown"
    ribbon: str | None = None


TYPES: dict[str, Any] = {
    "bool": bool,
    "str": str,
    "int": int,
    "float": float,
    "optional": str | None,
    "enum": Size,
    "dataclass": Address,
    "model": Parcel,
    "defaults": Wrapping,
    "list": list[int],
}
got: list[object] = []


class Desk(Executor):
    """Asks for a value of one type."""

    @handler
    async def ask(self, kind: str, ctx: WorkflowContext) -> None:
        await ctx.request_info(Approval(kind), TYPES[kind], request_id="q")

    @response_handler
    async def told(self, question: Approval, given: bool, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_text(self, question: Approval, given: str, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_whole(self, question: Approval, given: int, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_number(self, question: Approval, given: float, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_optional(self, question: Approval, given: str | None, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_size(self, question: Approval, given: Size, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_address(self, question: Approval, given: Address, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_parcel(self, question: Approval, given: Parcel, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_wrapping(self, question: Approval, given: Wrapping, ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)

    @response_handler
    async def told_list(self, question: Approval, given: list[int], ctx: WorkflowContext[Never, str]) -> None:
        got.append(given)


ALLOWED = [
    "tests.answers.workflows:Approval",
    *(f"{__name__}:{cls.__name__}" for cls in (Size, Address, Parcel, Wrapping)),
]


def desk(_: object = None) -> Workflow:
    return WorkflowBuilder(start_executor=Desk(id="desk"), name=NAME).build()


def storage_on(engine: Engine) -> EventCheckpointStorage:
    engine.settle()
    return engine.storage(allowed_checkpoint_types=ALLOWED)


async def asked(engine: Engine, kind: str) -> None:
    await desk().run(kind, checkpoint_storage=storage_on(engine).for_run(RUN))
    engine.settle()


def viewer_on(engine: Engine) -> Any:
    return answering_viewer(engine, print, desk, storage_on(engine))


async def field_of(browser: Browser) -> Document:
    return await browser.question("q")


async def given(viewers: Viewers, **fields: str) -> tuple[int, str]:
    """What becomes of an answer: the status, and what is wrong with it."""
    async with viewers.browser() as ann:
        form = (await field_of(ann)).form("/inbox/question")
        said = await ann.post(form.action, **{**form.fields, **fields})
        alerts = read(said.text).all(role="alert") if said.status_code != 303 else []
        return said.status_code, " ".join(each.text for each in alerts)


@pytest.mark.parametrize(
    ("kind", "takes", "fields", "becomes"),
    [
        ("bool", "yes or no", {"response": "false"}, False),
        ("str", "text", {"response": "null"}, "null"),
        ("str", "text", {"response": "", "meant": "true"}, ""),
        ("int", "a whole number", {"response": "7"}, 7),
        ("float", "a number", {"response": "1.5"}, 1.5),
        ("optional", "text, or none", {"response": "none of it"}, "none of it"),
        ("optional", "text, or none", {"response": "", "none": "true"}, None),
        ("optional", "text, or none", {"response": "", "meant": "true"}, ""),
        ("enum", f"{__name__}:Size", {"response": '"l"'}, Size.LARGE),
        ("dataclass", f"{__name__}:Address", {"response": '{"street": "A", "number": 1}'}, Address("A", 1)),
        ("model", f"{__name__}:Parcel", {"response": '{"weight": 2}'}, Parcel(weight=2)),
        ("defaults", f"{__name__}:Wrapping", {"meant": "true"}, Wrapping()),
        ("list", "list[int]", {"response": "[1, 2]"}, [1, 2]),
    ],
)
async def test_each_type_has_a_field_and_what_is_sent_by_it_is_of_that_type(
    engine: Engine, kind: str, takes: str, fields: dict[str, str], becomes: object
) -> None:
    await asked(engine, kind)
    got.clear()
    async with viewer_on(engine) as viewers:
        async with viewers.browser() as ann:
            assert f"Takes {takes}" in (await field_of(ann)).one("dl").text
        assert await given(viewers, **fields) == (303, "")
    assert got == [becomes]


@pytest.mark.parametrize(
    ("kind", "typed", "says"),
    [
        ("int", "1,5", "The answer takes a number, written as 3 or 1.5, which '1,5' is not."),
        ("int", "true", "The answer takes a number"),
        ("int", "1.5", "takes int, which 1.5 is not"),
        ("list", "1,", "The answer takes JSON"),
        ("dataclass", '{"street": "A", "number": 1, "number": 2}', "The answer gives 'number' twice in one object"),
        ("list", '[{"a": [{"b": 1, "b": 1}]}]', "The answer gives 'b' twice in one object"),
        ("dataclass", '{"street": null, "number": null}', "takes Address"),
    ],
)
async def test_what_is_none_of_it_is_said_in_words_and_that_nothing_was_done(
    engine: Engine, kind: str, typed: str, says: str
) -> None:
    await asked(engine, kind)
    got.clear()
    async with viewer_on(engine) as viewers:
        status, alert = await given(viewers, response=typed)
    assert (status, got) == (400, [])
    assert says in alert
    assert alert.endswith("Nothing was done.")


@pytest.mark.parametrize("kind", TYPES)
async def test_what_nobody_touched_is_no_answer_and_what_to_tick_where_it_is_meant_is_said(
    engine: Engine, kind: str
) -> None:
    await asked(engine, kind)
    got.clear()
    async with viewer_on(engine) as viewers, viewers.browser() as ann:
        page = await field_of(ann)
        form = page.form("/inbox/question")
        ticks = [each.text for each in page.all("label") if each.all("input", type="checkbox")]
        said = await ann.post(form.action, **{"response": "", **form.fields})
        alert = read(said.text).one(role="alert").text
    assert (said.status_code, got) == (400, [])
    assert alert.startswith("The answer was not given: the field is as it was. Fill it in")
    assert [tick for tick in ticks if f"“{tick}”" not in alert] == []
    assert len(ticks) == {"str": 1, "optional": 2, "dataclass": 1, "model": 1, "defaults": 1}.get(kind, 0)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("str", {"response": "typed", "meant": "true"}),
        ("optional", {"response": "typed", "meant": "true"}),
        ("optional", {"response": "typed", "none": "true"}),
        ("optional", {"response": "", "none": "true", "meant": "true"}),
        ("optional", {"response": "typed", "none": "true", "meant": "true"}),
        ("defaults", {"response": '{"paper": "blue"}', "meant": "true"}),
    ],
)
async def test_of_two_things_at_once_neither_is_taken_and_both_stay_on_the_page(
    engine: Engine, kind: str, fields: dict[str, str]
) -> None:
    await asked(engine, kind)
    got.clear()
    async with viewer_on(engine) as viewers, viewers.browser() as ann:
        form = (await field_of(ann)).form("/inbox/question")
        said = await ann.post(form.action, **{**form.fields, **fields})
        page = read(said.text)
        kept = page.form("/inbox/question").fields
    assert (said.status_code, got) == (400, [])
    assert "things at once" in page.one(role="alert").text
    assert page.one(role="alert").text.endswith("Leave one of them. Nothing was done.")
    assert {name: kept[name] for name in fields} == fields


async def test_the_fields_of_a_class_and_the_members_of_an_enum_are_named_where_the_application_is_loaded(
    engine: Engine,
) -> None:
    await asked(engine, "dataclass")
    async with viewer_on(engine) as viewers, viewers.browser() as ann:
        page = await field_of(ann)
        assert [each.text for each in page.one("ul", aria_label=f"Fields of {__name__}:Address").all("li")] == [
            "street: str",
            "number: int",
            "tags: list[str] = []",
            "country: str = 'NL'",
        ]
        assert '"street": null' in page.one("textarea").text
        assert '"country": "NL"' in page.one("textarea").text


@pytest.mark.parametrize("key", ["nowhere:Class", f"{__name__}:Nothing", "os:environ", f"{__name__}:TYPES.x", "\x1b:"])
def test_a_type_that_is_not_loaded_is_asked_for_as_json_and_nothing_is_imported(key: str) -> None:
    asked_for = PendingRequest(request_id="q", source_executor_id="desk", request_type="x:Y", response_type=key)
    made = field_for(asked_for, "q", is_loaded=True)
    assert (made.kind, made.parts, made.choices, made.typed) == ("json", [], [], "")


async def test_the_members_of_an_enum_are_chosen_from(engine: Engine) -> None:
    await asked(engine, "enum")
    async with viewer_on(engine) as viewers, viewers.browser() as ann:
        options = (await field_of(ann)).one("select").all("option")
        assert [(each.attributes["value"], each.text) for each in options] == [
            ("", "–"),
            ('"s"', "SMALL"),
            ('"l"', "LARGE"),
        ]


@pytest.mark.parametrize(
    ("actor", "token", "field_id"), [("ann", "a-wrong-token-for-it", "token"), ("", TOKEN, "actor")]
)
async def test_who_signs_in_with_something_wrong_stands_in_the_field_that_is(
    engine: Engine, actor: str, token: str, field_id: str
) -> None:
    async with viewer_on(engine) as viewers, viewers.browser(None) as ann:
        page = read((await ann.sign_in(actor, token)).text)
        for each in ("actor", "token"):
            attributes = page.by_id(each).attributes
            assert ("autofocus" in attributes, attributes.get("aria-invalid")) == (
                (True, "true") if each == field_id else (False, None)
            )


async def test_the_page_of_another_workflows_question_says_which_are_answered_here(engine: Engine) -> None:
    await asked(engine, "bool")

    def another(_: object) -> Workflow:
        return WorkflowBuilder(start_executor=Desk(id="desk"), name="another").build()

    async with answering_viewer(engine, print, another, storage_on(engine)) as viewers, viewers.browser() as ann:
        page = await field_of(ann)
        assert "This viewer answers runs of another only." in page.text
        assert "MODULE:CALLABLE" in page.one("pre", aria_label="Command").text


async def test_wherever_the_command_that_answers_is_shown_it_is_one_that_answers(engine: Engine, cli: Cli) -> None:
    await asked(engine, "bool")
    got.clear()
    how: dict[str, Any] = {"build": desk, "storage": storage_on(engine), "app": f"{__name__}:desk"}
    shown: set[str] = set()
    async with answering_viewer(engine, print, **how) as viewers:
        for actor in ("ann", None):
            async with viewers.browser(actor) as browser:
                shown.add((await field_of(browser)).one("pre", aria_label="Command").text)
                run = await browser.page("/run", run=RUN, workflow=NAME)
                shown.update(row["Answer with"] for row in run.table("Questions").records())
    [command] = shown
    words = shlex.split(command.replace("ANSWER", "true"), comments=True)
    await cli(*words[1:])
    assert got == [True]


def test_the_types_that_are_allowed_mean_nothing_to_a_shell() -> None:
    question = PendingRequest(request_id="q", source_executor_id="desk", request_type="x:Y", response_type=None)
    allowed = ["shop:A", "shop:B; rm -rf ~", "shop:$(x)"]
    words = shlex.split(how_to_answer(StreamId(NAME, RUN), question, app="shop:build", allow=allowed))
    assert [word for before, word in pairwise(words) if before == "--allow"] == allowed
