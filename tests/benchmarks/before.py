"""An earlier version of the packages, to be measured beside those of now: `make bench BASE=REVISION`."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["BASE", "FOLDER", "base_folder", "extracted"]

BASE: Final = "EVENTCKPT_BENCH_BASE"
"""The environment variable with the revision."""
FOLDER: Final = "EVENTCKPT_BENCH_BASE_FOLDER"
"""Where it was extracted to, for the processes of this run."""

_HERE = Path(__file__).parents[2]


@cache
def base_folder() -> Path | None:
    """The folder of the earlier version in this run, if there is one."""
    folder = os.environ.get(FOLDER)
    return Path(folder) if folder else None


@contextmanager
def extracted(revision: str) -> Iterator[Path]:
    """A folder with the packages of a revision and the tests of now, so that both are measured by the same code."""
    packages = subprocess.run(
        ["git", "archive", revision, "eventckpt", "projections"], cwd=_HERE, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(fileobj=io.BytesIO(packages)) as archive:
            archive.extractall(name, filter="data")
        Path(name, "tests").symlink_to(_HERE / "tests")
        yield Path(name)
