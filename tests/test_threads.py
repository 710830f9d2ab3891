"""The threads of our own: whose they are, what waits for them, and what a cancellation leaves."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from eventckpt.audit.diff import differences
from eventckpt.codec import CheckpointCodec
from eventckpt.codec.tree_reader import read_tree, read_trees
from eventckpt.threads import LARGE, DroppedError, Lane, apart, in_thread, off_the_loop, stop_if_dropped
from eventckpt.web.app import _while_waited_for
from eventckpt.web.page import Page

from .storage.checkpoints import checkpoint

_MANY = 50  # more than there are threads


async def test_what_goes_through_many_bytes_is_done_in_a_thread_of_our_own_and_what_goes_through_few_is_not() -> None:
    assert await off_the_loop(LARGE - 1, threading.current_thread) is threading.current_thread()
    assert (await off_the_loop(LARGE, threading.current_thread)).name.startswith("eventckpt")


async def test_work_does_not_wait_for_what_the_application_does_in_the_executor_of_the_loop() -> None:
    over = threading.Event()
    jobs = [asyncio.create_task(asyncio.to_thread(over.wait)) for _ in range(_MANY)]
    try:
        assert await asyncio.wait_for(in_thread(len, "some"), 60) == 4
        assert not any(job.done() for job in jobs)
    finally:
        over.set()
        await asyncio.gather(*jobs)


async def test_where_all_threads_are_at_work_what_comes_next_waits_and_does_not_fail() -> None:
    over = threading.Event()
    waiting = [asyncio.create_task(in_thread(over.wait)) for _ in range(_MANY)]
    last = asyncio.create_task(in_thread(len, "some"))
    done, _ = await asyncio.wait([*waiting, last], timeout=0.05)
    assert not done
    over.set()
    assert await last == 4
    await asyncio.gather(*waiting)


async def test_work_that_is_cancelled_before_its_turn_is_not_begun_and_what_was_begun_goes_on_to_its_end() -> None:
    over, begun, ended = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        over.wait()
        ended.release()

    tasks = [asyncio.create_task(in_thread(wait)) for _ in range(_MANY)]
    await asyncio.to_thread(begun.acquire)
    for task in tasks:
        task.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*tasks, return_exceptions=True)
    )
    over.set()
    assert await in_thread(len, "some") == 4
    await asyncio.to_thread(ended.acquire)
    started = 1
    while begun.acquire(blocking=False):
        started += 1
    assert started < _MANY


async def test_an_application_that_runs_a_loop_in_its_work_does_not_wait_for_the_threads_that_it_holds() -> None:
    everyone = threading.Barrier(4)

    def load_another() -> int:
        everyone.wait()
        return asyncio.run(in_thread(len, "some"))

    assert await asyncio.wait_for(asyncio.gather(*(in_thread(load_another) for _ in range(4))), 60) == [4] * 4


async def test_work_runs_in_the_context_of_its_task_and_its_error_is_raised_there() -> None:
    name: ContextVar[str] = ContextVar("name", default="none")
    name.set("of the task")
    assert await in_thread(name.get) == "of the task"
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


def _in_a_child(sent: multiprocessing.connection.Connection) -> None:
    sent.send(asyncio.run(in_thread(len, "some")))


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked off on Windows")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking where there are threads, which is the subject
async def test_a_process_that_was_forked_off_has_threads_of_its_own() -> None:
    await in_thread(len, "some")
    forking = multiprocessing.get_context("fork")
    received, sent = forking.Pipe(duplex=False)
    child = forking.Process(target=_in_a_child, args=(sent,))
    child.start()
    assert await asyncio.to_thread(received.poll, 60)
    assert received.recv() == 4
    child.join()


def test_where_the_interpreter_is_exiting_the_work_is_done_all_the_same() -> None:
    code = (
        "import asyncio, atexit; from eventckpt.threads import in_thread\n"
        "asyncio.run(in_thread(len, 'some'))\n"
        "atexit.register(lambda: print(asyncio.run(in_thread(len, 'more'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


def test_a_process_ends_though_its_threads_were_at_work() -> None:
    code = "import asyncio; from eventckpt.threads import in_thread; print(asyncio.run(in_thread(len, 'some')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


async def test_a_lane_has_threads_of_its_own_whatever_the_others_do() -> None:
    over = threading.Event()
    others = [asyncio.create_task(in_thread(over.wait)) for _ in range(_MANY)]
    with apart(Lane("own", 1)):
        own = [asyncio.create_task(in_thread(over.wait)) for _ in range(_MANY)]
    try:
        with apart(Lane("another", 1)):
            name = (await asyncio.wait_for(in_thread(threading.current_thread), 60)).name
        assert name.startswith("another")
        assert not any(job.done() for job in (*others, *own))
    finally:
        over.set()
        await asyncio.gather(*others, *own)


async def test_what_is_cancelled_in_a_lane_is_over_when_its_thread_has_ended() -> None:
    over, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        over.wait()
        ended.set()

    with apart(Lane("seen to its end", 1)):
        task = asyncio.create_task(in_thread(wait))
        behind = asyncio.create_task(in_thread(wait))
    await asyncio.to_thread(begun.wait)
    behind.cancel()
    assert isinstance((await asyncio.gather(behind, return_exceptions=True))[0], asyncio.CancelledError)
    task.cancel()
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    over.set()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert ended.is_set()


def _raw(first: int) -> bytes:
    return CheckpointCodec().encode(checkpoint(state={"rows": [{"a": [first, {"b": n}]} for n in range(5_000)]}))


RAW = _raw(0)
LONG: dict[str, Callable[[], object]] = {
    "a tree that is read": lambda: read_tree(RAW, lambda _: True),
    "trees that are compared": lambda: read_trees(RAW, _raw(1), lambda _: True),
    "differences": lambda: list(differences({"a": list(range(5_000))}, {"a": list(range(1, 5_001))})),
    "lines": lambda: Page("", "", lines=lambda: [("row", {"n": n}) for n in range(10)]).as_lines(),
    "a page": lambda: list(_while_waited_for(map(str, range(10)))),
    "what asks by itself": stop_if_dropped,
}


@pytest.mark.parametrize("work", LONG.values(), ids=LONG)
async def test_long_work_stops_where_nobody_waits_for_it(work: Callable[[], object]) -> None:
    begun, cancelled, ended = threading.Event(), threading.Event(), threading.Event()
    met: list[type[BaseException] | None] = []

    def working() -> None:
        begun.set()
        cancelled.wait()
        try:
            work()
            met.append(None)
        except BaseException as error:
            met.append(type(error))
            raise
        finally:
            ended.set()

    task = asyncio.create_task(in_thread(working))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.wait([task])
    cancelled.set()
    await asyncio.to_thread(ended.wait)
    assert met == [DroppedError]
