"""What the worker and its tools print of a hostile store: its characters are shown, never obeyed."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from eventckpt.cli.program import app as eventckpt
from eventckpt.stores.change_feed import EVERYTHING, FeedRange
from projections import Lease, Parked, open_engine

from .commands import invoked, place, running
from .rig import Rig, event

NAMES = {
    "markup": "a[/x]b",
    "style": "[bold red]x[/]",
    "escape": "\x1b]0;owned\x07\x1b[2J",
    "lines": "x\r\nforged: line\x85\u2028",
    "direction": "\u202e\u2066x",
    "control": "\x7f\x9b31m",
    "emoji": ":smile: [link=file:///etc/passwd]x",
}
TOOLS = (
    ("status",), ("status", "--json"), ("compare",), ("compare", "--json"), ("rebuild",), ("unpark",), ("reset",),
)  # fmt: skip


async def hostile_store(rig: Rig, *, owned: bool) -> str:
    """A store in which everything that has a name has one of these; where it is."""
    leases = open_engine(rig.writer.store).leases("eventckpt-latest")
    every = "".join(NAMES.values())
    for name in NAMES.values():
        new = event(f"r{name}", 1, workflow=f"w{name}")
        await rig.writer.store.append(new)
        await leases.park(
            Parked(range="-FF", continuation=None, event=new, error=f"E{name}", attempts=1, parked_at=name)
        )
    await leases.create(
        Lease(
            range=EVERYTHING,
            owner=every if owned else None,
            wanted_by=every,
            error=every,
            attempts=3,
            continuation=f'"9{every}"',
        )
    )
    await leases.doubt(every, every)
    return place(rig)[0]


@pytest.mark.parametrize("words", TOOLS, ids=" ".join)
async def test_a_stored_name_is_shown_and_not_obeyed(sqlite_rig: Rig, words: tuple[str, ...]) -> None:
    store = await hostile_store(sqlite_rig, owned=words[0] != "reset")  # which would watch the owner for a minute
    # In this process, on a thread: a command has an event loop of its own.
    code, output, errors = await asyncio.to_thread(invoked, *words, "--store", store)
    assert code == (1 if words[0] == "compare" else 0), errors
    assert output + errors
    for line in (output + errors).split("\n"):
        assert line.isprintable(), ascii(line)
    if words == ("compare", "--json"):
        assert {each["run"] for each in json.loads(output)} == {f"r{name}" for name in NAMES.values()}


async def test_a_name_of_millions_of_characters_is_cut_by_both_programs(sqlite_rig: Rig) -> None:
    await sqlite_rig.writer.store.append(event("r" * 5_000_000, 1, workflow="w" * 5_000_000))
    store = place(sqlite_rig)[0]
    code, output, errors = await asyncio.to_thread(invoked, "compare", "--store", store)
    assert code == 1
    looked = await asyncio.to_thread(
        CliRunner().invoke, eventckpt, ["verify", "--all", "--projection", "--store", store]
    )
    assert looked.exit_code == 1
    for said in (output + errors, looked.output):
        assert "rrrr" in said
        assert "…" in said
        assert len(said) < 10_000


async def test_of_more_leases_than_can_be_meant_the_first_are_asked_about_and_the_number_is_said(
    sqlite_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.standing.ASKED", 2)
    await sqlite_rig.writer.store.append(event("r", 1))
    leases = open_engine(sqlite_rig.writer.store).leases("eventckpt-latest")
    for number in range(5):
        await leases.create(Lease(range=FeedRange(f"{number:02}", f"{number + 1:02}")))
    store = place(sqlite_rig)[0]
    code, output, errors = await asyncio.to_thread(invoked, "status", "--store", store)
    assert code == 0
    assert "has 5 ranges" in errors
    assert ("01-02" in output, "02-03" in output) == (True, False)
    code, output, _ = await asyncio.to_thread(invoked, "status", "--json", "--store", store)
    assert [each["lag"] is None for each in json.loads(output)["ranges"]] == [False, False, True, True, True]


async def test_a_worker_logs_a_stored_name_harmlessly(sqlite_rig: Rig) -> None:
    for name in NAMES.values():
        await sqlite_rig.writer.store.append(event(f"r{name}", 1, workflow=f"w{name}"))
    leases = open_engine(sqlite_rig.writer.store).leases("eventckpt-latest")
    await leases.create(Lease(range=EVERYTHING, continuation=NAMES["escape"]))
    async with running(sqlite_rig, "--log-level", "DEBUG") as worker:
        await worker.until("/healthz", lambda code, body: code == 200 and json.loads(body)["ranges"] != [])
        for path in ("/healthz", "/livez", "/metrics"):
            assert all(line.isprintable() for line in (await worker.page(path))[1].splitlines())
        assert await worker.terminated() == 0
        for line in worker.lines:
            assert line.isprintable(), ascii(line)
        for line in worker.lines[1:]:
            assert set(json.loads(line)) >= {"time", "level", "logger", "message"}
