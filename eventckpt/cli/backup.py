"""Commands that take care of the file of a SQLite store: backup, restore."""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from ..audit import CheckpointAudit, Verdict
from ..rendering.words import problem_text
from ..stores.sqlite import SqliteEventStore
from ..stores.sqlite.backup import (
    StoreContent,
    belongings,
    copy_beside,
    copy_store,
    finish,
    give_name,
    look_over,
    replace_store,
)
from .options import Yes
from .output import Output
from .session import FOUND_WRONG, STORE, USAGE, Failure, Session, command

__all__ = ["backup", "commands", "restore", "to_its_end"]

commands: Final = typer.Typer()

_T = TypeVar("_T")

_Quick = Annotated[bool, typer.Option("--quick", help="Check pages and schema only, and not what verify --all checks.")]
_COSMOS: Final = (
    "{} is for SQLite files. Cosmos DB is backed up by the service (docs/cosmos.md, backups); export writes runs of "
    "any store into a file."
)


@command(commands, "backup", of_runs="a backup has the whole file, sessions and runs.")
async def backup(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The file for the copy.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE, once the new copy is whole.")] = False,
    quick: _Quick = False,
) -> None:
    """Copy a SQLite store while others write to it, check the copy, and give it its name once it is whole."""
    began = time.monotonic()
    store, file = _store_of(session, "backup"), file.absolute()
    if not store.is_file():
        raise Failure(STORE, f"There is no store at {store}. Check the path, or EVENTCKPT_STORE.")
    _refuse_same(store, file)
    if file.exists() and not (force and file.is_file()):
        raise Failure(STORE, f"{file} is there already, and was left as it is. Give another name, or --force.")
    if beside := belongings(file):
        raise Failure(
            STORE,
            f"{beside[0]} is there: SQLite would take it for a part of the copy. {file} is a store in use, or was "
            "one; give another name.",
        )
    with copy_beside(file) as copy:
        content = await _copied(session.out, store, copy, quick=quick, is_live=True)
        await _in_thread(lambda _: finish(copy, like=store, in_its_place=False, as_another=False))
        try:
            await to_its_end(partial(give_name, copy, file, replace=force))
        except FileExistsError as error:
            raise Failure(STORE, f"{file} was made by somebody else meanwhile, and was left as it is.") from error
        except OSError as error:
            raise Failure(STORE, f"{file} cannot be made: {error}") from error
    seconds = time.monotonic() - began
    session.out.record("backup", {"file": str(file), **content._asdict(), "seconds": round(seconds, 3)})
    session.out.line(f"{_amount(content)} copied to {file} in {seconds:.1f} s, {_checked(quick)}")


@command(commands, "restore", of_runs="a backup has the whole file, sessions and runs.")
async def restore(
    session: Session,
    file: Annotated[Path, typer.Argument(help="What backup wrote.")],
    yes: Yes = False,
    quick: _Quick = False,
) -> None:
    """Put a checked copy in the place of a SQLite store that no process has open; the old one is set aside."""
    began = time.monotonic()
    store, file = _store_of(session, "restore"), file.absolute()
    _refuse_same(store, file)
    if not file.is_file():
        raise Failure(STORE, f"There is no file {file} to restore from.")
    if not store.parent.is_dir() or (store.exists() and not store.is_file()):
        raise Failure(STORE, f"{store} can hold no store: its folder is missing, or it is a folder or a device itself.")
    with copy_beside(store) as copy:
        content = await _copied(session.out, file, copy, quick=quick, is_live=False)
        if not yes:
            _confirm(session.out, f"Replace the store {store} by {_amount(content)} from {file}")
        there = store.exists()
        like = store if there else file
        await _in_thread(lambda _: finish(copy, like=like, in_its_place=there, as_another=True))
        aside = await to_its_end(partial(replace_store, copy, store, session.out.note))
    seconds = time.monotonic() - began
    kept = [str(path) for path in aside]
    session.out.record(
        "restored",
        {
            "file": str(file),
            "store": str(store),
            **content._asdict(),
            "set_aside": kept,
            "seconds": round(seconds, 3),
        },
    )
    session.out.line(f"{_amount(content)} restored to {store} in {seconds:.1f} s, {_checked(quick)}")
    for path in kept:
        session.out.line(f"set aside: {path}")


