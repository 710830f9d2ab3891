"""The fast part of the suite, on other versions of the framework than the one that is installed here.

The framework releases every week or so, and what a checkpoint holds are its classes. So the oldest version that
`pyproject.toml` admits and the newest that the index has are met in every run of CI, each in a virtual environment of
its own, with the orchestrations and the Cosmos store that pip resolves for it:

    python -m tests.framework_versions                  # the oldest and the newest
    python -m tests.framework_versions 1.20.0 1.21.0    # these
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

from .environments import install, made

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-framework"
CORE = "agent-framework-core"

FAST = (
    "test_allowlist*.py",
    "test_records.py",
    "codec/test_*.py",
    "history/test_session_st*.py",
    "storage/test_orchestrations.py",
    "storage/test_storage.py",
    "storage/test_conflicts.py",
    "storage/test_saved_again.py",
    "storage/test_refusals.py",
    "storage/test_*workflow*.py",
    "history/test_*provider*.py",
    "history/test_run_persistence_gate.py",
    "history/test_faults.py",
    "history/test_going_back.py",
    "answers/test_agents.py",
    "answers/test_answering.py",
    "answers/test_responses.py",
)
"""What meets the framework: its types and internals (allow-list, codec), its protocols (storage, sessions, history),
its runs (workflows, orchestrations, agents), and how these ask and are answered. The rest of the suite sees checkpoints
as bytes, which no version of the framework changes."""


def main(arguments: list[str] | None = None) -> int:
    """Run the fast part on each version; 1 if it fails on any."""
    parser = argparse.ArgumentParser(prog="python -m tests.framework_versions", description=__doc__.partition("\n")[0])
    parser.add_argument("versions", nargs="*", help="default: the oldest of pyproject.toml, the newest of the index")
    parser.add_argument(
        "--not-installed", action="store_true", help="leave out the version that runs this: `make test` is for that one"
    )
    options = parser.parse_args(arguments)
    versions = list(dict.fromkeys(map(released, requirements(options.versions))))
    if options.not_installed:
        versions = [each for each in versions if each != version(CORE)]
    failed = [each for each in versions if not passes(each)]
    if failed:
        print(f"The suite fails on {CORE} {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def requirements(versions: Iterable[str]) -> list[str]:
    """What to ask the index for: these versions, or both ends of the range in `pyproject.toml`."""
    if versions:
        return [f"{CORE}=={each}" for each in versions]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [core] = [each for each in map(Requirement, declared) if each.name == CORE]
    [oldest] = [each.version for each in core.specifier if each.operator == ">="]
    return [f"{CORE}=={oldest}", str(core)]


def released(requirement: str) -> str:
    """The newest version on the index that meets a requirement."""
    report = install(sys.executable, "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", requirement)
    [found] = json.loads(report)["install"]
    return str(found["metadata"]["version"])


def passes(core: str) -> bool:
    """Whether the fast part passes on one version. Its closing line is the last that is printed."""
    print(f"\n{CORE} {core}", flush=True)
    run = subprocess.run(
        [environment(core), "-m", "pytest", *fast_part()],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    return run.returncode == 0


def fast_part() -> list[str]:
    """The files of it. A pattern that matches none is an error, lest a part be dropped with a file's name."""
    found = {pattern: sorted((ROOT / "tests").glob(pattern)) for pattern in FAST}
    missing = [pattern for pattern, paths in found.items() if not paths]
    if missing:
        sys.exit(f"There is no tests/{' and no tests/'.join(missing)}.")
    return [str(path.relative_to(ROOT)) for paths in found.values() for path in paths]


def environment(core: str) -> Path:
    """The Python of a virtual environment with this version."""
    return made(ENVIRONMENTS / core, sys.executable, f"{CORE}=={core}")


if __name__ == "__main__":
    sys.exit(main())
