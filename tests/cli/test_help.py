"""The help of each command: it fits a narrow terminal, and shows how the command is used."""

from __future__ import annotations

import shlex

import pytest
from typer.main import get_command

from eventckpt.cli import app
from eventckpt.cli.examples import EXAMPLES

from .programs import PROGRAMS, called

COMMANDS = [
    (program, each.name or getattr(each.callback, "__name__", ""))
    for program, of in PROGRAMS.items()
    for each in of.registered_commands
]


@pytest.mark.parametrize(("program", "name"), [*COMMANDS, *((program, "") for program in PROGRAMS)], ids="-".join)
async def test_help_fits_80_columns(program: str, name: str) -> None:
    printed = await called(program, [*([name] if name else []), "--help"], {"COLUMNS": "80"})
    assert printed.code == 0
    assert [line for line in printed.out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", [name for program, name in COMMANDS if program == "eventckpt"])
async def test_help_has_an_example_whose_words_the_command_takes(name: str) -> None:
    example = EXAMPLES[name]
    assert f"For example: eventckpt {example}" in " ".join(
        (await called("eventckpt", [name, "--help"], {})).out.split()
    )
    first, *words = shlex.split(example)
    assert first == name
    get_command(app).get_command(None, name).make_context(name, words)  # pyright: ignore


def test_every_example_is_of_a_command() -> None:
    assert set(EXAMPLES) == {name for program, name in COMMANDS if program == "eventckpt"}
