"""How tests read a page."""

from __future__ import annotations

import pytest

from .html import Form, Table, query_of, read

PAGE = """<!doctype html><title>Shop</title><h1>All <em>runs</em></h1>
<table><caption>Runs</caption>
<thead><tr><th scope="col">Run</th><th scope="col">Size</th></tr></thead>
<tbody><tr><th scope="row"><a href="/run?run=a%26b&amp;workflow=">a&amp;b</a></th><td>1
 KB</td></tr></tbody></table>
<table aria-label="Others"><tbody><tr><td>x<td-none></td-none></td></tr></tbody></table>
<form action="/runs?x=1"><label for="s">Status</label>
<select id="s" name="status"><option value="">any</option><option selected>done</option></select>
<input name="tag" value="&lt;b&gt;"><input type="checkbox" name="all"><textarea name="why">a
b</textarea><button>Go</button></form>
<script src="/x.js"></script><p class="note muted" id="said">Left<br>out</p><svg><rect width="1"/></svg>"""


def test_tables_links_forms_and_texts_of_a_page_are_read() -> None:
    page = read(PAGE)
    assert page.title == "All runs"
    assert page.table("Runs") == Table(["Run", "Size"], [["a&b", "1 KB"]])
    assert page.table("Runs").records() == [{"Run": "a&b", "Size": "1 KB"}]
    assert page.table("Others") == Table([], [["x"]])
    assert {name: query_of(link) for name, link in page.links().items()} == {"a&b": {"run": "a&b", "workflow": ""}}
    assert page.form("/runs") == Form("/runs?x=1", "get", {"status": "done", "tag": "<b>", "why": "a\nb"})
    assert page.by_id("said").text == page.one("p", class_="note").text == "Left out"
    assert [bar.attributes for bar in page.all("rect")] == [{"width": "1"}]


@pytest.mark.parametrize(
    "broken",
    ["<p>", "</p>", "<p><b></p></b>", '<p id="a" id="b"></p>', '<pre aria-label="a"></pre>'],
    ids=["not closed", "not open", "crossed", "an attribute twice", "a name that nobody is told"],
)
def test_a_page_that_a_browser_would_have_to_mend_or_to_pass_over_is_refused(broken: str) -> None:
    with pytest.raises(AssertionError):
        read(broken)


def test_one_is_the_only_one_and_a_table_that_is_not_there_is_said() -> None:
    page = read(PAGE)
    with pytest.raises(AssertionError, match="tables 'None such'"):
        page.table("None such")
    with pytest.raises(AssertionError, match="2 of"):
        page.one("table")
