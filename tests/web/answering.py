"""A viewer on which questions are answered, and somebody at a browser who signed in to it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from eventckpt import CheckpointAudit, EventCheckpointStorage
from eventckpt.web import Answering, create_app

from ..answers.workflows import ALLOWED, NAME, RUN, Pay, refund, storage_on
from ..engines import Engine
from ..storage.removed import audited
from .html import Document, read

TOKEN = "a-token-that-nobody-can-guess"
AT_HOME = {"sec-fetch-site": "same-origin", "origin": "null"}
"""What a browser says of a form of the viewer's own page, which gives no referrer."""
HERE = "http://127.0.0.1"


class Browser:
    """Somebody's browser: its cookies, and what it sends along with forms."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def page(self, path: str, **query: str) -> Document:
        said = await self.client.get(path, params=query or None)
        assert said.status_code == 200, said.text
        return read(said.text)

    async def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        return await self.client.post(path, data=fields, headers=AT_HOME if headers is None else headers)

    async def sign_in(self, actor: str = "ann", token: str = TOKEN, **fields: str) -> httpx.Response:
        return await self.post("/sign-in", actor=actor, token=token, **fields)

    async def question(self, request_id: str = "may-shoes", run_id: str = RUN) -> Document:
        return await self.page("/inbox/question", run=run_id, workflow=NAME, request=request_id)

    async def form(self, request_id: str = "may-shoes", run_id: str = RUN) -> tuple[str, dict[str, str]]:
        """Where the form of a question is sent, and its fields but for the answer."""
        form = (await self.question(request_id, run_id)).form("/inbox/question")
        return form.action, {name: value for name, value in form.fields.items() if name != "response"}

    async def answer(self, response: str = "true", request_id: str = "may-shoes") -> httpx.Response:
        action, fields = await self.form(request_id)
        return await self.post(action, response=response, **fields)


class Viewers:
    """A viewer that answers, and browsers that look at it."""

    def __init__(self, app: Any, answering: Answering) -> None:
        self.app = app
        self.answering = answering

    @asynccontextmanager
    async def browser(self, actor: str | None = "ann", base: str = HERE) -> AsyncGenerator[Browser, None]:
        """Somebody's, signed in where they have a name."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            browser = Browser(client)
            if actor is not None:
                assert (await browser.sign_in(actor)).status_code == 303
            yield browser


@asynccontextmanager
async def answering_viewer(
    engine: Engine,
    pay: Pay,
    build: Callable[[Pay], Any] = refund,
    storage: EventCheckpointStorage | None = None,
    at: str | None = None,
    **how: Any,
) -> AsyncGenerator[Viewers, None]:
    """A viewer over other store objects, as another process has it; `at` as `create_app` takes `answers_at`."""
    used = storage if storage is not None else storage_on(engine)
    async with Answering(used, lambda: build(pay), token=TOKEN, **{"wait": 0.0, **how}) as answering:
        audit = CheckpointAudit(audited(engine), allowed_checkpoint_types=ALLOWED)
        yield Viewers(create_app(audit, answering=answering, answers_at=at), answering)
