"""The round of `make test-adverse`: no test that the switches of its test server concern is left out."""

from __future__ import annotations

import ast
from pathlib import Path


def test_whoever_starts_a_server_of_its_own_says_how_it_is_switched() -> None:
    """By the fixture `switches`, which the round looks for, or by words of its own, which the round does not change."""
    silent: list[str] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        servers = [
            call
            for call in calls
            if isinstance(call.func, ast.Name) and call.func.id in ("CosmosEmulator", "cosmos_account")
        ]
        silent += [f"{path.name}:{call.lineno}" for call in servers if not _says_how(call)]
    assert silent == []


def _is_server(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in ("CosmosEmulator", "cosmos_account")


def _says_how(call: ast.Call) -> bool:
    return bool(call.args) or any(keyword.arg == "switches" for keyword in call.keywords)
