"""The threads of our own: whose they are, what waits for them, and what a cancellation leaves."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from eventckpt.threads import LARGE, in_thread, off_the_loop

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
