"""Who may do more than look: whoever has the token, in forms of the viewer's own pages, for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from eventckpt.exit_codes import Failure
from eventckpt.web import places
from eventckpt.web.access import TOKEN as VARIABLE
from eventckpt.web.access import Access, read_token
from eventckpt.web.addresses import FORMS, PAGES

from ..answers.workflows import NAME, RUN, Paid, asked
from ..engines import Engine
from .answering import AT_HOME, HERE, TOKEN, answering_viewer
from .html import read

QUESTION = f"/inbox/question?run={RUN}&workflow={NAME}&request=may-shoes"
EACH = sorted({"/", "/nowhere", "/static/style.css", *PAGES, *FORMS})
CHANGING = ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]


class Passing:
    """A clock that a test drives."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def timestamp(self) -> str:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("path", EACH)
@pytest.mark.parametrize("method", CHANGING)
async def test_where_nobody_answers_nothing_but_reads_is_done(
    viewer: httpx.AsyncClient, method: str, path: str
) -> None:
    assert (await viewer.request(method, path, headers=AT_HOME)).status_code == 403


async def test_where_nobody_answers_nobody_signs_in(viewer: httpx.AsyncClient) -> None:
    assert (await viewer.get("/sign-in")).status_code == 404
    assert "Sign in" not in (await viewer.get("/runs")).text


@pytest.mark.parametrize("signed_in", [False, True], ids=["nobody", "ann"])
async def test_where_somebody_answers_only_their_own_forms_change_anything(engine: Engine, signed_in: bool) -> None:
    await asked(engine)
    paid = Paid()
    async with answering_viewer(engine, paid) as viewers, viewers.browser("ann" if signed_in else None) as browser:
        for method in CHANGING:
            for path in EACH:
                forged = await browser.client.request(method, path)
                assert forged.status_code == 403, (method, path)
                own = await browser.client.request(method, path, headers=AT_HOME)
                form_without_kind = method == "POST" and path in FORMS
                assert own.status_code == (415 if form_without_kind else 404 if path == "/nowhere" else 405), path
        assert (await browser.page("/inbox")).table().rows
    assert paid == []


FORGED = [
    ({}, "nothing"),
    ({"origin": "null"}, "no origin"),
    ({"origin": "https://evil.example"}, "another origin"),
    ({"origin": "https://127.0.0.1"}, "another scheme"),
    ({"origin": "http://127.0.0.1:81"}, "another port"),
    ({"origin": HERE, "sec-fetch-site": "cross-site"}, "another site"),
    ({"origin": HERE, "sec-fetch-site": "same-site"}, "another host"),
    ({"origin": "null", "sec-fetch-site": "none"}, "typed in"),
    ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, "both"),
]


@pytest.mark.parametrize("headers", [each[0] for each in FORGED], ids=[each[1] for each in FORGED])
async def test_a_form_of_another_page_is_refused_whatever_else_is_right(
    engine: Engine, headers: dict[str, str]
) -> None:
    await asked(engine)
    paid = Paid()
    async with answering_viewer(engine, paid) as viewers, viewers.browser() as ann:
        action, fields = await ann.form()
        assert (await ann.post(action, headers, response="true", **fields)).status_code == 403
        assert (await ann.post("/sign-in", headers, actor="ann", token=TOKEN)).status_code == 403
    assert paid == []


@pytest.mark.parametrize("headers", [AT_HOME, {"origin": HERE}, {"sec-fetch-site": "same-origin"}])
async def test_what_a_browser_says_of_the_viewers_own_form_is_enough(engine: Engine, headers: dict[str, str]) -> None:
    await asked(engine)
    paid = Paid()
    async with answering_viewer(engine, paid) as viewers, viewers.browser() as ann:
        action, fields = await ann.form()
        assert (await ann.post(action, headers, response="true", **fields)).status_code == 303
    assert paid == [("shoes", True)]


async def test_a_form_without_its_token_or_with_that_of_another_session_is_refused(engine: Engine) -> None:
    await asked(engine)
    paid = Paid()
    async with (
        answering_viewer(engine, paid) as viewers,
        viewers.browser("ann") as ann,
        viewers.browser("bob") as bob,
    ):
        [(action, fields), (_, others)] = [await each.form() for each in (ann, bob)]
        for given in ({"form": "x"}, {"form_token": ""}, {"form_token": "x" * 43}, {"form_token": "é"}, others):
            assert (await ann.post(action, response="true", **given)).status_code == 403
            assert (await ann.post("/sign-out", **given)).status_code == 403
        assert paid == []
        assert (await ann.post(action, response="true", **fields)).status_code == 303


