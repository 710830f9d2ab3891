"""Both programs, run in this process, and which of their commands only look."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import typer
from typer.testing import CliRunner

from eventckpt.audit import Draft
from eventckpt.cli import app as eventckpt
from eventckpt.location import ENVIRONMENT
from projections.worker import app as projector

from .conftest import ORDER, WORKFLOW, Printed

__all__ = ["CHANGING", "LOOKING", "PROGRAMS", "build", "called", "change_the_state"]

PROGRAMS: dict[str, typer.Typer] = {"eventckpt": eventckpt, "eventckpt-projector": projector}


def build() -> SimpleNamespace:
    """What tells a workflow of the graph that `order-1` was saved under, which is no graph that could be built."""
    return SimpleNamespace(name=WORKFLOW, graph_signature_hash="graph")


def change_the_state(draft: Draft) -> None:
    """A migration of `order-1`."""
    draft.fields["state"]["migrated"] = True


LOOKING: list[tuple[str, list[str]]] = [
    ("eventckpt", ["runs"]),
    ("eventckpt", ["runs", "--count"]),
    ("eventckpt", ["runs", "--latest", "projection"]),
    ("eventckpt", ["inbox"]),
    ("eventckpt", ["inbox", "-o", "wide", "--older-than", "1d"]),
    ("eventckpt", ["info", "order-1"]),
    ("eventckpt", ["history", "order-1"]),
    ("eventckpt", ["history", "order-1", "-o", "wide"]),
    ("eventckpt", ["show", "order-1@1"]),
    ("eventckpt", ["at", "order-1"]),
    ("eventckpt", ["lineage", "order-1"]),
    ("eventckpt", ["tail", "--limit", "1"]),
    ("eventckpt", ["tail", "--run", "order-1", "--limit", "1"]),
    ("eventckpt", ["diff", "order-1"]),
    ("eventckpt", ["diff", "order-1", "--seq", "1..2"]),
    ("eventckpt", ["changes", "order-1", "--path", "state.step"]),
    ("eventckpt", ["replay", "order-1"]),
    ("eventckpt", ["verify", "order-1"]),
    ("eventckpt", ["verify", "--all", "--decode"]),
    ("eventckpt", ["verify", "--all", "--projection"]),
    ("eventckpt", ["doctor"]),
    ("eventckpt", ["preflight", "--app", f"{__name__}:build", "--allow", ORDER]),
    ("eventckpt", ["migrate", "order-1", "--with", f"{__name__}:change_the_state", "--allow", ORDER]),
    ("eventckpt", ["export", "--all"]),
    ("eventckpt", ["prune", "--all", "--keep", "1"]),
    ("eventckpt", ["sessions"]),
    ("eventckpt", ["runs", "--turns"]),
    ("eventckpt", ["verify", "--all", "--turns", "--decode"]),
    ("eventckpt", ["doctor", "--turns"]),
    ("eventckpt", ["export", "--all", "--turns"]),
    ("eventckpt", ["prune", "--all", "--keep", "1", "--turns"]),
    ("eventckpt-projector", ["status"]),
    ("eventckpt-projector", ["status", "--turns"]),
    ("eventckpt-projector", ["compare", "--turns"]),
    ("eventckpt-projector", ["status", "--json"]),
    ("eventckpt-projector", ["compare"]),
]
"""Program and words of whatever changes nothing in a store that has a run `order-1` of two events or more."""

CHANGING: list[tuple[str, list[str]]] = [
    ("eventckpt", ["annotate", "order-1", "--outcome", "failed", "--tag", "customer=c-17"]),
    ("eventckpt", ["answer", "order-1", "q1", "--json", "true", "--app", f"{__name__}:build", "--allow", ORDER]),
    ("eventckpt", ["fork", "order-1@1", "--as", "another"]),
    ("eventckpt", ["prune", "--all", "--keep", "1", "--execute", "--yes"]),
    (
        "eventckpt",
        ["migrate", "order-1", "--with", f"{__name__}:change_the_state", "--allow", ORDER, "--execute"],
    ),
    ("eventckpt", ["doctor", "--write"]),
    ("eventckpt", ["prune", "--all", "--keep", "1", "--turns", "--execute", "--yes"]),
    ("eventckpt", ["doctor", "--turns", "--write"]),
    ("eventckpt-projector", ["rebuild"]),
    ("eventckpt-projector", ["unpark"]),
    ("eventckpt-projector", ["reset"]),
]
"""What changes a store that is there, and makes none."""


async def called(program: str, words: Sequence[str], environment: Mapping[str, str]) -> Printed:
    """What a command prints in an environment of these variables, and of no others that say where a store is."""
    env = dict.fromkeys(ENVIRONMENT) | dict(environment)
    result = await asyncio.to_thread(CliRunner().invoke, PROGRAMS[program], list(words), None, env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{program} {' '.join(words)} ends in a traceback") from result.exception
    return Printed(result.exit_code, result.stdout, result.stderr)
