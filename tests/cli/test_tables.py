"""Rows in columns: what gives way first where a terminal is narrow, and that what is shortened still names its run."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO, TextIOWrapper
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from eventckpt.audit.resolve import run_named
from eventckpt.cli.output import Output, Screen
from eventckpt.cli.tables import Column, aligned, cut, fitted, fitting, short_ids
from eventckpt.events import StreamId
from eventckpt.rendering.times import ago, in_utc

from ..engines import Engine
from ..memory_engine.data import Data
from ..memory_engine.event_store import MemoryEventStore
from .conftest import WORKFLOW, Cli, checkpoint, order_run
from .golden_texts import HOSTILE, NOW

COLUMNS = [
    Column("id", holds="id"),
    Column("number", right=True, rank=3),
    Column("status", holds="text"),
    Column("about", holds="text", rank=1),
    Column("actor", holds="text", rank=2),
]
ROWS = [[f"0f8fad5b-d9cb-469f-a165-7086772895{n:02}", "12,345", "waiting", "what it waits for", "shop"] for n in (1, 2)]

texts = st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE))
ids = st.one_of(texts.filter(bool), st.integers(0, 10**12).map(lambda n: f"order-2026-11-{n:012}"))


def test_ids_are_shortened_first_then_columns_are_left_out_by_their_rank() -> None:
    heads = [[COLUMNS[place].head for place in fitting(COLUMNS, ROWS, width)] for width in (200, 60, 50, 36, 1)]
    assert heads[0] == heads[1] == [column.head for column in COLUMNS]
    assert heads[2] == ["id", "status", "about", "actor"]
    assert heads[3] == ["id", "status"] or heads[3] == ["id", "status", "about"]
    assert heads[4] == ["id", "status"]
    assert fitting(COLUMNS, ROWS, 200)[0] == len(ROWS[0][0])
    assert fitting(COLUMNS, ROWS, 60)[0] < len(ROWS[0][0])


@given(st.lists(st.tuples(ids, texts, texts, texts, texts), min_size=1, max_size=8), st.integers(20, 250))
def test_whatever_the_cells_hold_a_row_is_one_line_that_fits(rows: list[tuple[str, ...]], width: int) -> None:
    columns = [
        Column(each.head, holds="id" if not place else "text", rank=each.rank) for place, each in enumerate(COLUMNS)
    ]
    chosen = fitting(columns, rows, width)
    kept = [[row[place] for place in chosen] for row in rows]
    lines = [
        str(line) for line in fitted([columns[place] for place in chosen], list(chosen.values()), kept, heads=True)
    ]
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() and cell_len(line) <= width for line in lines)
    assert [str(line) for line in aligned(columns, rows, heads=False)] != [], "a pipe has them all"


@given(texts, st.integers(1, 60))
def test_a_text_that_is_cut_is_no_wider_than_its_column(text: str, width: int) -> None:
    shown = "".join(mark for mark in text if mark.isprintable())
    assert cell_len(cut(shown, width)) <= width
    assert cut(shown, 1_000) == shown


@given(st.lists(ids, min_size=1, max_size=10, unique=True), st.integers(9, 60))
def test_a_shortened_id_is_the_beginning_and_the_end_of_what_it_was_made_from(names: list[str], width: int) -> None:
    for name, text in zip(names, short_ids(names, width), strict=True):
        begin, _, end = text.rpartition("…")
        if name.isprintable():  # what is spelled out is for looking at
            assert text == name or (name.startswith(begin) and name.endswith(end))
            assert cell_len(text) <= max(width, cell_len(name))
        if name.isprintable() and text != name and not end:
            assert [each for each in names if each.startswith(begin)] == [name]


similar = st.lists(
    st.one_of(
        st.text("ab…", min_size=1, max_size=30),
        st.builds("order-{}-{}-{}".format, st.text("12", max_size=12), st.text("xy", max_size=9), st.text("12")),
    ),
    min_size=1,
    max_size=12,
    unique=True,
)


class _Ids(MemoryEventStore):
    """A store that has runs with these ids, as far as looking for them goes."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(Data())
        self._names = names

    async def streams(
        self, *, workflow_name: str | None = None, prefix: str = "", emptied: bool = True
    ) -> AsyncGenerator[StreamId, None]:
        for name in self._names:
            if name.startswith(prefix):
                yield StreamId(workflow_name or WORKFLOW, name)