async def test_a_session_ends_with_its_time_and_when_signed_out_and_is_worth_nothing_then(engine: Engine) -> None:
    await asked(engine)
    paid, clock = Paid(), Passing()
    async with answering_viewer(engine, paid, clock=clock) as viewers, viewers.browser() as ann:
        action, fields = await ann.form()
        [name] = ann.client.cookies
        kept = ann.client.cookies[name]
        assert (await ann.post("/sign-out", **fields)).status_code == 303
        assert not ann.client.cookies
        ann.client.cookies.set(name, kept)
        assert (await ann.post(action, response="true", **fields)).status_code == 403
        ann.client.cookies.clear()

        await ann.sign_in()
        action, fields = await ann.form()
        clock.now += 12 * 3600 - 1
        assert "Sign out" in (await ann.question()).text
        clock.now += 1
        assert "Sign out" not in (await ann.question()).text
        assert (await ann.post(action, response="true", **fields)).status_code == 403
        ann.client.cookies.clear()
        ann.client.cookies.set(name, "made-up")
        assert (await ann.post(action, response="true", **fields)).status_code == 403
    assert paid == []


@pytest.mark.parametrize(
    ("base", "root", "name", "secure", "path"),
    [
        (HERE, "", "eventckpt", False, "/"),
        ("http://127.0.0.1:8321", "/viewer", "eventckpt-8321", False, "/viewer"),
        ("https://shop.example", "", "__Host-eventckpt", True, "/"),
        ("https://shop.example", "/viewer", "__Secure-eventckpt", True, "/viewer"),
    ],
)
async def test_the_cookie_is_no_scripts_no_other_sites_and_no_other_viewers(
    engine: Engine, base: str, root: str, name: str, secure: bool, path: str
) -> None:
    async with answering_viewer(engine, Paid()) as viewers:
        transport = httpx.ASGITransport(viewers.app, root_path=root, client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            said = await client.post(
                f"{root}/sign-in", data={"actor": "ann", "token": TOKEN, "back": "/runs"}, headers=AT_HOME
            )
    assert (said.status_code, said.headers["location"]) == (303, f"{root}/runs")
    cookie, *attributes = said.headers["set-cookie"].split("; ")
    assert cookie.startswith(f"{name}=")
    assert len(cookie) > len(name) + 22
    assert {each.lower() for each in attributes} == {"httponly", "samesite=strict", f"path={path}"} | (
        {"secure"} if secure else set()
    )


@pytest.mark.parametrize(
    "back",
    [
        *("//evil.example", "/\\evil.example", "https://evil.example", "\\\\evil", "", "/a\r\nx: y", "/ü", "runs"),
        *("/../x", "/runs/../x", "/./runs", "/runs/", "/none", "/static/style.css", "/run%73", "/runs/..%2fx", "/"),
        *("/runs#x", "/runs?a=\\b"),
    ],
)
async def test_signing_in_leads_to_no_other_host(engine: Engine, back: str) -> None:
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser(None) as ann:
        assert (await ann.sign_in(back=back)).headers["location"] == "/inbox"
        assert (await ann.page("/sign-in", back=back)).form("/sign-in").fields["back"] == "/inbox"


async def test_from_a_question_one_signs_in_and_comes_back_to_it(engine: Engine) -> None:
    await asked(engine)
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser(None) as ann:
        page = await ann.page(QUESTION)
        assert all(form.attributes["action"] != "/inbox/question" for form in page.all("form"))
        form = (await ann.page(page.links()["Sign in to answer"])).form("/sign-in")
        said = await ann.post(form.action, **{**form.fields, "actor": "ann", "token": TOKEN})
        assert said.headers["location"] == QUESTION
        assert (await ann.page(QUESTION)).form("/inbox/question")


@pytest.mark.parametrize(
    "actor",
    [
        *("", "  ", "a" * 101, "a\nb", "\u202eann", "\u2066ann", "\u200bann", "\ufeffann"),
        *("\u3164", "\u3164ann", "ann\u115f", "a\u034fnn", "\u2800", "\uffa0", "\u17b4", "\u17b5n"),
        *("\u0301", "\u0301\u0302", "\ufe0f", "\U000e0100", "\u180b", "\u00ad", "\U000e0041"),
    ],
    ids=ascii,
)
async def test_who_answers_has_a_name_that_can_be_read(engine: Engine, actor: str) -> None:
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser(None) as ann:
        said = await ann.sign_in(actor)
        assert (said.status_code, "set-cookie" in said.headers) == (400, False)
        assert "1 to 100 printable characters" in read(said.text).one(role="alert").text


@pytest.mark.parametrize(
    "actor", ["ann", "Zoë", "Zoe\u0308", "李雷", "अनु", "김안나", "ann@shop", "\u2764\ufe0f", "-"], ids=ascii
)
async def test_names_of_all_scripts_are_names(engine: Engine, actor: str) -> None:
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser(actor) as browser:
        assert actor in (await browser.page("/inbox")).text


async def test_a_form_that_is_too_large_or_none_is_refused(engine: Engine) -> None:
    await asked(engine)
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser() as ann:
        action, fields = await ann.form()
        assert (await ann.post(action, response='"' + "x" * 65_536, **fields)).status_code == 413
        for body, status in ((b"response=%ff", 400), (b"\xff", 400), (b"a&b", 400), (b"a=1&" * 30, 400)):
            headers = {**AT_HOME, "content-type": "application/x-www-form-urlencoded"}
            assert (await ann.client.post(action, content=body, headers=headers)).status_code == status
        assert (await ann.client.post(action, json=fields, headers=AT_HOME)).status_code == 415


async def test_forms_that_come_slowly_keep_further_ones_waiting_but_no_pages(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(places, "_AT_ONCE", 3)
    await asked(engine)
    gate, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def slowly() -> AsyncGenerator[bytes]:
        begun.release()
        await gate.wait()
        yield b"response=true"

    headers = {**AT_HOME, "content-type": "application/x-www-form-urlencoded"}
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser() as ann, asyncio.TaskGroup() as group:
        action, fields = await ann.form()
        slow = [group.create_task(ann.client.post(action, content=slowly(), headers=headers)) for _ in range(3)]
        for _ in slow:
            await begun.acquire()
        assert (await ann.post(action, response="true", **fields)).status_code == 503
        await ann.question()
        gate.set()
        assert {(await each).status_code for each in slow} == {403}
        assert (await ann.answer()).status_code == 303


async def test_the_token_is_in_no_page_address_line_of_a_log_or_error(
    engine: Engine, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    await asked(engine)
    said: list[str] = []
    async with answering_viewer(engine, Paid()) as viewers, viewers.browser(None) as ann:
        for token in (f"{TOKEN}x", TOKEN):
            answer = await ann.sign_in(token=token)
            said += [answer.text, answer.headers.get("location", "")]
        said += [(await ann.client.get(path)).text for path in ("/sign-in", "/inbox", QUESTION)]
        said += [(await ann.answer()).text, repr(viewers.answering), repr(viewers.answering.access)]
        session_id = next(iter(ann.client.cookies.values()))
        session = viewers.answering.access.session(session_id)
        said.append(repr(session))
        assert session is not None
        assert session.form_token not in repr(session)
    said.append(caplog.text)
    (tmp_path / "token").write_text(TOKEN[:10])
    for given in ("", TOKEN[:10], TOKEN[:10] * 200):
        with pytest.raises(ValueError, match="22 to 1,000 characters") as refused:
            Access(given)
        said.append(str(refused.value))
    with pytest.raises(TypeError) as refused_type:
        Access(TOKEN.encode())  # pyright: ignore[reportArgumentType] - what an application passes
    said.append(str(refused_type.value))
    with pytest.raises(Failure) as failed:
        read_token(str(tmp_path / "token"), environ={})
    said.append(str(failed.value))
    assert not [text for text in said if TOKEN[:10] in text or session_id in text]


def test_the_token_is_that_of_the_file_or_else_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}-of-the-file\n")
    assert read_token(str(file), environ={VARIABLE: TOKEN}) == f"{TOKEN}-of-the-file"
    assert read_token(None, environ={VARIABLE: TOKEN}) == TOKEN
    assert read_token(None, environ={}) is None
    with pytest.raises(Failure, match="--token-file"):
        read_token(str(tmp_path / "none"), environ={})
    with pytest.raises(Failure, match=VARIABLE):
        read_token(None, environ={VARIABLE: "short"})


async def test_however_often_it_was_guessed_whoever_has_the_token_signs_in(engine: Engine) -> None:
    async with (
        answering_viewer(engine, Paid()) as viewers,
        viewers.browser(None) as eve,
        viewers.browser(None) as ann,
    ):
        guessed = [(await eve.sign_in(token=f"guessed-by-somebody-{number}")).status_code for number in range(50)]
        assert set(guessed) == {403}
        assert (await ann.sign_in()).status_code == 303


async def test_where_answers_are_given_at_one_name_nobody_has_a_session_by_another(engine: Engine) -> None:
    """Whichever names this machine has: what a browser keeps for one of them, it sends to every port there."""
    await asked(engine)
    paid = Paid()
    name = "something-secret.localhost"
    async with answering_viewer(engine, paid, at=name) as viewers, viewers.browser(base=f"http://{name}") as ann:
        action, fields = await ann.form()
        for other in (HERE, "http://localhost", "http://[::1]"):
            async with viewers.browser(None, base=other) as eve:
                for key, value in ann.client.cookies.items():
                    eve.client.cookies.set(key, value)
                looked = await eve.page(QUESTION)
                assert not [form for form in looked.all("form") if form.attributes["action"] == action]
                said = await eve.client.get("/sign-in")
                assert (said.status_code, name in said.text) == (403, False)
                assert (await eve.sign_in()).status_code == 403
                assert (await eve.post(action, response="true", **fields)).status_code == 403
        assert paid == []
        assert (await ann.post(action, response="true", **fields)).status_code == 303
