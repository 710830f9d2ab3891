"""An earlier version of the packages, to be measured beside those of now: `make bench BASE=REVISION`."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["base_folder", "extracted"]

_FOLDER: Final = "EVENTCKPT_BENCH_BEFORE"
"""The environment variable with the folder of the earlier version, for the processes of a run."""
_HERE = Path(__file__).parents[2]


def base_folder() -> Path | None:
    """The folder of the earlier version in this run, if there is one."""
    folder = os.environ.get(_FOLDER)
    return Path(folder) if folder else None


@contextmanager
def extracted(revision: str) -> Iterator[Path]:
    """Have a folder with the packages of a revision and the tests of now, so that one code measures both."""
    packages = subprocess.run(
        ["git", "archive", revision, "eventckpt", "projections"], cwd=_HERE, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(fileobj=io.BytesIO(packages)) as archive:
            archive.extractall(name, filter="data")
        Path(name, "tests").symlink_to(_HERE / "tests")
        os.environ[_FOLDER] = name
        try:
            yield Path(name)
        finally:
            del os.environ[_FOLDER]
