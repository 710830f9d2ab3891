"""Hosts in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


def served(host: str, kind: str, path: Path, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of a process that begins, serves these requests one after the other, and ends.

    Args:
        host: the module in this folder that serves.
        kind: what it serves.
        path: the file of its store; whatever else it keeps lies beside it.
        requests: as the module says.
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"from tests.hosts.{host} import main; main()", kind, str(path)],
        input=json.dumps(requests),
        env=os.environ | {"PYTHONPATH": str(ROOT), "AGENTSERVER_STATE_ROOT": f"{path}.state"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answers: list[dict[str, Any]] = json.loads(run.stdout)
    return answers