@given(similar, st.integers(1, 60))
async def test_what_is_shown_for_an_id_is_one_of_its_own_and_means_it_at_any_width(
    names: list[str], width: int
) -> None:
    shown = short_ids(names, width)
    assert len({*shown}) == len(names)
    store = _Ids(names)
    for name, text in zip(names, shown, strict=True):
        assert (await run_named(store, text)).run_id == name


def test_ids_that_differ_in_the_middle_are_told_apart_and_fit_where_they_can() -> None:
    names = [f"order-2026-11-27-{where}-{n:018}{end}" for where in ("emea", "apac") for n in (0,) for end in (3, 4)]
    for width in (40, 60, 80, 120):
        rows = [[name, "open"] for name in names]
        widths = list(fitting([COLUMNS[0], COLUMNS[2]], rows, width).values())
        lines = [str(line) for line in fitted([COLUMNS[0], COLUMNS[2]], widths, rows, heads=False)]
        assert len({*lines}) == len(names)
        assert all(cell_len(line) <= width for line in lines)


def test_ids_that_begin_alike_are_told_apart_by_their_ends() -> None:
    names = [f"order-2026-11-27-{n:06}" for n in range(100)]
    shown = short_ids(names, 14)
    assert len({*shown}) == len(names)
    assert all(text.startswith("order-") and "…" in text for text in shown)
    uuids = [f"{n:08x}-d9cb-469f-a165-70867728950e" for n in range(1, 50)]
    assert short_ids(uuids, 9) == [f"{each[:8]}…" for each in uuids]


async def test_every_id_that_a_listing_has_shortened_is_taken_by_the_commands(engine: Engine, cli: Cli) -> None:
    for name in ("order-2026-11-27-tenant-000001", "order-2026-11-27-tenant-000002", "order"):
        await order_run(engine, name, steps=2)
    lines = (await cli("runs", screen=Screen(width=60))).out.splitlines()[1:]
    shown = [line.split()[0] for line in lines]
    assert sum("…" in each for each in shown) == 2
    for each in shown:
        [run] = (await cli.json("info", each)).of("run")
        lines = (await cli("history", each, screen=Screen(width=60))).out.splitlines()
        assert run["run_id"].startswith(each.partition("…")[0])
        checkpoint_id = next(word for word in lines[1].split() if word.startswith("order"))
        assert (await cli.json("show", checkpoint_id, "--allow", "*")).of("checkpoint")[0]["run_id"] == run["run_id"]


async def test_a_beginning_of_several_says_so_also_where_it_is_marked(engine: Engine, cli: Cli) -> None:
    for name in ("order-1a", "order-1b"):
        await engine.storage().for_run(name).save(checkpoint(checkpoint_id=name))
    for name in ("order-1…", "order…"):
        assert "Several runs begin with" in (await cli("info", name, code=3)).err
    assert (await cli("info", "order…b")).out.startswith(f"run order-1b of {WORKFLOW}")
    assert "No run is called 'order…c'" in (await cli("info", "order…c", code=3)).err
    assert "No run" in (await cli("info", "…", code=3)).err


# Pipes, colours


async def test_a_pipe_has_every_column_whole_and_times_as_they_are_stored(engine: Engine, cli: Cli) -> None:
    name = "order-2026-11-27-tenant-000001-and-a-long-name"
    await order_run(engine, name, steps=2)
    head, row = (await cli("runs")).out.splitlines()
    assert head.split()[:4] == ["run", "workflow", "status", "events"]
    assert head.endswith("last written         actor  waits for")
    assert row.startswith(f"{name}  ")
    stored = (await cli.json("runs")).of("run")[0]["recorded_at"]
    assert stored[:19].replace("T", " ") in row
    assert f"{stored[:19].replace('T', ' ')}Z" in (await cli("runs", "--utc")).out
    wide = (await cli("runs", "-o", "wide", screen=Screen(width=60))).out
    assert wide.splitlines() == [head, row]