def _store_of(session: Session, name: str) -> Path:
    """The file of the store; where it is a link, the file that this leads to, beside which SQLite has the others."""
    return _led_to(session.sqlite_file(_COSMOS.format(name)))


def _led_to(path: Path) -> Path:
    """Where links lead to from a path.

    Raises:
        Failure: to themselves.
    """
    try:
        path.stat()  # `resolve` is content with links that lead to themselves, from Python 3.13 on
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Failure(STORE, f"{path} leads nowhere: {error}") from error
    return path.resolve()


def _refuse_same(store: Path, file: Path) -> None:
    parts = {store, *(store.with_name(store.name + suffix) for suffix in ("-wal", "-shm", "-journal"))}
    if _led_to(file) in parts or (file.exists() and store.exists() and file.samefile(store)):
        raise Failure(USAGE, f"{file} is the store itself, or belongs to it. Give another file.")


async def _copied(out: Output, source: Path, copy: Path, *, quick: bool, is_live: bool) -> StoreContent:
    """Copy a store, and check the copy."""
    with out.progress("pages copied") as done:
        await _in_thread(lambda going_on: copy_store(source, copy, partial(_step, going_on, done), is_live=is_live))
    content = await _in_thread(lambda _: look_over(copy, source))
    if not quick:
        await _verify(out, copy, source)
    return content


def _step(going_on: Callable[[], None], done: Callable[[int], None], left: int, pages: int) -> None:
    going_on()
    done(pages - left)


async def _verify(out: Output, copy: Path, named: Path) -> None:
    bad = 0
    async with SqliteEventStore(copy) as store:
        with out.progress("events verified") as done:
            events = 0
            for audit in (CheckpointAudit(store), CheckpointAudit(store, turns=True)):
                async with aclosing(audit.verify_all()) as verdicts:
                    async for verdict in verdicts:
                        events += verdict.events
                        done(events)
                        bad += _is_reported(out, verdict, audit.kind.stream)
    if bad:
        raise Failure(
            FOUND_WRONG,
            f"{bad:,} runs or sessions of {named} are NOT what was written, and nothing was kept. See verify; --quick "
            "copies what is there as it is.",
        )


def _is_reported(out: Output, verdict: Verdict, what: str) -> bool:
    """Whether something is wrong, which is shown. What is of a newer version is copied as it is."""
    problems = [problem for problem in verdict.problems if problem.why != "newer"]
    for problem in problems:
        out.line(problem_text(verdict.stream, problem, what), style="red")
    return bool(problems)


async def _in_thread(work: Callable[[Callable[[], None]], _T]) -> _T:
    """What `work` gives, in a thread. It calls what it is given between its steps; that ends it once nobody waits.
    Who is cancelled waits for the end, so that nothing is taken away under the work."""
    stopped = threading.Event()

    def going_on() -> None:
        if stopped.is_set():
            raise InterruptedError("nobody waits for it any more")

    doing = asyncio.ensure_future(asyncio.to_thread(work, going_on))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({doing})
        doing.exception()  # that of its end, which nobody needs
        raise


async def to_its_end(work: Callable[[], _T]) -> _T:
    """What `work` gives, in a thread. It is the last and short step, which is not left half way: an interrupt comes too
    late, and what was done is said."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    while not doing.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({doing})
    return doing.result()


def _confirm(out: Output, what: str) -> None:
    if not sys.stdin.isatty() or out.as_json:
        raise Failure(USAGE, f"{what}: add --yes to do it without being asked.")
    typer.confirm(f"{what}?", abort=True)


def _amount(content: StoreContent) -> str:
    of_sessions = f" and {content.session_events:,} of {content.sessions:,} sessions" if content.sessions else ""
    return f"{content.events:,} events of {content.runs:,} runs{of_sessions}, up to position {content.position:,},"


def _checked(quick: bool) -> str:
    return "its pages and schema checked." if quick else "each event verified."
