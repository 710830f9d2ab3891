"""docs/projector.md agrees with the code."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

from projections import ProcessorOptions

TEXT = (Path(__file__).parent.parent.parent / "docs" / "projector.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert section is not None
    return [line.split("|")[1:-1] for line in re.findall(r"^\|.*\|$", section[1], flags=re.MULTILINE)[2:]]


def test_the_options_are_those_of_the_code() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ProcessorOptions) if field.name != "worker"}
    named = {re.findall(r"`(\w+)`", row[0])[0]: re.findall(r"`(.+?)`", row[1]) for row in rows("Options")}
    assert named.pop("worker") == []
    assert {name: ast.literal_eval(default) for name, [default] in named.items()} == defaults