async def test_on_a_terminal_times_are_told_from_now(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    later = datetime.now(UTC) + timedelta(hours=5, minutes=1)
    screen = Screen(width=80, now=lambda: later)
    for words in (
        ["runs"],
        ["history", "order-1"],
        ["info", "order-1"],
        ["tail", "--limit", "1"],
        ["show", "order-1@1"],
    ):
        assert "5 h ago" in (await cli(*words, screen=screen)).out
        assert "5 h ago" not in (await cli(*words, "--utc", screen=screen)).out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "now"), (1, "now"), (2, "2 s ago"), (-2, "in 2 s"), (119, "119 s ago"), (180, "3 min ago"), (-7_200, "in 2 h"),
     (172_800, "2 d ago"), (1_209_600, "2 w ago"), (10**9, "1653 w ago")],
)  # fmt: skip
def test_a_time_is_told_in_the_largest_unit_that_it_has_two_of(seconds: int, text: str) -> None:
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def test_what_is_no_time_is_shown_as_it_is_and_harmlessly() -> None:
    for text in ("", "yesterday\x1b[2J", "2026-99-99"):
        assert ago(text, NOW) == in_utc(text)
        assert ago(text, NOW).isprintable()
    assert in_utc("2026-11-27T14:00:00.123+02:00") == "2026-11-27 12:00:00Z"
    for text in ("2026-11-27T12:00:00.123+00:00", "20261127T120000Z", "2026-11-27T12:00", "2026-W48-5T12:00:00Z"):
        assert in_utc(text) == "2026-11-27 12:00:00Z", "however it is written"
    for text in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert in_utc(text) == text[:19].replace("T", " "), "no time in UTC"
        assert ago(text, NOW).isprintable()
    spans = [ago((NOW - timedelta(days=days)).isoformat(), NOW) for days in range(1, 30)]
    assert all(one != other or one.endswith("w ago") for one, other in pairwise(spans))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("colours", [False, True])
def test_a_row_fits_whatever_the_encoding_and_ids_are_shortened_where_it_has_a_mark_for_that(
    monkeypatch: pytest.MonkeyPatch, encoding: str, colours: bool
) -> None:
    written = BytesIO()
    monkeypatch.setattr("sys.stdout", TextIOWrapper(written, encoding=encoding))
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
    out = Output(screen=Screen(width=60))
    out.table(COLUMNS, [["order-2026-11-27-000001", "1", "waiting", "how many? " * 9, "shop"], *ROWS])
    out.brief("to be shortened " * 9)
    out.flush()
    lines = re.sub("\x1b[^m]*m", "", written.getvalue().decode(encoding)).splitlines()
    assert len(lines) == 5
    assert all(cell_len(line) <= 60 for line in lines)
    mark = "…" if encoding in ("utf-8", "cp1252") else "~"
    assert lines[-1].endswith(mark)
    assert "\\u2026" not in "".join(lines)
    assert (lines[1].split()[0] == "order-2026-11-27-000001") is (mark == "~")


async def test_a_terminal_that_says_that_it_has_no_width_is_given_all(
    engine: Engine, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    await order_run(engine, steps=1)
    for colours in ({}, {"FORCE_COLOR": "1"}):
        cli.env |= {"COLUMNS": "0", **colours}
        assert "order-1" in (await cli("runs")).out
    written = StringIO()
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", written)
    Output().table(COLUMNS[:1], [["order-1"]])
    assert "order-1" in written.getvalue()


async def test_colours_say_nothing_that_the_words_do_not(engine: Engine, cli: Cli) -> None:
    await order_run(engine, steps=1)
    await engine.storage().for_run("order-1", workflow_name=WORKFLOW).annotate(outcome="failed", hold=True)
    plain = (await cli("runs", screen=Screen(width=100))).out
    cli.env |= {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    coloured = (await cli("runs", screen=Screen(width=100))).out
    assert "\x1b[31mfailed (on hold)" in coloured
    assert "\x1b" not in plain
    assert "failed (on hold)" in plain
    cli.env |= {"NO_COLOR": "1"}
    assert "\x1b[31m" not in (await cli("runs", screen=Screen(width=100))).out
    assert "\x1b" not in (await cli.json("runs")).out
