"""The framework's own tests of workflows, and whether every checkpoint that they save would come back the same here.

    python -m tests.framework_tests PATH

where PATH is a checkout of the framework's public repository. Its tests run on the framework that is installed, so that
some of them fail if the two are not of one version. That is not what is looked at: the checkpoints are.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from agent_framework import CheckpointStorage, FileCheckpointStorage, InMemoryCheckpointStorage, InProcRunnerContext

from tests.round_trips import RoundTrips, watch

SUITES = ("core/tests/workflow", "orchestrations/tests")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.exit("Usage: python -m tests.framework_tests PATH, the path of a checkout of the framework's repository.")
    packages = Path(arguments[0]).resolve() / "python" / "packages"
    missing = [suite for suite in SUITES if not (packages / suite).is_dir()]
    if missing:
        sys.exit(f"{packages} has no {' and no '.join(missing)}: is this a checkout of the framework's repository?")
    watch(InMemoryCheckpointStorage, FileCheckpointStorage)
    _give_every_workflow_a_storage()
    with tempfile.TemporaryDirectory() as folder:
        trips = RoundTrips(Path(folder) / "seen", packages)
        _forget_our_tests()
        settings = ["-c", str(packages / "core" / "pyproject.toml"), "--rootdir", str(packages), "-o", "addopts="]
        output = ["-p", "no:cacheprovider", "-p", "no:warnings", "--quiet", "--tb=no", "-rN"]
        pytest.main([*settings, *output, *(str(packages / suite) for suite in SUITES)], plugins=[trips])
        return int(trips.failed())


def _give_every_workflow_a_storage() -> None:
    """Most of these tests give none, and nobody would see what their workflows send and ask."""
    made = InProcRunnerContext.__init__

    def with_a_storage(self: InProcRunnerContext, checkpoint_storage: CheckpointStorage | None = None) -> None:
        made(self, checkpoint_storage or InMemoryCheckpointStorage())

    InProcRunnerContext.__init__ = with_a_storage


def _forget_our_tests() -> None:
    """Theirs are a package of the same name."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
