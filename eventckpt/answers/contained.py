"""A workflow's code that exits does not take its host along.

asyncio lets a `SystemExit` or `KeyboardInterrupt` of any task through its event loop, which ends there, and whatever
else runs in it with it. A workflow's code runs in tasks that the framework and the application make. While an answer is
acted on, the tasks that are made for it say what they were ended by in an error that stays among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final, TypeAlias, cast

from ..errors import WorkflowExitError
from ..text import described

__all__ = ["contained"]

Kinds: TypeAlias = tuple[type[BaseException], ...]

_kinds: Final[ContextVar[Kinds]] = ContextVar("eventckpt_contained", default=())
"""What is contained of the tasks that are made from here."""


@contextmanager
def contained(*kinds: type[BaseException]) -> Generator[None]:
    """Around an application's code: what it exits by is an error like others, also in a task that is made meanwhile.

    Args:
        kinds: what it might exit by: `SystemExit`; `KeyboardInterrupt` too, where no person's Ctrl-C raises that.

    Raises:
        WorkflowExitError: it exited by one of these.
    """
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    if not isinstance(factory, _Factory):
        factory = _Factory(factory)
        loop.set_task_factory(cast(Any, factory))
    factory.users += 1
    here = (*_kinds.get(), *kinds)
    token = _kinds.set(here)
    try:
        yield
    except here as error:
        raise _told(error) from error
    finally:
        _kinds.reset(token)
        factory.users -= 1
        if not factory.users and cast(object, loop.get_task_factory()) is factory:
            loop.set_task_factory(factory.before)


def _told(error: BaseException) -> WorkflowExitError:
    code = f"({described(error.code)})" if isinstance(error, SystemExit) else ""
    return WorkflowExitError(
        f"The workflow's code raised {type(error).__name__}{code}, which would have ended the whole program. It ended "
        "this run of the workflow only."
    ).with_traceback(error.__traceback__)  # so that it is told where it was raised


class _Factory:
    """Makes the tasks of an event loop as they were made before; those for an answer contain what they end by."""

    def __init__(self, before: Callable[..., Any] | None) -> None:
        self.before = before
        self.users = 0
        """Blocks that need it."""

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        context: Context | None = options.get("context")
        kinds = _kinds.get() if context is None else context.get(_kinds, ())
        if kinds:
            coro = _Contained(coro, kinds)
        return asyncio.Task(coro, loop=loop, **options) if self.before is None else self.before(loop, coro, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are contained, one by one: one that was cancelled before its first is closed as ever."""

    def __init__(self, coro: Coroutine[Any, Any, Any], kinds: Kinds) -> None:
        self._coro = coro
        self._kinds = kinds
        self.__name__: str = getattr(coro, "__name__", type(coro).__name__)
        self.__qualname__: str = getattr(coro, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        try:
            return self._coro.send(value)
        except self._kinds as error:
            raise _told(error) from error

    def throw(self, *thrown: Any) -> Any:
        try:
            return self._coro.throw(*thrown)
        except self._kinds as error:
            raise _told(error) from error

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()
