"""The adapters to the framework's hosts: their types and their tests, beside the packages of these hosts.

    python -m tests.host_packages

They bring much along, prereleases and other versions of what the suite has among it. So they have a virtual environment
of their own, and in that of `make test` the tests of `tests/hosts` are left out, and the page of the hosts is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from .environments import ROOT, made

ENVIRONMENT = ROOT / ".venv-hosts"


def main() -> int:
    """Check the types, then run the tests; 1 if anything fails."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = made(ENVIRONMENT, sys.executable, *project["optional-dependencies"]["hosts-test"])
    commands: list[list[str | Path]] = [
        [python.with_name("pyright"), "--pythonpath", python, "eventckpt/hosts"],
        [python, "-m", "tests.typed", "eventckpt"],
        [python, "-m", "pytest", "tests/hosts"],
        [python, "-m", "pytest", "tests/test_docs.py", "-k", "hosts.md"],
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    failed = [each for each in commands if subprocess.run(each, cwd=ROOT, env=environment, check=False).returncode]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
