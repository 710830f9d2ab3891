"""The files that every page brings along, as anybody without a browser can judge them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import eventckpt.web
from eventckpt.events import RunStatus
from eventckpt.text import count_text
from eventckpt.web.timeline import MARKS

STATIC = Path(eventckpt.web.__file__).parent / "static"
TEMPLATES = STATIC.with_name("templates")
MOST = 80_000  # bytes

KINDS: dict[str, Iterable[str]] = {
    "status-": get_args(RunStatus),
    "mark-": MARKS,
    "message-": ("user", "assistant", "system", "tool", "text", "thought", "call", "result", "other"),
    "node-": ("checkpoint", "deleted", "elsewhere", "several", "run"),
    "": ("added", "removed", "changed"),
}
"""What a template puts behind the beginning of a class, or for all of one."""
PLAIN = {
    "message-assistant",
    "message-other",
    "message-text",
    "node-checkpoint",
    "status-idle",
    "status-open",
}
"""Classes of kinds that look like what they are a kind of."""


def test_what_a_browser_loads_once_is_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.glob("*.*") if file.suffix in (".css", ".js")) <= MOST


def test_the_stylesheet_asks_for_nothing_else() -> None:
    styles = (STATIC / "style.css").read_text(encoding="utf-8")
    assert re.findall(r"url\(|@import|@font-face|expression\(", styles) == []


def test_every_colour_of_the_stylesheet_is_told_for_light_and_for_dark() -> None:
    styles = (STATIC / "style.css").read_text(encoding="utf-8")
    print_only = styles[styles.index("@media print") :]
    told = re.findall(r"light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", styles)
    assert len(re.findall(r"#[0-9a-f]{3,6}\b", styles.replace(print_only, ""))) == 2 * len(told) > 30


def test_every_class_of_a_page_has_a_look_and_every_look_is_of_a_class() -> None:
    styles = re.sub(r"/\*.*?\*/", "", (STATIC / "style.css").read_text(encoding="utf-8"), flags=re.DOTALL)
    selectors = "".join(re.findall(r"([^{}]+)\{", styles))
    looks = set(re.findall(r"\.([a-z][\w-]*)", selectors))
    classes = {name for file in TEMPLATES.iterdir() for name in classes_in(file.read_text(encoding="utf-8"))}
    assert classes - looks == PLAIN
    assert looks <= classes


def classes_in(template: str) -> Iterable[str]:
    """What a template gives as classes, for each value that stands in one."""
    for given in re.findall(r'\bclass="([^"]*)"', template):
        for beginning, shown, plain in re.findall(r"([\w-]*){{(.*?)}}|([\w-]+)", given):
            either = [name for compared, name in re.findall(r"(== )?'([^']*)'", shown) if not compared]
            names = either or [beginning + kind for kind in KINDS[beginning]] if shown else [plain]
            yield from " ".join(names).split()


def test_so_many_of_something_are_counted_by_one_filter_that_knows_of_one() -> None:
    ours = {file.name: file.read_text(encoding="utf-8") for file in TEMPLATES.iterdir()}
    many = r"\|(?:thousands|length) }} (?:more |parked )*(?:[a-z]+s\b|{{ \")"
    assert {name: found for name, text in ours.items() if (found := re.findall(many, text))} == {}
    assert [count_text(number, noun) for number in (0, 1, 1_000) for noun in ("event", "more branch")] == [
        "0 events", "0 more branches", "1 event", "1 more branch", "1,000 events", "1,000 more branches",
    ]  # fmt: skip
