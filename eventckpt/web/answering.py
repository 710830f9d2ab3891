"""Answers that are given on a page, and the runs that go on with them: in the background, whether the page that they
were given on stays open or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, Self

from .. import settings
from ..answers.contained import contained
from ..answers.programs import WorkflowFailed, built_by, carried_out
from ..audit import ANY_TYPE
from ..clock import SYSTEM_CLOCK, Clock
from ..closing import close_after
from ..errors import CheckpointStoreError, StoreReplacedError
from ..events import StreamId
from ..exit_codes import STORE, USAGE, Failure, exit_code
from ..location import load_app, open_store
from ..log import logger_of
from ..lru import Lru
from ..storage import EventCheckpointStorage
from ..storage.claiming import LONGEST_CLAIM
from ..stores import head_of
from ..text import safe
from .access import Access, Session
from .opened import Opened

__all__ = ["Answering", "Attempt", "answering_at"]

logger: Final = logger_of("eventckpt.web")

_MOST: Final = 8
_REMEMBERED: Final = 1_000  # attempts


class _Asked(NamedTuple):
    """A request of a run."""

    stream: StreamId
    request_id: str


class Attempt:
    """An answer that was given here, and what came of it.

    Args:
        session: of whoever gave it.
        given_at: when, ISO 8601.
        task: acts on it.
    """

    def __init__(self, session: Session, given_at: str, task: asyncio.Task[None]) -> None:
        self.actor: str = session.actor
        self.given_at: str = given_at
        self.is_told: bool = False
        """Whether whoever gave it has heard of what went wrong, if anything did."""
        self._form_token = session.form_token
        self._task = task

    @property
    def is_going_on(self) -> bool:
        """Whether the run goes on with it still."""
        return not self._task.done()

    @property
    def has_failed(self) -> bool:
        """Whether it ended, and not as it was meant to."""
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)

    def is_of(self, task: asyncio.Task[None]) -> bool:
        """Whether this is what a task acts on."""
        return self._task is task

    def problem(self, session: Session | None, answered_by: str | None) -> str | None:
        """What is to be said of it to somebody: what the run came to, if it failed; and to whoever gave it, that
        nothing was done, unless they know.

        Args:
            session: of whoever looks.
            answered_by: who has answered the question by now, where somebody has.
        """
        if session is None or self.is_going_on:
            return None
        if self._task.cancelled():
            said, is_of_run = "It was interrupted: what the run has on record counts.", True
        elif (error := self._task.exception()) is not None:
            said = safe(error) if exit_code(error) is not None else "Something went wrong in the viewer."
            is_of_run = exit_code(error) is None or (isinstance(error, WorkflowFailed) and error.is_of_run)
        else:
            return None
        if is_of_run:
            return said if answered_by in (None, self.actor) else None
        return said if session.form_token == self._form_token and not self.is_told else None


class Answering:
    """Gives answers for those who signed in: `async with Answering(…) as answering:`, around the viewer. At the end
    what still goes on is cancelled, and the claims are released; such a run can be gone on with anywhere.

    Args:
        storage: that of the application, with the types that its checkpoints hold. It is not closed.
        build: builds the workflow, a new one each time.
        token: what signs in whoever may answer: 22 characters or more, which nobody can guess.
        ttl: seconds for which a claim is held without a sign of life.
        wait: seconds that an answer waits for whoever else has the run.
        patience: seconds that a page waits for what becomes of its answer, before it says that the run goes on.
        most: answers that are acted on at once.
        app: how the command line names what builds the workflow, `module:callable`, for the commands that are shown.
        renew: gives the storage of another store object, where the file or container under this one was gone, or
            replaced; None: then no answer is given any more.
        clock: the time that sessions end by; for tests.

    Raises:
        TypeError, ValueError: an argument is not of this kind.
    """

    def __init__(
        self,
        storage: EventCheckpointStorage,
        build: Callable[[], object],
        *,
        token: str,
        ttl: float = 60.0,
        wait: float = 5.0,
        patience: float = 10.0,
        most: int = _MOST,
        app: str = "MODULE:CALLABLE",
        renew: Callable[[], Awaitable[EventCheckpointStorage]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        settings.instance("storage", storage, EventCheckpointStorage, what="an EventCheckpointStorage")
        settings.function("build", build)
        settings.number("ttl", ttl, most=LONGEST_CLAIM)
        settings.number("wait", wait, most=LONGEST_CLAIM, zero=True)
        settings.number("patience", patience, zero=True)
        settings.whole_number("most", most, least=1)
        settings.text("app", app)
        if renew is not None:
            settings.function("renew", renew)
        self.app: Final[str] = app
        self.allowed_checkpoint_types: Final = storage.allowed_checkpoint_types
        self.access: Final = Access(token, clock=clock)
        self.workflow_name: str = ""
        """Of the runs that it answers; known once it is entered."""
        self._clock = clock
        self._storage = storage
        self._renew = renew
        self._renewing = asyncio.Lock()
        self._build = build
        self._ttl, self._wait, self._patience, self._most = ttl, wait, patience, most
        self._attempts: Lru[_Asked, Attempt] = Lru(_REMEMBERED)
        self._going_on: dict[tuple[_Asked, str, str], asyncio.Task[None]] = {}
        """By who said what, so that the same said twice is one answer."""

    async def __aenter__(self) -> Self:
        self.workflow_name = (await self._built()).name
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await close_after(error, self._ended)

    async def _ended(self) -> None:
        tasks = list(self._going_on.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def attempt(self, stream: StreamId, request_id: str) -> Attempt | None:
        """The answer to a request that was given here last; None: none was, as far as is remembered."""
        return self._attempts.get(_Asked(stream, request_id))

    async def give(
        self,
        stream: StreamId,
        request_id: str,
        response: object,
        *,
        session: Session,
        earlier: Mapping[str, object] | None = None,
    ) -> None:
        """Answer a request, and go on with its run; this returns when that has come to its end or to its next question,
        or before, where it takes long.

        Args:
            stream: the run.
            request_id: which question of it.
            response: as JSON gives it.
            session: of whoever answers.
            earlier: what else is given again, by the request: what a functional workflow was answered before.

        Raises:
            Failure: as many answers are acted on as may be; the run is of another workflow; see also `carried_out`.
            RequestNotPendingError, ResponseTypeError, RunClaimedError: nothing was done.
        """
        if stream.workflow_name != self.workflow_name:
            raise Failure(
                USAGE,
                f"Run {stream.run_id!r} is of workflow {stream.workflow_name!r}, and this viewer was given "
                f"{self.workflow_name!r} to answer with. Nothing was done.",
            )
        asked = _Asked(stream, request_id)
        responses = {**(earlier or {}), request_id: response}
        key = (asked, session.form_token, repr(responses))
        task = self._going_on.get(key)
        if task is None:
            if len(self._going_on) >= self._most:
                raise Failure(STORE, f"{self._most} answers are acted on already: try again. Nothing was done.")
            task = asyncio.create_task(self._carried_out(stream, responses, session.actor))
            self._going_on[key] = task
            task.add_done_callback(partial(self._is_over, key))
            before = self.attempt(stream, request_id)
            if before is None or not before.is_going_on:
                self._attempts.put(asked, Attempt(session, self._clock.timestamp(), task))
        await asyncio.wait({task}, timeout=self._patience)
        if task.done() and not task.cancelled():
            if (attempt := self.attempt(stream, request_id)) is not None and attempt.is_of(task):
                attempt.is_told = True
            task.result()

    async def _carried_out(self, stream: StreamId, responses: Mapping[str, object], actor: str) -> None:
        storage = await self._there(stream)
        with contained(SystemExit, KeyboardInterrupt):  # which end the viewer by a signal, and by no exception
            await carried_out(
                storage,
                stream,
                responses,
                workflow=await self._built(),
                actor=actor,
                ttl=self._ttl,
                wait=self._wait,
            )

    async def _there(self, stream: StreamId) -> EventCheckpointStorage:
        """The storage of the store as it is there now. Nothing was done yet, so that another may take its place.

        Raises:
            Failure: the store is gone, or does not serve.
        """
        storage = self._storage
        try:
            try:
                await head_of(storage.store, stream)
            except StoreReplacedError:
                if self._renew is None:
                    raise
                async with self._renewing:
                    if self._storage is storage:
                        self._storage = await self._renew()
        except CheckpointStoreError as error:
            raise Failure(STORE, f"{error} Nothing was done.") from error
        return self._storage

    async def _built(self) -> Any:
        return await built_by(self._build, "The application")

    def _is_over(self, key: tuple[_Asked, str, str], task: asyncio.Task[None]) -> None:
        del self._going_on[key]
        if not task.cancelled() and (error := task.exception()) is not None and exit_code(error) is None:
            logger.error("An answer to run %r failed", key[0].stream.run_id, exc_info=error)


@asynccontextmanager
async def answering_at(
    where: str | None, *, app: str, allow: Sequence[str], token: str
) -> AsyncGenerator[Answering, None]:
    """What answers the runs of a store, open until the block ends; opened anew where it was gone.

    Args:
        where: the store, as `open_store` takes it; it must be there.
        app: what builds the workflow, `module:callable`.
        allow: types that the application's storages allow.
        token: see `Answering`.

    Raises:
        LocationError, CheckpointStoreError: see `load_app` and `open_store`.
        Failure: the application gives no workflow, or `allow` is of no use.
    """
    if ANY_TYPE in allow:
        raise Failure(USAGE, "--allow: no application allows all types; name those that its storages allow.")
    build = load_app(app)
    async with Opened(partial(open_store, where, must_exist=True)) as opened:

        async def storage() -> EventCheckpointStorage:
            return EventCheckpointStorage(await opened.renewed(), allowed_checkpoint_types=list(allow))

        try:
            first = await storage()
        except (TypeError, ValueError) as error:
            raise Failure(USAGE, f"--allow: {error}") from error
        async with Answering(first, build, token=token, app=app, renew=storage) as answering:
            yield answering
