"""The page of all runs: which there are, and how each stands; and the one that counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from markupsafe import Markup

from ...audit import Filter, Listed
from ...events import RunInfo
from ...exit_codes import USAGE, Failure
from ...rendering.cursor import runs_listing, token_of
from ...rendering.fields import count_fields, run_fields
from ...rendering.filters import STATUSES, filter_of
from ...rendering.words import said_text, status_of_run, waits_text
from ...text import cell
from ..page import Line, Page
from ..query import OF_RUNS, Query
from ..room import page_of
from ..templates import Cells, Html, address, filled, html_of, query_html, size_text, time_html
from ..viewer import Viewer

__all__ = ["counts", "runs"]

_PAGE: Final = 50
_COUNTED: Final = 1_000  # runs that are looked at where no index counts them
_LONGEST_NAME: Final = 255  # characters of each name of a run that can be written
_LONGEST_ADDRESS: Final = 16_000  # characters of what a page is asked for, which each of its links repeats

_LINK: Final = '<a href="%s?run=%s&amp;workflow=%s">%s</a>'
_ROW: Final = """\
<tr>
<td class="id">%s</td>
<td class="id">%s</td>
<td><span class="status status-%s">%s</span>%s</td>
<td class="num">%s</td>
<td class="num">%s</td>
<td>%s</td>
<td>%s</td>
<td>%s</td>
</tr>
"""


def _rows(infos: Sequence[RunInfo], at: Callable[..., str], now: datetime) -> Markup:
    """Their rows, once the page is written: `at` gives addresses below where the viewer is mounted."""
    cells, page = Cells(), html_of(at("/run"))
    return Markup("".join([_row(info, cells, page, now) for info in infos]))  # noqa: S704 - each is Html


def _row(info: RunInfo, cells: Cells, page: Html, now: datetime) -> Html:
    run, workflow, status = info.run_id, info.workflow_name, status_of_run(info)
    name = cells[run]
    if len(run) <= _LONGEST_NAME and len(workflow) <= _LONGEST_NAME:  # else its address would be of any length
        name = filled(_LINK, page, query_html(run), query_html(workflow), name)
    said = cell(said_text(info, status))  # which begins with the status
    return filled(
        _ROW,
        name,
        cells[workflow],
        cells[status],
        cells[status],
        cells[said[len(status) :]],
        cells[f"{info.iteration_count:,}"],
        cells[size_text(info.stored_size)],
        time_html(info.recorded_at, now),
        cells[info.actor or ""],
        cells[waits_text(info)],
    )


async def runs(viewer: Viewer, asked: Query) -> Page:
    """Runs that fit, the last written to first: a page of what `eventckpt runs` lists."""
    listing = runs_listing(viewer.audit.latest)
    given, which = _asked(asked)
    limit, behind = asked.number("limit", _PAGE, most=_PAGE), asked.place(listing, Listed)
    found, has_more = await page_of(viewer.audit.runs(which, after=behind), limit)
    more = token_of(listing, Listed.of(found[-1])) if has_more else None

    def lines() -> Iterator[Line]:
        yield from (("run", run_fields(info)) for info in found)
        if more is not None:
            yield "more", {"after": more}

    values = {
        "rows": partial(_rows, found) if found else None,
        "more": more,
        "after": asked.text("after"),
        "limit": asked.text("limit"),
        "live": asked.text("live"),
        **await _shown(viewer, given),
    }
    return Page("runs.html", "Runs", values, lines)


async def counts(viewer: Viewer, asked: Query) -> Page:
    """How many of the runs that fit stand how: what `eventckpt runs --count` says."""
    given, which = _asked(asked)
    counted = await viewer.audit.counts(which, most=_COUNTED)

    def lines() -> Iterator[Line]:
        yield "count", count_fields(counted)

    known = {status: counted.runs[status] for status in STATUSES if status in counted.runs}
    values = {"counted": counted, "statuses": known, **await _shown(viewer, given)}
    return Page("counts.html", "Runs by status", values, lines if counted.of_newest is None else None)


def _asked(asked: Query) -> tuple[dict[str, Any], Filter]:
    """The filters that were given, as the address has them, and what they stand for.

    Raises:
        Failure: one is not of its form; or they are too long together.
    """
    once = {name: asked.text(name) for name in OF_RUNS}
    given: dict[str, Any] = {**once, "tag": asked.texts("tag") or None}
    if len(address("", **given)) > _LONGEST_ADDRESS:
        raise Failure(USAGE, f"The filters take up to {_LONGEST_ADDRESS:,} characters of an address, all together.")
    which = filter_of(
        workflow=once["workflow"],
        status=once["status"],
        tags=asked.texts("tag"),
        since=once["since"],
        until=once["until"],
        pending=once["pending"] is not None,
        request=once["request"],
        actor=once["actor"],
        option="",
    )
    return given, which


async def _shown(viewer: Viewer, given: Mapping[str, Any]) -> dict[str, Any]:
    """What both pages show of the filters, and of where the runs are listed from."""
    is_filtered = any(value is not None for value in given.values())
    return {"given": given, "is_filtered": is_filtered, "all_statuses": STATUSES, "late": await viewer.lateness()}
