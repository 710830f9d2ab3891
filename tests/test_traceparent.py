"""The text that names a span: what is written is read again, and what is anything else names none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventckpt.traceparent import TraceParent, trace_id_in

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
BAD: dict[str, Any] = {
    "nothing": None,
    "empty": "",
    "a number": 7,
    "bytes": GOOD.encode(),
    "of a later version": f"01{GOOD[2:]}",
    "of no version": f"ff{GOOD[2:]}",
    "with more behind it": f"{GOOD}-more",
    "with a newline behind it": f"{GOOD}\n",
    "with a space before it": f" {GOOD}",
    "in capitals": GOOD.upper(),
    "in other digits": GOOD.replace("0", "٠"),
    "of no trace": f"00-{'0' * 32}-{SPAN}-01",
    "of no span": f"00-{TRACE}-{'0' * 16}-01",
    "too short": f"00-{TRACE[1:]}-{SPAN}-01",
    "without flags": f"00-{TRACE}-{SPAN}",
    "with a sign": f"00-+{TRACE[1:]}-{SPAN}-01",
    "with underscores": f"00-{TRACE[:15]}_{TRACE[16:]}-{SPAN}-01",
    "of control characters": "\x1b[2J",
    "very long": GOOD * 1_000,
}


def test_it_is_the_form_of_w3c() -> None:
    """The example of the recommendation."""
    assert TraceParent.parsed(GOOD) == (int(TRACE, 16), int(SPAN, 16), 1)
    assert trace_id_in(GOOD) == TRACE


@given(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), st.integers(0, 255))
def test_what_is_written_is_read_again(trace_id: int, span_id: int, flags: int) -> None:
    parent = TraceParent(trace_id, span_id, flags)
    assert TraceParent.parsed(str(parent)) == parent
    assert len(str(parent)) == 55
    assert int(trace_id_in(str(parent)) or "", 16) == trace_id


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_of_another_form_names_no_span(text: Any) -> None:
    assert TraceParent.parsed(text) is None
    assert trace_id_in(text) is None


@given(st.one_of(st.text(), st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")))
def test_whatever_names_a_span_is_written_so_again(text: str) -> None:
    parent = TraceParent.parsed(text)
    assert parent is None or str(parent) == text
